// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reader of a stream as `std::io::Read` and `BufRead`.

use std::io::{self, BufRead, ErrorKind, Read, Write};

use netpoll_buffer::{BufStream, NotEnoughData};

use crate::support::{Answer, Sink, Source, reason, rest, text};

#[test]
fn read_returns_the_buffered_bytes_and_reads_the_stream_once_if_empty() {
    let mut stream = BufStream::new(Source::drip(b"abcdef", 4));
    let mut target = [0; 3];
    let mut read = || {
        let count = Read::read(&mut stream.reader(), &mut target).unwrap();
        (target[..count].to_vec(), stream.get_ref().offered.len())
    };
    assert_eq!(read(), (b"abc".to_vec(), 1));
    assert_eq!(read(), (b"d".to_vec(), 1));
    assert_eq!(read(), (b"ef".to_vec(), 2));
    assert_eq!(read(), (b"".to_vec(), 3));
    assert_eq!(stream.reader().read(&mut []).unwrap(), 0);
    assert_eq!(
        stream.get_ref().offered.len(),
        3,
        "an empty target reads nothing"
    );
}

#[test]
fn read_to_end_stops_at_the_end_of_the_stream() {
    let bytes = text(100_000);
    for each in [1, 1000, 5000, bytes.len()] {
        let mut stream = BufStream::new(Source::drip(&bytes, each)).max_frame(10);
        let mut all = stream.reader().read_vec(10).unwrap();
        stream.reader().read_to_end(&mut all).unwrap();
        assert!(all == bytes);
    }
    let mut text = String::new();
    let mut stream = BufStream::new(Source::interrupted(b"all of it"));
    stream.reader().read_to_string(&mut text).unwrap();
    assert_eq!(text, "all of it");
}

#[test]
fn bytes_written_through_the_traits_are_read_through_them() {
    let mut written = BufStream::new(Sink::default());
    written.writer().write_all(b"hello ").unwrap();
    written.writer().write_all(b"world").unwrap();
    written.flush().unwrap();
    let mut stream = BufStream::new(&written.get_ref().taken[..]);
    let mut target = [0; 1024];
    assert_eq!(stream.reader().read(&mut target).unwrap(), 11);
    assert_eq!(&target[..11], b"hello world");
}

#[test]
fn read_exact_of_more_than_arrives_consumes_nothing() {
    let mut stream = BufStream::new(Source::drip(b"abcdef", 4));
    let mut target = [7; 7];
    let mut reader = stream.reader();
    let refused = Read::read_exact(&mut reader, &mut target);
    let short: NotEnoughData = reason(refused, ErrorKind::UnexpectedEof);
    assert_eq!((short, target), (NotEnoughData::new(6, 7), [7; 7]));
    assert_eq!(rest(&mut reader), b"abcdef");
}

#[test]
fn fill_buf_copies_nothing_and_is_empty_only_at_the_end() {
    let mut stream = BufStream::new(Source::drip(b"abcdef", 4));
    let mut reader = stream.reader();
    let there = reader.peek(1).unwrap().as_ptr();
    let filled = reader.fill_buf().unwrap();
    assert_eq!((filled, filled.as_ptr()), (&b"abcd"[..], there));
    reader.consume(3);
    assert_eq!(reader.fill_buf().unwrap(), b"d");
    reader.consume(usize::MAX);
    assert_eq!(reader.fill_buf().unwrap(), b"ef");
    reader.consume(2);
    assert_eq!(reader.fill_buf().unwrap(), b"");
}

#[test]
fn a_stream_error_is_returned_and_no_byte_is_lost() {
    let error = || Answer::Error(ErrorKind::TimedOut.into());
    let answers = [error(), error(), Answer::Bytes(b"abc".to_vec())];
    let mut stream = BufStream::new(Source::new(answers));
    let mut reader = stream.reader();
    let refused = Read::read(&mut reader, &mut [0; 3]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TimedOut);
    assert_eq!(reader.fill_buf().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(reader.fill_buf().unwrap(), b"abc");
}

#[test]
fn lines_and_copies_end_with_the_stream() {
    let bytes = text(47 * 100);
    let mut stream = BufStream::new(Source::drip(&bytes, 10));
    let lines: Vec<String> = stream.reader().lines().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 100);
    assert_eq!(lines[99].as_bytes(), &bytes[47 * 99..47 * 100 - 1]);

    let mut from = BufStream::new(Source::drip(&bytes, 10));
    let mut to = BufStream::new(Sink::default());
    let copied = io::copy(&mut from.reader(), to.writer()).unwrap();
    assert_eq!(copied, 4700);
    to.flush().unwrap();
    assert!(to.get_ref().taken == bytes);
}

#[test]
fn a_document_is_read_from_where_a_frame_begins() {
    let document: Vec<(String, u32)> = (0..500).map(|n| ("name".repeat(n % 9), n as u32)).collect();
    let mut stream = BufStream::new(Vec::new());
    stream.writer().put_u32(7);
    serde_json::to_writer(stream.writer(), &document).unwrap();
    stream.flush().unwrap();
    let mut stream = BufStream::new(Source::drip(stream.get_ref(), 100));
    let mut reader = stream.reader();
    assert_eq!(reader.read_u32().unwrap(), 7);
    let read: Vec<(String, u32)> = serde_json::from_reader(&mut reader).unwrap();
    assert_eq!(read, document);
}
