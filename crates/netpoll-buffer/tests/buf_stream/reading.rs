// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads over a stream return the bytes that a plain buffer returns, in any read pattern.

use std::io::{self, ErrorKind};

use netpoll_buffer::{BufStream, LinkBuffer, NotEnoughData, StreamReader};

use crate::support::{Answer, Ask, METHODS, Method, Source, contents, reason, rest, text};

/// Sources of the same bytes: all at once, in small reads of three sizes, with a signal before each
/// byte.
fn sources(bytes: &[u8]) -> [Source; 5] {
    [
        Source::drip(bytes, bytes.len()),
        Source::drip(bytes, 1),
        Source::drip(bytes, 3),
        Source::drip(bytes, 1000),
        Source::interrupted(bytes),
    ]
}

fn buffer(bytes: &[u8]) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    buffer.put_slice(bytes);
    buffer
}

/// Asserts that both results, or their errors, are the same.
#[track_caller]
fn assert_same(name: &str, over: io::Result<Vec<u8>>, plain: io::Result<Vec<u8>>) {
    match (over, plain) {
        (Ok(over), Ok(plain)) => assert!(over == plain, "{name}"),
        (over, plain) => {
            let kind = ErrorKind::UnexpectedEof;
            let over: NotEnoughData = reason(over, kind);
            assert_eq!(over, reason(plain, kind), "{name}");
        }
    }
}

#[test]
fn every_method_reads_and_leaves_the_same_bytes_as_a_buffer() {
    let bytes = text(100);
    for Method {
        name, over, plain, ..
    } in METHODS
    {
        for n in [0, 1, 5, 99, 100] {
            for source in sources(&bytes) {
                let mut stream = BufStream::new(source);
                let mut buffer = buffer(&bytes);
                assert_same(name, over(&mut stream.reader(), n), plain(&mut buffer, n));
                assert!(rest(&mut stream.reader()) == contents(&buffer), "{name}");
            }
        }
    }
}

#[test]
fn a_long_mixture_of_reads_equals_that_of_a_buffer() {
    let bytes = text(300_000);
    for each in [1, 7, 1000, 4096, 5000, bytes.len()] {
        let mut stream = BufStream::new(Source::drip(&bytes, each));
        let mut reader = stream.reader();
        let mut buffer = buffer(&bytes);
        let mut random = 1_u32;
        while !buffer.is_empty() {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let method = &METHODS[(random >> 16) as usize % METHODS.len()];
            let most = if random >> 28 == 0 { 20_000 } else { 50 };
            let n = (random >> 8) as usize % most;
            let over = (method.over)(&mut reader, n);
            assert_same(method.name, over, (method.plain)(&mut buffer, n));
            if method.need(n) > buffer.len() {
                break;
            }
        }
        assert!(rest(&mut reader) == contents(&buffer));
    }
}

#[test]
fn a_line_ends_with_its_delimiter_in_any_read_pattern() {
    let bytes = text(47 * 20);
    for source in sources(&bytes) {
        let mut stream = BufStream::new(source);
        let mut reader = stream.reader();
        for line in bytes.chunks(47) {
            assert_eq!(reader.until(b'\n', 47).unwrap(), line);
        }
        let short: NotEnoughData = reason(reader.until(b'\n', 47), ErrorKind::UnexpectedEof);
        assert_eq!(short, NotEnoughData::new(0, 1));
    }
}

#[test]
fn a_last_line_without_a_delimiter_is_short_by_one_and_stays() {
    for source in sources(b"no end") {
        let mut stream = BufStream::new(source);
        let mut reader = stream.reader();
        let short: NotEnoughData = reason(reader.until(b'\n', 7), ErrorKind::UnexpectedEof);
        assert_eq!(short, NotEnoughData::new(6, 7));
        assert_eq!(rest(&mut reader), b"no end");
    }
}

#[test]
fn chunk_returns_the_buffered_bytes_and_none_at_the_end() {
    let answers = [b"ab".to_vec(), b"c".to_vec()].map(Answer::Bytes);
    let mut stream = BufStream::new(Source::new(answers));
    let mut reader = stream.reader();
    assert_eq!(reader.peek(1).unwrap(), b"a");
    assert_eq!(contents(&reader.chunk().unwrap().unwrap()), b"ab");
    assert_eq!(contents(&reader.chunk().unwrap().unwrap()), b"c");
    for _ in 0..3 {
        assert!(reader.chunk().unwrap().is_none());
    }
    assert_eq!(stream.get_ref().offered.len(), 5, "one read each");
}

#[test]
fn buffered_bytes_are_read_without_a_stream_read() {
    let bytes = text(100);
    let mut stream = BufStream::new(Source::drip(&bytes, bytes.len()));
    let mut reader = stream.reader();
    assert_eq!(reader.available(), 0);
    reader.wait(1).unwrap();
    assert_eq!(reader.available(), 100, "all bytes of the stream");
    reader.wait(100).unwrap();
    assert_eq!(reader.peek(100).unwrap(), bytes);
    assert_eq!(reader.read_u8().unwrap(), bytes[0]);
    assert_eq!(reader.until(b'\n', 100).unwrap(), &bytes[1..47]);
    assert_eq!(reader.next(53).unwrap(), &bytes[47..]);
    assert_eq!(reader.next(0).unwrap(), b"");
    assert_eq!(stream.get_ref().offered.len(), 1);
}

#[test]
fn read_bytes_stay_borrowed_while_output_is_written() {
    let mut stream = BufStream::new(Source::drip(b"hello there", 2));
    let (mut reader, out) = stream.split();
    let first = reader.next(6).unwrap();
    out.put_slice(first);
    out.put_slice(first);
    out.put_slice(reader.next(5).unwrap());
    assert_eq!(contents(stream.writer()), b"hello hello there");
}

#[test]
fn a_slice_and_a_part_outlive_the_stream() {
    let bytes = text(3000);
    let mut stream = BufStream::new(Source::drip(&bytes, 500));
    let mut reader = stream.reader();
    let slice = reader.slice(1000).unwrap();
    let part = reader.split_to(1000).unwrap();
    assert_eq!(reader.next(1000).unwrap(), &bytes[2000..]);
    drop(stream);
    assert_eq!(slice, bytes[..1000]);
    assert_eq!(contents(&part), bytes[1000..2000]);
}

#[test]
fn an_endless_stream_is_read_as_far_as_requested() {
    let mut next = 0_u8;
    let mut stream = BufStream::new(Ask(|room: &mut [u8]| {
        for byte in &mut *room {
            *byte = next;
            next = next.wrapping_add(1);
        }
        Ok(room.len())
    }));
    let frame: Vec<u8> = (0..8192).map(|byte| byte as u8).collect();
    let mut reader = stream.reader();
    for _ in 0..2 {
        assert_eq!(reader.next(8192).unwrap(), frame);
        assert_eq!(reader.peek(8192).unwrap(), frame);
        reader.skip(8192).unwrap();
    }
}

#[test]
fn into_parts_loses_no_bytes() {
    let bytes = text(100);
    let mut stream = BufStream::new(Source::drip(&bytes, 60));
    stream.reader().skip(50).unwrap();
    stream.writer().put_str("unsent");
    stream.writer().reserve(1).unwrap();
    let (below, unread, unsent) = stream.into_parts();
    assert_eq!(contents(&unread), bytes[50..60]);
    assert_eq!(
        (contents(&unsent).as_slice(), unsent.uncommitted_len()),
        (&b"unsent"[..], 1)
    );
    assert_eq!(rest(&mut BufStream::new(below).reader()), bytes[60..]);
}

#[test]
fn a_reader_may_be_recreated_at_any_time() {
    let bytes = text(100);
    let mut stream = BufStream::new(Source::drip(&bytes, 7));
    for byte in &bytes {
        let mut reader: StreamReader<'_, Source> = stream.reader();
        assert_eq!(reader.read_u8().unwrap(), *byte);
    }
}
