// SPDX-License-Identifier: MIT OR Apache-2.0
//! The drop of pushed memory is foreign code: it may panic and may call any handle of its
//! connection. On every path it runs once, under no lock, and does not stop a poller.
#![expect(clippy::unwrap_used, reason = "only tests run this shared code")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use netpoll::buffer::LinkBuffer;
use netpoll::connection::ConnectionHandle;
use netpoll::options::Timeouts;
use netpoll::{Connection, Dialer};

use crate::support::{LIMIT, Peer, block_on, bytes, eventually, pair, pair_with};

/// The action of the memory in its drop.
#[derive(Clone, Copy, Debug)]
enum OnDrop {
    Panics,
    CallsHandles,
}

/// A user's memory with a handle of the connection it was pushed to.
struct Memory {
    bytes: Vec<u8>,
    on_drop: OnDrop,
    handle: ConnectionHandle,
    dropped: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if matches!(self.on_drop, OnDrop::CallsHandles) {
            // Each call takes a lock of the connection; none may be held now.
            let _pushed = self.handle.push(Bytes::from_static(b"again")).is_ok();
            let _active = self.handle.liveness();
            let _timeouts = self.handle.timeouts();
            self.handle.resume_reads();
            let mut message = LinkBuffer::new();
            message.put_str("and again");
            let _sent = self.handle.write_queue().try_send(message).is_ok();
            self.handle.close();
        }
        self.dropped.fetch_add(1, Ordering::SeqCst);
        if matches!(self.on_drop, OnDrop::Panics) {
            panic!("pushed memory was dropped");
        }
    }
}

/// Creates memory of the given length for the connection.
type Makes<'a> = &'a dyn Fn(usize) -> Bytes;

/// A path on which all created memory is dropped.
type Way = fn(Connection, Peer, Makes<'_>);

/// More than the kernel accepts for a peer that does not read.
const LARGE: usize = 24 << 20;

const WAYS: [(&str, Way); 21] = [
    ("a push after a shutdown", |mut conn, _peer, make| {
        conn.writer().shutdown();
        conn.writer().push(make(100));
    }),
    ("a push after a close", |mut conn, _peer, make| {
        conn.close();
        block_on(conn.reader().wait(1)).unwrap_err();
        conn.writer().push(make(100));
        conn.writer().with(|out| out.push(make(100)));
        conn.writer().append(LinkBuffer::from(make(100)));
        conn.writer().insert(0, make(100)).unwrap_err();
    }),
    ("a push of nothing", |mut conn, _peer, make| {
        conn.writer().push(make(0));
        conn.writer().insert(0, make(0)).unwrap_or_default();
        conn.handle().push(make(0)).unwrap_or_default();
        conn.writer().append(LinkBuffer::from(make(0)));
    }),
    ("an insert out of range", |mut conn, _peer, make| {
        conn.writer().reserve(1).unwrap();
        conn.writer().insert(2, make(100)).unwrap_err();
    }),
    (
        "a handle's push after a shutdown",
        |mut conn, _peer, make| {
            conn.writer().shutdown();
            conn.handle().push(make(100)).unwrap_err();
        },
    ),
    ("a handle's push after the close", |conn, _peer, make| {
        let handle = conn.handle();
        drop(conn);
        eventually("the close", || handle.push(make(100)).is_err());
    }),
    ("a rejected send", |mut conn, _peer, make| {
        conn.writer().shutdown();
        let queue = conn.write_queue();
        // The consumed front of a buffer may be dropped when the buffer is appended.
        let mut buffer = LinkBuffer::from(make(10));
        buffer.push(make(10));
        buffer.skip(10).unwrap();
        drop(queue.try_send(buffer));
    }),
    (
        "a send of a partly consumed buffer",
        |conn, mut peer, make| {
            let queue = conn.write_queue();
            for _ in 0..2 {
                let mut buffer = LinkBuffer::from(make(10));
                buffer.push(make(10));
                buffer.skip(10).unwrap();
                drop(queue.try_send(buffer));
                let mut empty = LinkBuffer::from(make(10));
                empty.skip(10).unwrap();
                drop(queue.try_send(empty));
            }
            drop(conn);
            peer.receive_all().unwrap();
        },
    ),
    ("a partly consumed buffer", |mut conn, peer, make| {
        for wait in [false, true] {
            let mut buffer = LinkBuffer::from(make(10));
            buffer.push(make(10));
            buffer.skip(10).unwrap();
            conn.writer().append(buffer);
            let mut empty = LinkBuffer::from(make(10));
            empty.skip(10).unwrap();
            conn.writer().append(empty);
            if wait {
                block_on(conn.writer().flush()).unwrap_or_default();
            }
        }
        drop(peer);
    }),
    ("a partial commit", |mut conn, _peer, make| {
        conn.writer().reserve(1).unwrap();
        conn.writer().push(make(100));
        conn.writer().insert(0, make(100)).unwrap_or_default();
        conn.writer().commit(0).unwrap_or_default();
    }),
    ("a shutdown with a reservation", |mut conn, _peer, make| {
        conn.writer().reserve(1).unwrap();
        conn.writer().push(make(100));
        conn.writer().shutdown();
    }),
    ("a close with a reservation", |mut conn, _peer, make| {
        conn.writer().reserve(1).unwrap();
        conn.writer().push(make(100));
        conn.close();
        block_on(conn.reader().wait(1)).unwrap_err();
    }),
    ("into_fd with a reservation", |mut conn, _peer, make| {
        conn.writer().reserve(1).unwrap();
        conn.writer().push(make(100));
        drop(block_on(conn.into_fd()));
    }),
    (
        "an owned writer with a reservation",
        |mut conn, _peer, make| {
            conn.writer().reserve(1).unwrap();
            conn.writer().push(make(100));
            let (reader, writer) = conn.into_split();
            drop(writer);
            drop(reader);
        },
    ),
    ("a send of all", |mut conn, mut peer, make| {
        conn.writer().push(make(100));
        conn.writer().push(make(100));
        block_on(conn.writer().flush()).unwrap_or_default();
        peer.receive(100);
    }),
    ("a send by the poller", |conn, mut peer, make| {
        conn.handle().push(make(LARGE)).unwrap();
        conn.handle().push(make(100)).unwrap();
        peer.receive(LARGE + 100);
        drop(conn);
        peer.receive_all().unwrap();
    }),
    ("a reset", |mut conn, peer, make| {
        conn.writer().push(make(LARGE));
        conn.writer().push(make(100));
        conn.writer().push_out_now();
        peer.reset();
        block_on(conn.reader().wait(1)).unwrap_err();
    }),
    ("an abort", |mut conn, _peer, make| {
        conn.writer().push(make(LARGE));
        conn.writer().push(make(100));
        conn.writer().push_out_now();
        conn.abort();
        block_on(conn.reader().wait(1)).unwrap_err();
    }),
    ("an overflow", |mut conn, _peer, make| {
        conn.writer().reserve(1).unwrap();
        conn.writer().push(make(100));
        conn.writer().push(make(LARGE));
        conn.handle().push(make(LARGE)).unwrap_err();
    }),
    ("a write timeout", |mut conn, _peer, make| {
        let timeouts = Timeouts::for_dialing()
            .write(Duration::from_millis(50))
            .linger(Duration::from_millis(50));
        conn.set_timeouts(timeouts).unwrap();
        conn.writer().push(make(LARGE));
        conn.writer().push(make(100));
        block_on(conn.writer().flush()).unwrap_err();
    }),
    ("an expired linger time", |mut conn, peer, make| {
        let timeouts = Timeouts::for_dialing().linger(Duration::from_millis(50));
        conn.set_timeouts(timeouts).unwrap();
        conn.writer().push(make(LARGE));
        conn.writer().push_out_now();
        let handle = conn.handle();
        drop(conn);
        block_on(handle.closed());
        drop(peer);
    }),
];

/// Sends as much output as the socket accepts.
trait PushOut {
    fn push_out_now(self);
}

impl PushOut for netpoll::Writer<'_> {
    fn push_out_now(mut self) {
        let flush = std::pin::pin!(self.flush());
        drop(crate::support::poll_once(flush));
    }
}

#[test]
fn pushed_memory_that_panics_or_calls_handles_is_dropped_once_on_every_path() {
    for on_drop in [OnDrop::Panics, OnDrop::CallsHandles] {
        for (what, way) in WAYS {
            let max_output = if what == "an overflow" {
                LARGE + (1 << 20)
            } else {
                1 << 30
            };
            let (conn, peer) = pair_with(&Dialer::new().max_output(max_output));
            let made = Arc::new(AtomicUsize::new(0));
            let dropped = Arc::<AtomicUsize>::default();
            let handle = conn.handle();
            let (sender, receiver) = std::sync::mpsc::channel();
            let counts = (Arc::clone(&made), Arc::clone(&dropped));
            // On a thread of its own, so that a deadlock fails the test.
            let running = std::thread::spawn(move || {
                let make = |length| {
                    counts.0.fetch_add(1, Ordering::SeqCst);
                    Bytes::from_owner(Memory {
                        bytes: vec![7; length],
                        on_drop,
                        handle: handle.clone(),
                        dropped: Arc::clone(&counts.1),
                    })
                };
                way(conn, peer, &make);
                sender.send(()).unwrap();
            });
            let done = receiver.recv_timeout(LIMIT);
            assert!(done.is_ok(), "{what}, {on_drop:?}: it did not return");
            running.join().unwrap();
            eventually(what, || {
                dropped.load(Ordering::SeqCst) == made.load(Ordering::SeqCst)
            });
            // The shared poller still runs.
            let (mut other, mut peer) = pair();
            peer.send(b"ping");
            assert_eq!(block_on(other.reader().next(4)).unwrap(), b"ping", "{what}");
        }
    }
}

#[test]
fn memory_that_panics_in_drop_after_sending_does_not_break_the_stream() {
    let (mut conn, mut peer) = pair();
    let dropped = Arc::<AtomicUsize>::default();
    let handle = conn.handle();
    let memory = |length: usize, seed: u8| {
        Bytes::from_owner(Memory {
            bytes: bytes(length, seed),
            on_drop: OnDrop::Panics,
            handle: handle.clone(),
            dropped: Arc::clone(&dropped),
        })
    };
    let sizes = [10, 100_000, 1, 3_000_000, 5];
    let mut writer = conn.writer();
    for (size, seed) in sizes.into_iter().zip(0..) {
        writer.push(memory(size, seed));
    }
    let all: usize = sizes.iter().sum();
    let reading = std::thread::spawn(move || (peer.receive(all), peer));
    block_on(writer.flush()).unwrap();
    let (received, mut peer) = reading.join().unwrap();
    let expected: Vec<u8> = sizes
        .into_iter()
        .zip(0..)
        .flat_map(|(size, seed)| bytes(size, seed))
        .collect();
    assert!(received == expected);
    assert_eq!(dropped.load(Ordering::SeqCst), sizes.len());
    peer.send(b"on");
    assert_eq!(block_on(conn.reader().next(2)).unwrap(), b"on");
}

#[test]
fn a_closure_given_to_a_writer_can_use_the_connections_handles() {
    let (mut conn, mut peer) = pair();
    let (handle, queue) = (conn.handle(), conn.write_queue());
    let seen = Arc::new(Mutex::new(0));
    for reserved in [false, true] {
        let mut writer = conn.writer();
        if reserved {
            writer.reserve(0).unwrap();
        }
        let length = writer.with(|out| {
            out.put_str("part, ");
            handle.push(Bytes::from_static(b"pushed, ")).unwrap();
            let mut message = LinkBuffer::new();
            message.put_str("sent, ");
            queue.try_send(message).unwrap();
            *seen.lock().unwrap() += 1;
            out.put_str("whole.");
            out.len()
        });
        writer.commit_all();
        block_on(writer.flush()).unwrap();
        assert_eq!(length, 12);
        assert_eq!(peer.receive(26), b"pushed, sent, part, whole.");
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        conn.writer().with(|out| {
            out.put_str("not sent");
            panic!("half-way");
        })
    }));
    assert!(outcome.is_err());
    conn.writer().put_str("on");
    block_on(conn.writer().flush()).unwrap();
    assert_eq!(peer.receive(2), b"on");
}
