// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory whose drop is foreign code, which panics or uses buffers of the thread it runs on.
#![expect(clippy::unwrap_used, reason = "shared helpers run only in tests")]

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, Bytes};
use netpoll_buffer::{LinkBuffer, Tail};

use crate::support::{contents, in_own_pool, put};

/// The action of the owner's drop.
#[derive(Clone, Copy)]
enum OnDrop {
    Panics,
    /// With a payload that panics when it is dropped.
    PanicsTwice,
    /// Writes, reads and drops buffers.
    UsesBuffers,
}

struct Owner {
    bytes: Vec<u8>,
    on_drop: OnDrop,
    dropped: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("the payload of a panic was dropped");
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
        match self.on_drop {
            OnDrop::Panics => panic!("foreign memory was dropped"),
            OnDrop::PanicsTwice => panic::panic_any(PanicsOnDrop),
            OnDrop::UsesBuffers => {
                let mut other = put(&[7; 1000]);
                other.push(Bytes::from_static(b"of the same thread"));
                other.peek(1010).unwrap();
                other.release();
                drop(put(&vec![7; 100_000]));
            }
        }
    }
}

/// Frees all foreign memory of a buffer and returns the rest.
type FreeAll = fn(LinkBuffer) -> LinkBuffer;

fn pushed(parts: &[&[u8]], on_drop: OnDrop, dropped: &Arc<AtomicUsize>) -> Vec<Bytes> {
    let owned = |part: &&[u8]| {
        Bytes::from_owner(Owner {
            bytes: part.to_vec(),
            on_drop,
            dropped: Arc::clone(dropped),
        })
    };
    parts.iter().map(owned).collect()
}

const PARTS: [&[u8]; 3] = [b"one", b"two", b"three"];

fn sent(mut buffer: LinkBuffer) -> LinkBuffer {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert_eq!(buffer.drain_to(ours.as_fd()).unwrap(), 11);
    buffer
}

fn uncommitted_to(buffer: LinkBuffer, keep: usize) -> LinkBuffer {
    let mut open = LinkBuffer::new();
    open.reserve(2).unwrap();
    open.append(buffer);
    open.insert(1, Bytes::new()).unwrap();
    open.push(Bytes::new());
    assert_eq!(open.uncommitted_len(), 13);
    open.commit(keep).unwrap();
    open.skip(keep).unwrap();
    open
}

const WAYS: [FreeAll; 14] = [
    |buffer| {
        drop(buffer);
        LinkBuffer::new()
    },
    |mut buffer| {
        buffer.skip(11).unwrap();
        buffer.release();
        buffer
    },
    |mut buffer| {
        buffer.advance(11);
        buffer.put_slice(b"x");
        buffer.skip(1).unwrap();
        buffer
    },
    |mut buffer| {
        assert_eq!(buffer.peek(11).unwrap(), b"onetwothree");
        buffer.skip(11).unwrap();
        buffer.release();
        buffer
    },
    |mut buffer| {
        assert_eq!(buffer.read_vec(11).unwrap(), b"onetwothree");
        buffer.append(put(b"x"));
        buffer.skip(1).unwrap();
        buffer
    },
    |mut buffer| {
        assert_eq!(buffer.next(11).unwrap(), b"onetwothree");
        let mut tail = Tail::with_capacity(1);
        tail.put(b"x");
        buffer.push_segment(tail.window(0..1));
        buffer.skip(1).unwrap();
        buffer
    },
    |mut buffer| {
        drop(buffer.split_to(11).unwrap());
        buffer
    },
    |mut buffer| {
        let mut all = [0; 11];
        buffer.read_exact(&mut all).unwrap();
        buffer.release();
        buffer
    },
    |buffer| {
        drop(Bytes::from(buffer));
        LinkBuffer::new()
    },
    sent,
    |buffer| uncommitted_to(buffer, 0),
    |buffer| uncommitted_to(buffer, 2),
    |mut buffer| {
        let mut open = LinkBuffer::new();
        open.reserve(1).unwrap();
        open.append(buffer.take_readable());
        drop(open);
        buffer
    },
    |mut buffer| {
        // The consumed segments are still at the front.
        buffer.skip(11).unwrap();
        let mut other = LinkBuffer::new();
        other.prepend(buffer);
        other
    },
];

#[test]
fn memory_whose_drop_panics_is_dropped_once_and_the_buffer_stays_usable() {
    in_own_pool(|pool| {
        for on_drop in [OnDrop::Panics, OnDrop::PanicsTwice, OnDrop::UsesBuffers] {
            for (number, way) in WAYS.iter().enumerate() {
                let dropped = Arc::default();
                let mut buffer = LinkBuffer::from_iter(pushed(&PARTS, on_drop, &dropped));
                assert_eq!(buffer.len(), 11);
                buffer = way(buffer);
                assert!(buffer.is_empty() && contents(&buffer).is_empty());
                buffer.put_slice(b"it runs ");
                buffer.push(Bytes::from_static(b"on"));
                assert_eq!(buffer.peek(10).unwrap(), b"it runs on");
                drop(buffer);
                assert_eq!(dropped.load(Ordering::SeqCst), 3, "way {number}");
            }
        }
        drop(put(b"and so does the thread"));
        assert!(pool.stats().in_use <= crate::support::BLOCK);
    });
}

#[test]
fn freeing_some_segments_keeps_the_rest_and_its_length() {
    let dropped = Arc::default();
    let mut buffer = LinkBuffer::from_iter(pushed(&PARTS, OnDrop::Panics, &dropped));
    buffer.skip(7).unwrap();
    buffer.release();
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
    assert_eq!((buffer.len(), contents(&buffer)), (4, b"hree".to_vec()));
    let mut front = buffer.split_to(2).unwrap();
    assert_eq!(front.read_vec(2).unwrap(), b"hr");
    drop(front);
    assert_eq!(contents(&buffer), b"ee");
    assert_eq!(
        dropped.load(Ordering::SeqCst),
        2,
        "the third still has an owner"
    );
    drop(buffer);
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
}

#[test]
fn memory_dropped_during_unwinding_may_panic() {
    let dropped = Arc::<AtomicUsize>::default();
    let buffer = LinkBuffer::from_iter(pushed(&PARTS, OnDrop::Panics, &dropped));
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(move || {
        let _held = buffer;
        panic!("the first");
    }));
    let payload = outcome.unwrap_err();
    assert_eq!(*payload.downcast::<&str>().unwrap(), "the first");
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
}

#[test]
fn empty_foreign_memory_is_dropped_under_the_same_guard() {
    let dropped = Arc::default();
    let mut buffer = LinkBuffer::new();
    for bytes in pushed(&[&[][..]; 2], OnDrop::Panics, &dropped) {
        buffer.push(bytes);
    }
    buffer.reserve(1).unwrap();
    for bytes in pushed(&[&[][..]; 2], OnDrop::Panics, &dropped) {
        buffer.insert(0, bytes).unwrap();
    }
    buffer.commit_all();
    assert_eq!((buffer.len(), dropped.load(Ordering::SeqCst)), (1, 4));
}
