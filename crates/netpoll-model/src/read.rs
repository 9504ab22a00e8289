// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads from a buffer and its model.

use std::fmt::Debug;
use std::io;

use netpoll_buffer::{LinkBuffer, NotEnoughData, TooLarge};

use crate::model::{Model, ModelBuffer, expect_rejection};
use crate::op::{Number, ReadOp};

/// Asserts that a read returned the bytes of the queue, or failed if the queue has fewer.
#[track_caller]
fn assert_same_result<T: Debug + AsRef<[u8]>>(
    got: io::Result<T>,
    expected: Option<Vec<u8>>,
    short: NotEnoughData,
) -> Option<(T, Vec<u8>)> {
    if let Some(expected) = expected {
        let got = got.expect("enough bytes are readable");
        assert!(got.as_ref() == expected, "the bytes read differ");
        Some((got, expected))
    } else {
        let reason: NotEnoughData = expect_rejection(got, io::ErrorKind::UnexpectedEof);
        assert_eq!(reason, short);
        None
    }
}

impl Model {
    pub(crate) fn read(&mut self, side: usize, read: &ReadOp) {
        let side = &mut self.buffers[side];
        let there = side.readable.len();
        match read {
            ReadOp::Peek(amount) => {
                let n = amount.of(there);
                let expected = (n <= there).then(|| side.readable.make_contiguous()[..n].to_vec());
                let mut copy = vec![0; n.min(there + 10)];
                let copied = side.buffer.copy_to(0, &mut copy);
                assert_eq!(copied, n.min(there));
                assert!(side.readable.iter().take(copied).eq(&copy[..copied]));
                assert_same_result(side.buffer.peek(n), expected, NotEnoughData::new(there, n));
            }
            ReadOp::Next(amount) => {
                let n = amount.of(there);
                let expected = side.take(n);
                assert_same_result(side.buffer.next(n), expected, NotEnoughData::new(there, n));
            }
            ReadOp::Skip(amount) => {
                let n = amount.of(there);
                let skipped = side.buffer.skip(n).map(|()| Vec::new());
                let expected = side.take(n).map(|_skipped| Vec::new());
                assert_same_result(skipped, expected, NotEnoughData::new(there, n));
            }
            ReadOp::Exact(amount) => {
                let n = amount.of(there).min(there + 1000);
                let mut target = vec![0; n];
                let got = side.buffer.read_exact(&mut target).map(|()| target);
                assert_same_result(got, side.take(n), NotEnoughData::new(there, n));
            }
            ReadOp::Vec(amount) => {
                let n = amount.of(there);
                let got = side.buffer.read_vec(n);
                assert_same_result(got, side.take(n), NotEnoughData::new(there, n));
            }
            ReadOp::Slice(amount) => {
                let n = amount.of(there);
                let got = side.buffer.slice(n);
                let kept = assert_same_result(got, side.take(n), NotEnoughData::new(there, n));
                self.slices.extend(kept);
            }
            ReadOp::SplitTo(amount) => {
                let n = amount.of(there);
                match (side.buffer.split_to(n), side.take(n)) {
                    (Ok(part), Some(expected)) => self.parts.push((part, expected)),
                    (got, expected) => {
                        assert!(expected.is_none());
                        let reason: NotEnoughData =
                            expect_rejection(got, io::ErrorKind::UnexpectedEof);
                        assert_eq!(reason, NotEnoughData::new(there, n));
                    }
                }
            }
            ReadOp::Text(amount) => read_text(side, amount.of(there)),
            ReadOp::Number(number) => read_number(side, *number),
            ReadOp::Until(byte, max) => read_until(side, *byte, max.of(there)),
            ReadOp::Position(byte, from, max) => {
                check_positions(side, *byte, from.of(there), max.of(there));
            }
        }
    }
}

fn position(side: &ModelBuffer, byte: u8, from: usize, max: usize) -> Option<usize> {
    (from..max.min(side.readable.len())).find(|&at| side.readable[at] == byte)
}

/// Asserts that searches for a byte, and for the bytes before `max`, agree with a plain search.
fn check_positions(side: &mut ModelBuffer, byte: u8, from: usize, max: usize) {
    let found = side.buffer.position_of(byte, from, max);
    assert_eq!(found, position(side, byte, from, max));
    let all: &[u8] = side.readable.make_contiguous();
    let end = max.min(all.len());
    for length in [1, 2, 9] {
        let wanted = &all[end.saturating_sub(length)..end];
        let mut places = from..=end.saturating_sub(wanted.len());
        let plain = places.find(|&at| all[at..].starts_with(wanted));
        let found = side.buffer.position_of_slice(wanted, from, max);
        assert_eq!(found, plain);
    }
}

fn read_until(side: &mut ModelBuffer, byte: u8, max: usize) {
    let there = side.readable.len();
    if let Some(at) = position(side, byte, 0, max) {
        let expected = side.take(at + 1);
        assert_same_result(
            side.buffer.until(byte, max),
            expected,
            NotEnoughData::new(0, 0),
        );
    } else if there >= max {
        let reason: TooLarge =
            expect_rejection(side.buffer.until(byte, max), io::ErrorKind::InvalidData);
        assert_eq!(reason, TooLarge::new(max, max + 1));
    } else {
        let short = NotEnoughData::new(there, there + 1);
        assert_same_result(side.buffer.until(byte, max), None, short);
    }
}

fn read_text(side: &mut ModelBuffer, n: usize) {
    let there = side.readable.len();
    let text = (n <= there)
        .then(|| std::str::from_utf8(&side.readable.make_contiguous()[..n]).map(str::to_owned));
    let got = side.buffer.read_string(n);
    match text {
        Some(Err(_not_text)) => {
            assert_eq!(
                got.expect_err("an error: not text").kind(),
                io::ErrorKind::InvalidData
            );
        }
        _ => {
            assert_same_result(got, side.take(n), NotEnoughData::new(there, n));
        }
    }
}

fn read_number(side: &mut ModelBuffer, number: Number) {
    let there = side.readable.len();
    let (size, got) = number.read(&mut side.buffer);
    let expected = side.take(size);
    assert_same_result(got, expected, NotEnoughData::new(there, size));
}

impl Number {
    /// Reads the number; returns its size, and its bytes as they were in the buffer.
    fn read(self, buffer: &mut LinkBuffer) -> (usize, io::Result<Vec<u8>>) {
        match self {
            Self::U8 => (1, buffer.read_u8().map(|n| vec![n])),
            Self::U16 => (2, buffer.read_u16().map(|n| n.to_be_bytes().to_vec())),
            Self::U16Le => (2, buffer.read_u16_le().map(|n| n.to_le_bytes().to_vec())),
            Self::U32 => (4, buffer.read_u32().map(|n| n.to_be_bytes().to_vec())),
            Self::U32Le => (4, buffer.read_u32_le().map(|n| n.to_le_bytes().to_vec())),
            Self::U64 => (8, buffer.read_u64().map(|n| n.to_be_bytes().to_vec())),
            Self::U64Le => (8, buffer.read_u64_le().map(|n| n.to_le_bytes().to_vec())),
        }
    }
}
