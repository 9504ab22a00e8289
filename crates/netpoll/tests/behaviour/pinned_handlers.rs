// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handlers whose futures stay on one thread: their futures need not be `Send`, and each thread can
//! have its own handler.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use netpoll::{Builder, Connection};

use crate::support::{Peer, Runs, Server, THREADS, local_builder, rpc};

/// A builder with `THREADS` pollers and the runner of this test program.
fn two_pollers() -> Builder {
    local_builder().pollers(THREADS)
}

#[test]
fn a_pinned_handler_can_hold_non_send_values_across_an_await() {
    let handler = async |conn: &mut Connection| {
        let count = Rc::new(Cell::new(0));
        for _ in 0..3 {
            count.set(count.get() + conn.reader().read_u8().await?);
        }
        conn.writer().put_u8(count.get());
        Ok(())
    };
    let server = Server::start_as_given(two_pollers().on_request(handler));
    let mut peer = server.connect();
    for byte in [1, 2, 3] {
        peer.send(&[byte]);
    }
    assert_eq!(peer.receive(1), [6]);
}

/// The call numbers of each thread.
type Calls = Mutex<HashMap<ThreadId, Vec<u32>>>;

fn record(calls: &Calls, thread: ThreadId, call: u32) {
    let mut calls = calls.lock().expect("no panic under it");
    calls.entry(thread).or_default().push(call);
}

#[test]
fn each_thread_creates_its_own_handler_once() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let calls = Arc::<Calls>::default();
    let seen = Arc::clone(&calls);
    let make = move || {
        count.fetch_add(1, Ordering::SeqCst);
        let home = std::thread::current().id();
        let (seen, own) = (Arc::clone(&seen), Rc::new(Cell::new(0)));
        async move |conn: &mut Connection| {
            assert_eq!(std::thread::current().id(), home);
            own.set(own.get() + 1);
            record(&seen, home, own.get());
            rpc(conn).await
        }
    };
    let server = Server::start_as_given(two_pollers().on_request_with(make));
    let mut peers: Vec<Peer> = (0..8).map(|_| server.connect()).collect();
    for _ in 0..20 {
        peers.iter_mut().for_each(|peer| peer.call(b"one"));
    }
    let calls = calls.lock().unwrap();
    assert_eq!(made.load(Ordering::SeqCst), calls.len());
    assert!(calls.len() <= THREADS);
    let total: usize = calls.values().map(Vec::len).sum();
    assert_eq!(total, 160);
    for own in calls.values() {
        assert!(own.iter().copied().eq(1..=own.len() as u32), "{own:?}");
    }
}

#[test]
fn a_panic_in_the_handler_factory_closes_the_connection() {
    let tries = AtomicUsize::new(0);
    let make = move || {
        assert!(
            tries.fetch_add(1, Ordering::SeqCst) > 1,
            "the first two fail, on purpose"
        );
        async |conn: &mut Connection| rpc(conn).await
    };
    let builder = local_builder().pollers(1);
    let server = Server::start_as_given(builder.on_request_with(make));
    for _ in 0..2 {
        let mut peer = server.connect();
        if crate::support::runs() == Runs::Pinned {
            peer.send(b"?");
        }
        assert!(matches!(peer.receive_all().as_deref(), Ok([]) | Err(_)));
    }
    server.connect().call(b"created");
}
