// SPDX-License-Identifier: MIT OR Apache-2.0
//! Placement of connections on pollers. `many_connections.rs` tests placement by least
//! connections.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use netpoll::event_loop::Balance;
use netpoll::listener::ListenOptions;
use netpoll::{Handler, Listener};

use crate::support::{
    AnyBuilder, LIMIT, Peer, Server, bound, builder, eventually, free_path, invalid_option, rpc,
};

/// The poller threads of all handler calls, in order.
type Threads = Arc<Mutex<Vec<ThreadId>>>;

fn watched(pollers: usize) -> (AnyBuilder, impl Handler, Threads) {
    let threads = Threads::default();
    let seen = Arc::clone(&threads);
    let handler = handler!([seen], |conn| {
        seen.lock()
            .expect("no panic under it")
            .push(std::thread::current().id());
        rpc(conn).await
    });
    (builder().pollers(pollers), handler, threads)
}

/// The threads that serve `count` connections, one after the other.
fn one_by_one(balance: Balance, count: usize) -> Vec<ThreadId> {
    let (builder, handler, threads) = watched(3);
    let server = Server::start(builder.balance(balance), handler);
    for _ in 0..count {
        server.connect().call(b"one");
        eventually("the close", || server.handle.connections() == 0);
    }
    let threads = threads.lock().expect("no panic under it");
    threads.clone()
}

#[test]
fn round_robin_takes_the_next_poller_regardless_of_closed_connections() {
    let threads = one_by_one(Balance::RoundRobin, 9);
    let distinct: HashSet<_> = threads[..3].iter().collect();
    assert_eq!(distinct.len(), 3);
    assert_eq!(threads[..3], threads[3..6]);
    assert_eq!(threads[..3], threads[6..]);
}

#[test]
fn random_balance_uses_more_than_one_poller() {
    let threads = one_by_one(Balance::Random, 60);
    let distinct: HashSet<_> = threads.iter().collect();
    assert!(distinct.len() > 1);
}

#[test]
fn a_custom_balance_receives_the_loads_and_decides_the_placement() {
    let loads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&loads);
    let balance = Balance::Custom(Arc::new(move |loads| {
        let counts: Vec<usize> = loads.iter().map(|load| load.connections).collect();
        seen.lock().unwrap().push(counts);
        1
    }));
    let (builder, handler, threads) = watched(3);
    let server = Server::start(builder.balance(balance), handler);
    let mut peers: Vec<Peer> = (0..3).map(|_| server.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.call(b"one"));
    assert_eq!(*loads.lock().unwrap(), [[0, 0, 0], [0, 1, 0], [0, 2, 0]]);
    let distinct: HashSet<_> = threads.lock().unwrap().iter().copied().collect();
    assert_eq!(distinct.len(), 1);
}

#[test]
fn a_balance_that_panics_or_returns_a_bad_index_falls_back_to_least_connections() {
    for answer in [None, Some(7), Some(usize::MAX)] {
        let balance = Balance::Custom(Arc::new(move |_| {
            answer.expect("a balance that panics, on purpose")
        }));
        let (builder, handler, threads) = watched(2);
        let server = Server::start(builder.balance(balance), handler);
        let mut peers: Vec<Peer> = (0..4).map(|_| server.connect()).collect();
        peers.iter_mut().for_each(|peer| peer.call(b"one"));
        let distinct: HashSet<_> = threads.lock().unwrap().iter().copied().collect();
        assert_eq!(
            distinct.len(),
            2,
            "the poller with the fewest connections gets the next"
        );
    }
}

#[test]
fn per_poller_listeners_share_one_port_and_keep_their_connections() {
    let options = ListenOptions::default();
    let listener = Listener::bind_per_poller("127.0.0.1:0", options).unwrap();
    let addr = bound(&listener);
    // This balance is not called: it would place all connections on one poller.
    let balance = Balance::Custom(Arc::new(|_| 0));
    let (builder, handler, threads) = watched(3);
    let server = Server::start_on(listener, builder.balance(balance), handler);
    assert_eq!(server.addr, addr);
    let mut peers: Vec<Peer> = (0..60).map(|_| server.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.call(b"one"));
    let distinct: HashSet<_> = threads.lock().unwrap().iter().copied().collect();
    assert!(distinct.len() > 1, "the kernel distributes the connections");
    drop(peers);
    assert_eq!(server.shut_down(LIMIT), 0);
    assert!(Peer::try_connect(addr).is_err(), "all listeners are closed");
}

#[test]
fn per_poller_listeners_count_as_one_local_address() {
    let options = ListenOptions::default();
    let listener = Listener::bind_per_poller("127.0.0.1:0", options).unwrap();
    let other = Listener::bind("127.0.0.1:0").unwrap();
    let addrs = [bound(&listener), bound(&other)];
    let (builder, handler, _) = watched(4);
    let builder = builder.on_request(handler);
    let running = builder.listen(listener).listen(other).build().unwrap();
    assert_eq!(running.local_addrs(), addrs);
}

#[test]
fn a_unix_path_cannot_be_bound_per_poller() {
    let addr = format!("unix:{}", free_path().display());
    let refused = Listener::bind_per_poller(addr, ListenOptions::default());
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(invalid_option(&error).is_some());
}
