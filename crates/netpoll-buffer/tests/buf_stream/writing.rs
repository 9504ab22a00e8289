// SPDX-License-Identifier: MIT OR Apache-2.0
//! A flush writes the put bytes in order and once, in any write sizes.

use std::io::{self, ErrorKind, Write};

use bytes::Bytes;
use netpoll_buffer::{BufStream, LinkBuffer, WriteOverrun};

use crate::support::{Sink, Take, contents, reason, text};

/// Returns a stream to `sink` with `bytes` put, `each` in a segment of its own.
fn put(sink: Sink, bytes: &[u8], each: usize) -> BufStream<Sink> {
    let mut stream = BufStream::new(sink);
    for piece in bytes.chunks(each) {
        stream.writer().push(Bytes::copy_from_slice(piece));
    }
    stream
}

#[test]
fn everything_is_written_in_order_in_any_write_sizes() {
    let bytes = text(1000);
    for each in [1, 7, 300, 1000] {
        for most in [1, 3, 64, 999, usize::MAX] {
            let takes = (0..1000).map(|_| Take::Most(most));
            let mut stream = put(Sink::new(takes), &bytes, each);
            stream.flush().unwrap();
            assert!(stream.writer().is_empty());
            assert!(stream.get_ref().taken == bytes);
            assert_eq!(stream.get_ref().flushes, [1000]);
        }
    }
}

#[test]
fn a_vectored_write_passes_up_to_64_segments_without_a_copy() {
    let pieces: Vec<Bytes> = (0..130).map(|n| Bytes::from(text(n + 1))).collect();
    let mut stream = BufStream::new(Sink::default());
    stream.writer().extend(pieces.iter().cloned());
    stream.flush().unwrap();
    let given = &stream.get_ref().given;
    let counts: Vec<usize> = given.iter().map(Vec::len).collect();
    assert_eq!(counts, [64, 64, 2]);
    let places: Vec<_> = pieces
        .iter()
        .map(|piece| (piece.as_ptr(), piece.len()))
        .collect();
    assert_eq!(given.concat(), places);
}

#[test]
fn a_sink_without_vectored_writes_receives_everything() {
    struct Plain(Vec<u8>);
    impl Write for Plain {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(&bytes[..bytes.len().min(3)])
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut stream = BufStream::new(Plain(Vec::new()));
    stream.writer().put_str("written ");
    stream.writer().push(Bytes::from_static(b"and pushed"));
    stream.flush().unwrap();
    assert_eq!(stream.get_ref().0, b"written and pushed");
}

#[test]
fn numbers_and_text_are_written_in_the_order_of_the_buffer() {
    let put = |out: &mut LinkBuffer| {
        out.put_u8(1);
        out.put_u16(2);
        out.put_u32_le(3);
        out.put_u64(4);
        out.put_str("five");
        write!(out, "{}", 6).unwrap();
    };
    let mut stream = BufStream::new(Sink::default());
    put(stream.writer());
    stream.flush().unwrap();
    let mut buffer = LinkBuffer::new();
    put(&mut buffer);
    assert_eq!(stream.get_ref().taken, contents(&buffer));
}

#[test]
fn only_a_flush_writes_and_a_drop_does_not() {
    let mut sink = Sink::default();
    let mut stream = BufStream::new(&mut sink);
    stream.writer().put_slice(&text(1 << 20));
    drop(stream);
    assert!(sink.given.is_empty());
    assert!(sink.flushes.is_empty());
}

#[test]
fn an_empty_flush_flushes_the_underlying_stream_only() {
    let mut stream = BufStream::new(Sink::default());
    stream.flush().unwrap();
    assert!(stream.get_ref().given.is_empty());
    assert_eq!(stream.get_ref().flushes, [0]);
}

#[test]
fn uncommitted_bytes_are_not_written() {
    let mut stream = BufStream::new(Sink::default());
    stream.writer().put_str("before ");
    let length = stream.writer().reserve(4).unwrap();
    stream.writer().put_str("body and more");
    stream.flush().unwrap();
    assert_eq!(stream.get_ref().taken, b"before ");
    let out = stream.writer();
    assert_eq!(out.uncommitted_len(), 17);
    out.get_mut(&length).unwrap().copy_from_slice(b"4:: ");
    out.insert(4, Bytes::from_static(b"the ")).unwrap();
    out.commit(12).unwrap();
    stream.flush().unwrap();
    assert_eq!(stream.get_ref().taken, b"before 4:: the body");
}

#[test]
fn a_failed_flush_keeps_the_unwritten_bytes_and_the_next_continues() {
    let bytes = text(1000);
    for each in [9, 1000] {
        for kind in [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Other] {
            let takes = [
                Take::Most(100),
                Take::Most(1),
                Take::Error(kind.into()),
                Take::Error(kind.into()),
                Take::Most(300),
            ];
            let mut stream = put(Sink::new(takes), &bytes, each);
            for _ in 0..2 {
                assert_eq!(stream.flush().unwrap_err().kind(), kind);
                assert_eq!(contents(stream.writer()), bytes[101..]);
                assert!(stream.get_ref().flushes.is_empty());
            }
            stream.writer().put_str("later");
            stream.flush().unwrap();
            assert_eq!(stream.get_ref().taken, [&bytes[..], b"later"].concat());
        }
    }
}

#[test]
fn the_errno_of_the_sink_is_kept() {
    let enospc = io::Error::from_raw_os_error(28);
    let mut stream = put(Sink::new([Take::Error(enospc)]), b"abc", 3);
    assert_eq!(stream.flush().unwrap_err().raw_os_error(), Some(28));
}

#[test]
fn an_interrupted_write_or_flush_is_repeated() {
    let signal = || Take::Error(ErrorKind::Interrupted.into());
    let takes = [signal(), signal(), Take::Most(3), signal()];
    let mut stream = put(Sink::new(takes), b"abcdef", 4);
    let signals = [ErrorKind::Interrupted.into(), ErrorKind::Interrupted.into()];
    stream.get_mut().flush_errors.extend(signals);
    stream.flush().unwrap();
    assert_eq!(stream.get_ref().taken, b"abcdef");
    assert_eq!(stream.get_ref().flushes, [6]);
}

#[test]
fn an_error_of_the_underlying_flush_is_returned_and_the_next_flush_retries() {
    let mut stream = put(Sink::default(), b"abc", 3);
    stream
        .get_mut()
        .flush_errors
        .push_back(ErrorKind::TimedOut.into());
    assert_eq!(stream.flush().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(stream.get_ref().flushes.is_empty());
    stream.flush().unwrap();
    assert_eq!(stream.get_ref().taken, b"abc", "once");
    assert_eq!(stream.get_ref().flushes, [3]);
}

#[test]
fn a_write_of_zero_bytes_is_an_error_and_the_rest_stays() {
    let takes = [Take::Most(2), Take::Most(0)];
    let mut stream = put(Sink::new(takes), b"abcdef", 3);
    assert_eq!(stream.flush().unwrap_err().kind(), ErrorKind::WriteZero);
    assert_eq!(contents(stream.writer()), b"cdef");
    stream.flush().unwrap();
    assert_eq!(stream.get_ref().taken, b"abcdef");
}

#[test]
fn a_write_count_above_the_given_length_is_an_error_and_the_rest_stays() {
    let bytes = text(100);
    for (each, given) in [(100, 98), (1, 64), (7, 98)] {
        for more in [1, 2, usize::MAX - 98] {
            let takes = [Take::Most(2), Take::Lie(more)];
            let mut stream = put(Sink::new(takes), &bytes, each);
            let claim: WriteOverrun = reason(stream.flush(), ErrorKind::Other);
            assert_eq!(claim, WriteOverrun::new(given, given + more));
            assert_eq!(contents(stream.writer()), bytes[2..]);
            stream.flush().unwrap();
            assert_eq!(stream.get_ref().taken, bytes);
        }
    }
}
