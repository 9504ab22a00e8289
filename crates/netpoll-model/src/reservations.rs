// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reservations: the model of uncommitted bytes, and the operations on them.

use std::io;

use bytes::Bytes;
use netpoll_buffer::{OutOfRange, Reservation, TooLarge};

use crate::model::{Model, ModelBuffer, expect_rejection};
use crate::op::ReservationOp;

/// The uncommitted bytes.
#[derive(Default)]
pub(crate) struct ModelReservations {
    bytes: Vec<ModelByte>,
    open: Vec<OpenReservation>,
}

#[derive(Clone, Copy)]
struct ModelByte {
    value: u8,
    /// The reservation that this byte belongs to, and its index there.
    reservation: Option<(u32, u32)>,
}

struct OpenReservation {
    key: Reservation,
    /// The bytes that were last written to it.
    bytes: Vec<u8>,
}

impl ModelReservations {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend(plain(bytes));
    }

    fn reserve(&mut self, key: Reservation, n: usize) {
        let hole = self.open.len() as u32;
        let bytes = vec![0; n];
        self.open.push(OpenReservation { key, bytes });
        self.bytes.extend((0..n as u32).map(|offset| ModelByte {
            value: 0,
            reservation: Some((hole, offset)),
        }));
    }

    fn fill(&mut self, which: usize, bytes: &[u8]) {
        for byte in &mut self.bytes {
            if let Some((hole, offset)) = byte.reservation
                && hole as usize == which
            {
                byte.value = bytes[offset as usize];
            }
        }
        self.open[which].bytes = bytes.to_vec();
    }
}

fn plain(bytes: &[u8]) -> impl Iterator<Item = ModelByte> {
    bytes.iter().map(|&value| ModelByte {
        value,
        reservation: None,
    })
}

impl ModelBuffer {
    /// Makes the first `k` uncommitted bytes readable; returns the reservations that end.
    pub(crate) fn end_reservations(&mut self, k: usize) -> Vec<Reservation> {
        let Some(open) = self.reservations.take() else {
            return Vec::new();
        };
        let committed = open.bytes.iter().take(k).map(|byte| byte.value);
        self.readable.extend(committed);
        open.open.into_iter().map(|hole| hole.key).collect()
    }
}

impl Model {
    pub(crate) fn reservation(&mut self, side: usize, open: &ReservationOp) {
        match open {
            ReservationOp::Reserve(n) => self.reserve(side, n.0),
            ReservationOp::ReserveBeyond(more) => {
                self.reserve(side, (1usize << 30).saturating_add(1).saturating_add(*more));
            }
            ReservationOp::Fill(which, byte) => self.fill_in(side, *which, *byte),
            ReservationOp::FillStale(which) => self.fill_stale(side, *which),
            ReservationOp::Insert(at, data) => {
                let at = at.of(self.buffers[side].uncommitted());
                self.insert(side, at, data.bytes());
            }
            ReservationOp::Commit(amount) => {
                let side = &mut self.buffers[side];
                let there = side.uncommitted();
                let k = amount.of(there);
                let result = side.buffer.commit(k);
                if k <= there {
                    result.expect("enough uncommitted bytes");
                    self.stale.extend(side.end_reservations(k));
                } else {
                    let range: OutOfRange = expect_rejection(result, io::ErrorKind::InvalidInput);
                    assert_eq!((range.uncommitted, range.asked), (there, k));
                }
            }
            ReservationOp::CommitAll => self.commit_all(side),
        }
    }

    pub(crate) fn commit_all(&mut self, side: usize) {
        self.buffers[side].buffer.commit_all();
        self.stale
            .extend(self.buffers[side].end_reservations(usize::MAX));
    }

    fn reserve(&mut self, side: usize, n: usize) {
        let side = &mut self.buffers[side];
        let result = side.buffer.reserve(n);
        if n > 1 << 30 {
            let large: TooLarge = expect_rejection(result, io::ErrorKind::InvalidData);
            assert_eq!(large, TooLarge::new(1 << 30, n));
        } else {
            let key = result.expect("room");
            let open = side.reservations.get_or_insert_default();
            open.reserve(key, n);
        }
    }

    fn fill_in(&mut self, side: usize, which: usize, byte: u8) {
        let [first, second] = &mut self.buffers;
        let (this, other) = if side == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let Some(open) = this
            .reservations
            .as_mut()
            .filter(|open| !open.open.is_empty())
        else {
            return;
        };
        let which = which % open.open.len();
        let hole = &open.open[which];
        let room = this.buffer.get_mut(&hole.key).expect("an open reservation");
        assert!(room == hole.bytes, "a reservation has unexpected bytes");
        let bytes: Vec<u8> = (0..room.len())
            .map(|i| byte.wrapping_add(i as u8))
            .collect();
        room.copy_from_slice(&bytes);
        let elsewhere = other.buffer.get_mut(&hole.key).map(|room| room.len());
        let _range: OutOfRange = expect_rejection(elsewhere, io::ErrorKind::InvalidInput);
        open.fill(which, &bytes);
    }

    fn fill_stale(&mut self, side: usize, which: usize) {
        if self.stale.is_empty() {
            return;
        }
        let key = &self.stale[which % self.stale.len()];
        let result = self.buffers[side].buffer.get_mut(key);
        let range: OutOfRange = expect_rejection(result, io::ErrorKind::InvalidInput);
        assert_eq!(range.uncommitted, self.buffers[side].uncommitted());
    }

    fn insert(&mut self, side: usize, at: usize, bytes: Vec<u8>) {
        let side = &mut self.buffers[side];
        let there = side.uncommitted();
        let result = side.buffer.insert(at, Bytes::from(bytes.clone()));
        if at > there {
            let range: OutOfRange = expect_rejection(result, io::ErrorKind::InvalidInput);
            assert_eq!((range.uncommitted, range.asked), (there, at));
            return;
        }
        result.expect("a position in range");
        match &mut side.reservations {
            Some(open) => drop(open.bytes.splice(at..at, plain(&bytes))),
            None => side.readable.extend(bytes),
        }
    }
}
