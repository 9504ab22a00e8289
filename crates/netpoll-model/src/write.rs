// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes to a buffer and its model.

use std::io;
use std::os::fd::AsFd;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Tail};

use crate::model::{Model, ModelBuffer};
use crate::op::{Number, WriteOp};

impl Model {
    pub(crate) fn write(&mut self, side: usize, write: &WriteOp) {
        let this = &mut self.buffers[side];
        match write {
            WriteOp::Put(data) => {
                let bytes = data.bytes();
                match std::str::from_utf8(&bytes) {
                    Ok(text) => this.buffer.put_str(text),
                    Err(_no_text) => this.buffer.put_slice(&bytes),
                }
                this.add(&bytes);
            }
            WriteOp::Push(data) => {
                let bytes = data.bytes();
                this.add(&bytes);
                this.buffer.push(Bytes::from(bytes));
            }
            WriteOp::Number(number, value) => {
                let bytes = number.put(&mut this.buffer, *value);
                this.add(&bytes);
            }
            WriteOp::Window(data) => push_window(this, &data.bytes()),
            WriteOp::Coalesce(data) => coalesce(this, &data.bytes()),
            WriteOp::FillTail(data) => {
                let tail = this.buffer.take_tail();
                let tail = tail.unwrap_or_else(|| filled(b"other").0);
                fill(this, tail, &data.bytes());
            }
            WriteOp::FillContiguous(n, data) => {
                let n = n.of(this.readable.len());
                let tail = this.buffer.take_contiguous_tail(n, n.min(100_000));
                assert!(tail.spare_capacity() > 0);
                fill(this, tail, &data.bytes());
            }
            WriteOp::Receive(limit) => self.receive(side, limit.0),
        }
    }

    /// Receives bytes, which are readable at once, before the uncommitted ones.
    fn receive(&mut self, side: usize, limit: usize) {
        let this = &mut self.buffers[side];
        let under_way = &mut self.in_transit[side];
        match this.buffer.fill_from(self.sockets[side].as_fd(), limit) {
            Ok(count) => {
                assert!(count <= limit);
                assert!(count > 0 || limit == 0);
                this.readable.extend(under_way.drain(..count));
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                assert!(under_way.is_empty());
            }
        }
    }
}

/// Returns a tail whose first 3 bytes are foreign to the test, followed by `bytes` as far as they
/// fit.
fn filled(bytes: &[u8]) -> (Tail, usize) {
    let mut tail = Tail::with_capacity(bytes.len() + 3);
    assert_eq!(tail.put(b"..."), 3);
    let count = tail.put(bytes);
    assert_eq!(count, bytes.len());
    (tail, count)
}

fn push_window(side: &mut ModelBuffer, bytes: &[u8]) {
    let (tail, count) = filled(bytes);
    let half = 3 + count / 2;
    side.buffer.push_segment(tail.window(3..half));
    side.buffer.push_segment(tail.window(half..usize::MAX));
    side.readable.extend(bytes);
}

fn coalesce(side: &mut ModelBuffer, bytes: &[u8]) {
    let (tail, _) = filled(bytes);
    let slices = side.buffer.segments().count();
    match side.buffer.coalesce(tail.window(3..usize::MAX)) {
        Ok(()) => {
            assert!(bytes.len() <= 256 && side.reservations.is_none());
            let now = side.buffer.segments().count();
            assert!(
                now == slices || now == slices + 1,
                "{slices} and then {now}"
            );
        }
        Err(window) => {
            assert!(window.as_slice() == bytes);
            side.buffer.push_segment(window);
        }
    }
    side.readable.extend(bytes);
}

/// Fills `tail` and appends it; its bytes are readable at once, before the uncommitted ones.
fn fill(side: &mut ModelBuffer, mut tail: Tail, bytes: &[u8]) {
    let filled = tail.fill_with(bytes.len(), |room| {
        let count = room.len();
        room.copy_from_slice(&bytes[..count]);
        Ok(count)
    });
    let count = filled.expect("a fill that succeeds");
    side.buffer.append_tail(tail, count);
    side.readable.extend(&bytes[..count]);
}

impl Number {
    /// Puts the lower bytes of `value`; returns them in the order of the buffer.
    fn put(self, buffer: &mut LinkBuffer, value: u64) -> Vec<u8> {
        let (le, be) = (value.to_le_bytes(), value.to_be_bytes());
        match self {
            Self::U8 => buffer.put_u8(value as u8),
            Self::U16 => buffer.put_u16(value as u16),
            Self::U16Le => buffer.put_u16_le(value as u16),
            Self::U32 => buffer.put_u32(value as u32),
            Self::U32Le => buffer.put_u32_le(value as u32),
            Self::U64 => buffer.put_u64(value),
            Self::U64Le => buffer.put_u64_le(value),
        }
        match self {
            Self::U8 => le[..1].to_vec(),
            Self::U16 => be[6..].to_vec(),
            Self::U16Le => le[..2].to_vec(),
            Self::U32 => be[4..].to_vec(),
            Self::U32Le => le[..4].to_vec(),
            Self::U64 => be.to_vec(),
            Self::U64Le => le.to_vec(),
        }
    }
}
