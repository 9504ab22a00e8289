// SPDX-License-Identifier: MIT OR Apache-2.0
//! A failed read, by an error of the stream or by its own arguments, loses no byte, and the next
//! one continues.

use std::io::{self, ErrorKind};
use std::panic::{self, AssertUnwindSafe};

use netpoll_buffer::{BufStream, NotEnoughData, TooLarge};

use crate::support::{Answer, METHODS, Source, in_own_pool, reason, rest, text};

const DEFAULT_MAX_FRAME: usize = 4 << 20;

#[test]
fn a_stream_error_is_returned_and_no_byte_is_lost() {
    let bytes = text(20);
    let kinds = [
        ErrorKind::WouldBlock,
        ErrorKind::TimedOut,
        ErrorKind::ConnectionReset,
        ErrorKind::UnexpectedEof,
        ErrorKind::Other,
    ];
    for method in METHODS {
        let need = method.need(10);
        for cut in 0..need {
            for kind in kinds {
                let source = Source::broken(&bytes, cut, Answer::Error(kind.into()));
                let mut stream = BufStream::new(source);
                let mut reader = stream.reader();
                let error = (method.over)(&mut reader, 10).unwrap_err();
                assert_eq!(error.kind(), kind, "{}", method.name);
                assert!(error.get_ref().is_none(), "the error is unchanged");
                assert_eq!(reader.available(), cut, "{}", method.name);
                (method.over)(&mut reader, 10).unwrap();
                let consumed = if method.name == "peek" { 0 } else { need };
                assert_eq!(rest(&mut reader), bytes[consumed..], "{}", method.name);
            }
        }
    }
}

#[test]
fn the_errno_of_the_stream_is_kept() {
    let eio = || Answer::Error(io::Error::from_raw_os_error(5));
    let mut stream = BufStream::new(Source::new([eio(), eio(), eio()]));
    let mut reader = stream.reader();
    let errors = [
        reader.wait(1).unwrap_err(),
        reader.until(b'\n', 10).unwrap_err(),
        reader.chunk().unwrap_err(),
    ];
    assert_eq!(errors.map(|error| error.raw_os_error()), [Some(5); 3]);
}

#[test]
fn a_line_and_a_chunk_continue_after_an_error() {
    let bytes = text(47);
    for cut in 0..47 {
        let failing = || Source::broken(&bytes, cut, Answer::Error(ErrorKind::TimedOut.into()));
        let mut stream = BufStream::new(failing());
        let mut reader = stream.reader();
        let error = reader.until(b'\n', 47).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(reader.available(), cut);
        assert_eq!(reader.until(b'\n', 47).unwrap(), bytes);

        let mut stream = BufStream::new(failing());
        let mut reader = stream.reader();
        if cut > 0 {
            assert_eq!(reader.chunk().unwrap().unwrap().len(), cut);
        }
        assert_eq!(reader.chunk().unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(rest(&mut reader), bytes[cut..]);
    }
}

#[test]
fn an_early_end_is_an_error_and_the_received_bytes_stay() {
    let bytes = text(20);
    for method in METHODS {
        let need = method.need(10);
        for cut in 0..need {
            let mut stream = BufStream::new(Source::broken(&bytes, cut, Answer::End));
            let mut reader = stream.reader();
            let refused = (method.over)(&mut reader, 10);
            let short: NotEnoughData = reason(refused, ErrorKind::UnexpectedEof);
            assert_eq!(short, NotEnoughData::new(cut, need), "{}", method.name);
            assert_eq!(reader.available(), cut, "{}", method.name);
            // The stream has grown meanwhile.
            (method.over)(&mut reader, 10).unwrap();
        }
    }
}

#[test]
fn a_read_count_above_the_offered_length_panics_and_the_received_bytes_stay() {
    let bytes = text(20);
    for more in [1, 1 << 20] {
        for cut in [0, 3] {
            let mut stream = BufStream::new(Source::broken(&bytes, cut, Answer::Lie(more)));
            let lied = panic::catch_unwind(AssertUnwindSafe(|| stream.reader().wait(10)));
            lied.unwrap_err();
            assert_eq!(stream.reader().available(), cut);
            assert_eq!(stream.reader().next(20).unwrap(), bytes);
        }
    }
}

#[test]
fn a_request_above_the_bound_is_rejected_before_any_read_or_allocation() {
    in_own_pool(|pool| {
        for method in METHODS.iter().filter(|method| method.fixed.is_none()) {
            for (bound, asked) in [(10, 11), (10, 1 << 20), (0, 1)] {
                let mut stream = BufStream::new(Source::drip(b"abc", 1)).max_frame(bound);
                let refused = (method.over)(&mut stream.reader(), asked);
                let large: TooLarge = reason(refused, ErrorKind::InvalidData);
                assert_eq!(large, TooLarge::new(bound, asked), "{}", method.name);
                assert!(stream.get_ref().offered.is_empty(), "{}", method.name);
            }
        }
        assert_eq!(pool.stats().peak, 0);
    });
}

#[test]
fn the_largest_length_is_rejected_or_allocates_for_the_received_bytes() {
    let methods = || {
        let by_length = METHODS.iter().filter(|method| method.fixed.is_none());
        by_length.filter(|method| method.name != "read_exact")
    };
    in_own_pool(|pool| {
        for method in methods() {
            for asked in [DEFAULT_MAX_FRAME + 1, usize::MAX] {
                let mut stream = BufStream::new(Source::drip(b"abc", 1));
                let refused = (method.over)(&mut stream.reader(), asked);
                let large: TooLarge = reason(refused, ErrorKind::InvalidData);
                assert_eq!(large, TooLarge::new(DEFAULT_MAX_FRAME, asked));
            }
        }
        assert_eq!(pool.stats().peak, 0);
        for method in methods() {
            let source = Source::drip(b"abc", 1);
            let mut stream = BufStream::new(source).max_frame(usize::MAX);
            let refused = (method.over)(&mut stream.reader(), usize::MAX);
            let short: NotEnoughData = reason(refused, ErrorKind::UnexpectedEof);
            assert_eq!(short, NotEnoughData::new(3, usize::MAX), "{}", method.name);
        }
        assert_eq!(pool.stats().peak, 4096);
    });
}

#[test]
fn a_frame_as_long_as_the_bound_is_read() {
    let bytes = text(DEFAULT_MAX_FRAME);
    let mut stream = BufStream::new(Source::drip(&bytes, bytes.len()));
    assert!(stream.reader().next(DEFAULT_MAX_FRAME).unwrap() == bytes);
}

#[test]
fn a_line_longer_than_its_limit_or_the_bound_is_too_large_in_any_read_pattern() {
    let bytes = text(47);
    for (max, bound) in [(46, 100), (100, 46), (46, 46), (0, 100), (usize::MAX, 46)] {
        for each in [1, 10, 47] {
            let source = Source::drip(&bytes, each);
            let mut stream = BufStream::new(source).max_frame(bound);
            let mut reader = stream.reader();
            let limit = max.min(bound);
            for _ in 0..2 {
                let large: TooLarge = reason(reader.until(b'\n', max), ErrorKind::InvalidData);
                assert_eq!(large, TooLarge::new(limit, limit + 1));
            }
            assert_eq!(rest(&mut reader), bytes);
        }
    }
}

#[test]
fn a_search_reads_no_further_than_its_limit_needs() {
    let mut stream = BufStream::new(Source::drip(&[b'x'; 100], 1));
    let _large: TooLarge = reason(stream.reader().until(b'\n', 5), ErrorKind::InvalidData);
    assert_eq!(stream.get_ref().offered.len(), 5);
}

#[test]
fn bytes_that_are_not_text_stay() {
    let mut stream = BufStream::new(Source::drip(b"good \xff bad", 1));
    let mut reader = stream.reader();
    let error = reader.read_string(10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.get_ref().unwrap().is::<std::str::Utf8Error>());
    assert_eq!(reader.read_string(5).unwrap(), "good ");
    assert_eq!(rest(&mut reader), b"\xff bad");
}
