// SPDX-License-Identifier: MIT OR Apache-2.0
//! A buffer as `std::io::Read`, `BufRead` and `Write`.

use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};

use netpoll_buffer::{LinkBuffer, NotEnoughData};

use crate::support::{SIZES, contents, cut, pattern, places, put, reason};

#[test]
fn read_returns_the_readable_bytes_and_then_the_end() {
    let bytes = pattern(1000);
    for (each, step) in [(1, 7), (7, 1), (64, 100), (1000, 2000)] {
        let mut buffer = cut(&bytes, each);
        let mut read = Vec::new();
        let mut room = vec![0xAA; step];
        loop {
            let count = Read::read(&mut buffer, &mut room).unwrap();
            assert_eq!(count, step.min(bytes.len() - read.len()));
            if count == 0 {
                break;
            }
            read.extend_from_slice(&room[..count]);
        }
        assert_eq!(read, bytes);
        assert_eq!(Read::read(&mut put(b"a"), &mut []).unwrap(), 0);
    }
}

#[test]
fn reading_into_several_targets_fills_them_in_turn() {
    let mut buffer = cut(&pattern(10), 3);
    let (mut one, mut none, mut other) = ([0; 4], [0; 0], [0; 9]);
    let mut targets = [
        IoSliceMut::new(&mut one),
        IoSliceMut::new(&mut none),
        IoSliceMut::new(&mut other),
    ];
    assert_eq!(buffer.read_vectored(&mut targets).unwrap(), 10);
    assert_eq!([&one[..], &other[..6]].concat(), pattern(10));
    assert_eq!(other[6..], [0; 3]);
    assert!(buffer.is_empty());
}

#[test]
fn read_exact_of_more_than_readable_consumes_nothing() {
    let mut buffer = cut(b"abcdef", 2);
    let mut target = [0; 7];
    let refused = Read::read_exact(&mut buffer, &mut target);
    let short: NotEnoughData = reason(refused, io::ErrorKind::UnexpectedEof);
    assert_eq!((short.have, short.need), (6, 7));
    Read::read_exact(&mut buffer, &mut target[..6]).unwrap();
    assert_eq!(&target, b"abcdef\0");
}

#[test]
fn read_to_end_appends_to_the_target() {
    for size in SIZES {
        let mut buffer = cut(&pattern(size), 5000);
        let mut target = b"before".to_vec();
        assert_eq!(buffer.read_to_end(&mut target).unwrap(), size);
        assert_eq!(target, [b"before", &pattern(size)[..]].concat());
        assert!(buffer.is_empty());
    }
}

#[test]
fn read_to_string_reads_all_text_or_consumes_nothing() {
    let text = "zwölf Boxkämpfer";
    let mut buffer = cut(text.as_bytes(), 1);
    let mut target = String::from("- ");
    assert_eq!(buffer.read_to_string(&mut target).unwrap(), text.len());
    assert_eq!(target, format!("- {text}"));

    let mut bad = cut(b"a\xFFb", 1);
    let error = bad.read_to_string(&mut target).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(contents(&bad), b"a\xFFb");
    assert_eq!(target, format!("- {text}"));
}

#[test]
fn fill_buf_copies_nothing() {
    let mut buffer = cut(&pattern(100), 40);
    let there = places(&buffer);
    for (first, length) in there {
        let shown = buffer.fill_buf().unwrap();
        assert_eq!((shown.as_ptr(), shown.len()), (first, length));
        buffer.consume(length);
    }
    assert_eq!(buffer.fill_buf().unwrap(), b"");
}

#[test]
fn consume_is_limited_to_the_readable_bytes() {
    let mut buffer = cut(&pattern(100), 40);
    buffer.consume(99);
    assert_eq!(contents(&buffer), [99]);
    buffer.consume(usize::MAX);
    assert!(buffer.is_empty());
    buffer.put_u8(1);
    assert_eq!(contents(&buffer), [1]);
}

#[test]
fn lines_are_read_across_segments() {
    let text = "one\ntwo\r\n\nthree";
    for each in 1..text.len() {
        let lines: Vec<String> = cut(text.as_bytes(), each)
            .lines()
            .map(Result::unwrap)
            .collect();
        assert_eq!(lines, ["one", "two", "", "three"]);
    }
}

#[test]
fn write_puts_all_bytes_and_flush_changes_nothing() {
    let mut buffer = LinkBuffer::new();
    let (one, other) = (pattern(70_000), pattern(3));
    assert_eq!(buffer.write(&one).unwrap(), one.len());
    let parts = [IoSlice::new(&other), IoSlice::new(&[]), IoSlice::new(&one)];
    assert_eq!(buffer.write_vectored(&parts).unwrap(), 70_003);
    write!(buffer, "x-{:03}", 7).unwrap();
    buffer.reserve(1).unwrap();
    buffer.write_all(b"later").unwrap();
    buffer.flush().unwrap();
    assert_eq!(buffer.uncommitted_len(), 6);
    assert_eq!(
        contents(&buffer),
        [&one[..], &other, &one, b"x-007"].concat()
    );
}

#[test]
fn io_copy_takes_everything() {
    let mut from = cut(&pattern(200_000), 999);
    let mut to = LinkBuffer::new();
    assert_eq!(io::copy(&mut from, &mut to).unwrap(), 200_000);
    assert_eq!(contents(&to), pattern(200_000));
}

#[test]
fn a_document_is_written_and_read_in_pieces() {
    let document: Vec<(String, u32)> = (0..500).map(|n| ("name".repeat(n % 9), n as u32)).collect();
    let mut buffer = LinkBuffer::new();
    serde_json::to_writer(&mut buffer, &document).unwrap();
    let written = contents(&buffer);
    for each in [1, 100, written.len()] {
        let read: Vec<(String, u32)> = serde_json::from_reader(cut(&written, each)).unwrap();
        assert_eq!(read, document);
    }
}
