// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of the user that is pushed, and dropped wherever it ends: sent, discarded, rejected.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use netpoll::buffer::LinkBuffer;
use netpoll::options::ConnOptions;
use netpoll::{Connection, Dialer};

use crate::hostile::{Act, watched};
use crate::reading::ask;
use crate::support::{Peer, block_on, eventually, pair_with};

/// More than the kernel's buffers hold.
const MUCH: usize = 8 << 20;

/// Memory whose drop runs `act`, and is counted by `kept`.
struct Owner {
    memory: Vec<u8>,
    act: Act,
    _kept: Arc<()>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.act.run();
    }
}

/// Creates memory for one connection.
struct Source {
    act: Act,
    kept: Arc<()>,
}

impl Source {
    fn of(&self, bytes: usize) -> Bytes {
        Bytes::from_owner(Owner {
            memory: vec![7; bytes],
            act: self.act.clone(),
            _kept: Arc::clone(&self.kept),
        })
    }

    fn buffer(&self, bytes: usize) -> LinkBuffer {
        let mut buffer = LinkBuffer::new();
        buffer.push(self.of(bytes));
        buffer
    }
}

/// Checks that all memory is dropped, whatever its drop does, and that the poller still serves.
fn frees(what: &str, run: impl Fn(Connection, Peer, &Source)) {
    for panics in [true, false] {
        watched(&format!("{what}, panics: {panics}"), || {
            let options = ConnOptions::default().max_output(16 << 20);
            let (conn, peer) = pair_with(&Dialer::new().options(options));
            let handle = conn.handle();
            let act = match panics {
                true => Act::Panic,
                false => Act::Enter(Arc::new(move || ask(&handle))),
            };
            let source = Source {
                act,
                kept: Arc::default(),
            };
            run(conn, peer, &source);
            eventually("the drop of all memory", || {
                Arc::strong_count(&source.kept) == 1
            });
        });
    }
}

#[test]
fn sent_memory_is_freed() {
    frees("sent", |mut conn, mut peer, source| {
        for _ in 0..3 {
            conn.writer().push(source.of(5000));
        }
        drop(block_on(conn.writer().flush()));
        let _sent = peer.receive(15_000);
    });
}

#[test]
fn memory_discarded_by_a_reset_or_an_abort_is_freed() {
    for aborts in [false, true] {
        frees("discarded", move |mut conn, peer, source| {
            for _ in 0..3 {
                conn.writer().push(source.of(MUCH / 3));
            }
            match aborts {
                true => conn.abort(),
                false => peer.reset(),
            }
            drop(block_on(conn.writer().flush()).expect_err("the end"));
        });
    }
}

#[test]
fn memory_pushed_after_a_half_close_or_a_close_is_freed() {
    frees("after a half-close", |mut conn, _peer, source| {
        conn.writer().shutdown();
        conn.writer().push(source.of(10));
        conn.writer().append(source.buffer(10));
        conn.writer().with(|part| part.push(source.of(10)));
        drop(conn.handle().push(source.of(10)).expect_err("a half-close"));
        let rejected = conn.write_queue().try_send(source.buffer(10));
        // The returned buffer belongs to the caller.
        let buffer = rejected.expect_err("a half-close").buffer;
        drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(
            || {
                drop(buffer);
            },
        )));
    });
    frees("after the close", |mut conn, peer, source| {
        peer.reset();
        block_on(conn.closed());
        conn.writer().push(source.of(10));
        conn.writer().append(source.buffer(10));
        drop(conn.handle().push(source.of(10)));
    });
}

#[test]
fn memory_above_the_output_limit_is_freed() {
    frees("overflow", |mut conn, _peer, source| {
        conn.writer().push(source.of(MUCH));
        conn.writer().push(source.of(2 * MUCH));
        conn.writer().push(source.of(MUCH));
        block_on(conn.closed());
    });
}

#[test]
fn uncommitted_memory_is_freed() {
    for way in 0..3 {
        frees("not committed", move |mut conn, _peer, source| {
            let mut writer = conn.writer();
            let _reserved = writer.reserve(4).expect("room");
            writer.insert(2, source.of(10)).expect("in the middle");
            writer.insert(1, source.of(10)).expect("in the middle");
            match way {
                0 => writer.commit(0).expect("nothing of it"),
                1 => writer.shutdown(),
                _ => drop(conn),
            }
        });
    }
}

#[test]
fn unsent_memory_is_freed_after_a_write_timeout() {
    frees("too slow", |mut conn, _peer, source| {
        conn.writer().push(source.of(MUCH / 2));
        conn.writer().push(source.of(MUCH / 2));
        let soon = Instant::now() + Duration::from_millis(30);
        let mut writer = conn.writer().with_deadline(soon);
        drop(block_on(writer.flush()).expect_err("no peer that reads"));
    });
}
