// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two buffers with their models, the data taken from them, and the sockets between them.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Reservation};
use netpoll_sys::socket;

use crate::op::{ModelStep, Op, TransferOp};
use crate::reservations::ModelReservations;

/// A buffer and its expected contents.
#[derive(Default)]
pub(crate) struct ModelBuffer {
    pub(crate) buffer: LinkBuffer,
    pub(crate) readable: VecDeque<u8>,
    /// The uncommitted bytes, if a reservation is open.
    pub(crate) reservations: Option<ModelReservations>,
}

pub(crate) struct Model {
    pub(crate) buffers: [ModelBuffer; 2],
    /// Owned bytes that were read, and their expected contents.
    pub(crate) slices: Vec<(Bytes, Vec<u8>)>,
    /// Buffers that were split off, and their expected contents.
    pub(crate) parts: Vec<(LinkBuffer, Vec<u8>)>,
    /// Reservations that have ended.
    pub(crate) stale: Vec<Reservation>,
    /// Bytes that were sent to each side and are not received yet.
    pub(crate) in_transit: [VecDeque<u8>; 2],
    /// The socket of each side.
    pub(crate) sockets: [OwnedFd; 2],
}

impl ModelBuffer {
    pub(crate) fn uncommitted(&self) -> usize {
        self.reservations.as_ref().map_or(0, ModelReservations::len)
    }

    /// Adds put bytes, behind the uncommitted ones if a reservation is open.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        match &mut self.reservations {
            Some(open) => open.add(bytes),
            None => self.readable.extend(bytes),
        }
    }

    /// Consumes and returns the first `n` bytes, or `None` if there are fewer.
    pub(crate) fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        let bytes = self.readable.make_contiguous().get(..n)?.to_vec();
        self.readable.drain(..n);
        Some(bytes)
    }

    fn check(&mut self) {
        assert_eq!(self.buffer.len(), self.readable.len());
        assert_eq!(self.buffer.is_empty(), self.readable.is_empty());
        assert_eq!(self.buffer.uncommitted_len(), self.uncommitted());
        assert_contents(&self.buffer, self.readable.make_contiguous());
    }
}

/// Asserts that the readable bytes of `buffer` are `expected`, and that no segment is empty.
fn assert_contents(buffer: &LinkBuffer, expected: &[u8]) {
    let mut left = expected;
    for segment in buffer.segments() {
        assert!(!segment.is_empty());
        let (now, later) = left
            .split_at_checked(segment.len())
            .expect("at most the expected bytes");
        assert!(segment.as_slice() == now, "{buffer:?} has unexpected bytes");
        left = later;
    }
    assert!(left.is_empty(), "{} bytes are missing", left.len());
}

/// Asserts that `result` is an error of `kind` with an `E` as its reason, and returns the reason.
#[track_caller]
pub(crate) fn expect_rejection<T: Debug, E: Error + Copy + 'static>(
    result: io::Result<T>,
    kind: io::ErrorKind,
) -> E {
    let error = result.expect_err("an error");
    assert_eq!(error.kind(), kind);
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<E>());
    *reason.expect("a reason of this type")
}

impl Model {
    pub(crate) fn new() -> Self {
        let (one, two) = socket::pair().expect("a pair of sockets");
        Self {
            buffers: <[ModelBuffer; 2]>::default(),
            slices: Vec::new(),
            parts: Vec::new(),
            stale: Vec::new(),
            in_transit: <[VecDeque<u8>; 2]>::default(),
            sockets: [one, two],
        }
    }

    pub(crate) fn step(&mut self, step: &ModelStep) {
        let side = step.buffer.index();
        match &step.op {
            Op::Read(read) => self.read(side, read),
            Op::Write(write) => self.write(side, write),
            Op::Reservation(open) => self.reservation(side, open),
            Op::Transfer(moved) => self.transfer(side, moved),
            Op::Trait(foreign) => self.call_trait(side, foreign),
        }
    }

    pub(crate) fn check(&mut self) {
        self.buffers.iter_mut().for_each(ModelBuffer::check);
    }

    /// Asserts that data taken earlier is unchanged, and that uncommitted bytes are as expected.
    pub(crate) fn finish(mut self) {
        for (slice, expected) in &self.slices {
            assert!(slice == expected, "a slice has changed");
        }
        for (part, expected) in &self.parts {
            assert_contents(part, expected);
        }
        for side in [0, 1] {
            self.commit_all(side);
        }
        self.check();
        for side in &mut self.buffers {
            let all = side.readable.len();
            assert!(side.buffer.next(all).expect("all") == side.readable.make_contiguous());
        }
    }

    fn transfer(&mut self, side: usize, moved: &TransferOp) {
        match moved {
            TransferOp::Append => {
                let mut other = std::mem::take(&mut self.buffers[1 - side]);
                self.stale.extend(other.end_reservations(usize::MAX));
                self.buffers[side].buffer.append(other.buffer);
                self.buffers[side].add(other.readable.make_contiguous());
            }
            TransferOp::AppendPart(amount) => {
                let other = &mut self.buffers[1 - side];
                let n = amount.of(other.readable.len());
                let part = other.buffer.split_to(n);
                if let Some(expected) = other.take(n) {
                    let part = part.expect("enough bytes are readable");
                    self.buffers[side].buffer.append(part);
                    self.buffers[side].add(&expected);
                } else {
                    assert!(part.is_err());
                }
            }
            TransferOp::Prepend { to_other } => {
                let from = &mut self.buffers[side];
                let taken = from.buffer.take_readable();
                let mut expected = std::mem::take(&mut from.readable);
                assert!(from.buffer.is_empty());
                let to = &mut self.buffers[if *to_other { 1 - side } else { side }];
                to.buffer.prepend(taken);
                expected.append(&mut to.readable);
                to.readable = expected;
            }
            TransferOp::Release => self.buffers[side].buffer.release(),
            TransferOp::Compact => {
                self.buffers[side].buffer.compact();
                assert!(!self.buffers[side].buffer.should_compact());
            }
            TransferOp::Send => self.send(side),
            TransferOp::Drop => {
                let mut dropped = std::mem::take(&mut self.buffers[side]);
                self.stale.extend(dropped.end_reservations(0));
            }
        }
    }

    fn send(&mut self, side: usize) {
        let from = &mut self.buffers[side];
        let there = from.readable.len();
        let sent = match from.buffer.drain_to(self.sockets[side].as_fd()) {
            Ok(sent) => sent,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                assert!(there > 0 && !self.in_transit[1 - side].is_empty());
                return;
            }
        };
        assert!(sent > 0 || there == 0);
        let sent = from.take(sent).expect("at most the readable bytes");
        self.in_transit[1 - side].extend(sent);
    }
}
