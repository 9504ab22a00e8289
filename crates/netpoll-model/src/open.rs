// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room that is left open: the model of what is uncommitted, and the operations on it.

use std::io;

use bytes::Bytes;
use netpoll_buffer::{OutOfRange, Reserved, TooLarge};

use crate::op::Open;
use crate::world::{Side, World, refused};

/// What is uncommitted.
#[derive(Default)]
pub(crate) struct OpenBytes {
    bytes: Vec<OpenByte>,
    holes: Vec<Hole>,
}

#[derive(Clone, Copy)]
struct OpenByte {
    value: u8,
    /// Of which hole this is which byte.
    hole: Option<(u32, u32)>,
}

struct Hole {
    key: Reserved,
    /// What was last written to it.
    bytes: Vec<u8>,
}

impl OpenBytes {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend(plain(bytes));
    }

    fn reserve(&mut self, key: Reserved, n: usize) {
        let hole = self.holes.len() as u32;
        let bytes = vec![0; n];
        self.holes.push(Hole { key, bytes });
        self.bytes.extend((0..n as u32).map(|offset| OpenByte {
            value: 0,
            hole: Some((hole, offset)),
        }));
    }

    fn fill(&mut self, which: usize, bytes: &[u8]) {
        for byte in &mut self.bytes {
            if let Some((hole, offset)) = byte.hole
                && hole as usize == which
            {
                byte.value = bytes[offset as usize];
            }
        }
        self.holes[which].bytes = bytes.to_vec();
    }
}

fn plain(bytes: &[u8]) -> impl Iterator<Item = OpenByte> {
    bytes.iter().map(|&value| OpenByte { value, hole: None })
}

impl Side {
    /// The first `k` uncommitted bytes become readable; gives back the reservations that end.
    pub(crate) fn end_room(&mut self, k: usize) -> Vec<Reserved> {
        let Some(open) = self.open.take() else {
            return Vec::new();
        };
        let committed = open.bytes.iter().take(k).map(|byte| byte.value);
        self.readable.extend(committed);
        open.holes.into_iter().map(|hole| hole.key).collect()
    }
}

impl World {
    pub(crate) fn open(&mut self, side: usize, open: &Open) {
        match open {
            Open::Reserve(n) => self.reserve(side, n.0),
            Open::ReserveBeyond(more) => {
                self.reserve(side, (1usize << 30).saturating_add(1).saturating_add(*more));
            }
            Open::FillIn(which, byte) => self.fill_in(side, *which, *byte),
            Open::FillStale(which) => self.fill_stale(side, *which),
            Open::Insert(at, data) => {
                let at = at.of(self.sides[side].uncommitted());
                self.insert(side, at, data.bytes());
            }
            Open::Commit(amount) => {
                let side = &mut self.sides[side];
                let there = side.uncommitted();
                let k = amount.of(there);
                let result = side.buffer.commit(k);
                if k <= there {
                    result.expect("there are so many");
                    self.stale.extend(side.end_room(k));
                } else {
                    let range: OutOfRange = refused(result, io::ErrorKind::InvalidInput);
                    assert_eq!((range.uncommitted, range.asked), (there, k));
                }
            }
            Open::CommitAll => self.commit_all(side),
        }
    }

    pub(crate) fn commit_all(&mut self, side: usize) {
        self.sides[side].buffer.commit_all();
        self.stale.extend(self.sides[side].end_room(usize::MAX));
    }

    fn reserve(&mut self, side: usize, n: usize) {
        let side = &mut self.sides[side];
        let result = side.buffer.reserve(n);
        if n > 1 << 30 {
            let large: TooLarge = refused(result, io::ErrorKind::InvalidData);
            assert_eq!(large, TooLarge::new(1 << 30, n));
        } else {
            let key = result.expect("room");
            let open = side.open.get_or_insert_default();
            open.reserve(key, n);
        }
    }

    fn fill_in(&mut self, side: usize, which: usize, byte: u8) {
        let [first, second] = &mut self.sides;
        let (this, other) = if side == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let Some(open) = this.open.as_mut().filter(|open| !open.holes.is_empty()) else {
            return;
        };
        let which = which % open.holes.len();
        let hole = &open.holes[which];
        let room = this.buffer.get_mut(&hole.key).expect("it is open");
        assert!(room == hole.bytes, "a reservation has other bytes");
        let bytes: Vec<u8> = (0..room.len())
            .map(|i| byte.wrapping_add(i as u8))
            .collect();
        room.copy_from_slice(&bytes);
        let elsewhere = other.buffer.get_mut(&hole.key).map(|room| room.len());
        let _range: OutOfRange = refused(elsewhere, io::ErrorKind::InvalidInput);
        open.fill(which, &bytes);
    }

    fn fill_stale(&mut self, side: usize, which: usize) {
        if self.stale.is_empty() {
            return;
        }
        let key = &self.stale[which % self.stale.len()];
        let result = self.sides[side].buffer.get_mut(key);
        let range: OutOfRange = refused(result, io::ErrorKind::InvalidInput);
        assert_eq!(range.uncommitted, self.sides[side].uncommitted());
    }

    fn insert(&mut self, side: usize, at: usize, bytes: Vec<u8>) {
        let side = &mut self.sides[side];
        let there = side.uncommitted();
        let result = side.buffer.insert(at, Bytes::from(bytes.clone()));
        if at > there {
            let range: OutOfRange = refused(result, io::ErrorKind::InvalidInput);
            assert_eq!((range.uncommitted, range.asked), (there, at));
            return;
        }
        result.expect("a place that is there");
        match &mut side.open {
            Some(open) => drop(open.bytes.splice(at..at, plain(&bytes))),
            None => side.readable.extend(bytes),
        }
    }
}
