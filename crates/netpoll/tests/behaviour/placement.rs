// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which poller a connection is placed on. That the fewest get the next is in `many_connections.rs`.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use netpoll::{Balance, Builder, EventLoop, Handler, InvalidConfig, ListenOptions, Listener};

use crate::support::{LIMIT, Peer, Server, bound, eventually, free_path, rpc};

/// The threads of the pollers that have called handlers, in order.
type Threads = Arc<Mutex<Vec<ThreadId>>>;

fn watched(pollers: usize) -> (Builder, impl Handler, Threads) {
    let threads = Threads::default();
    let seen = Arc::clone(&threads);
    let handler = handler!([seen], |conn| {
        seen.lock()
            .expect("no panic under it")
            .push(std::thread::current().id());
        rpc(conn).await
    });
    (EventLoop::builder().pollers(pollers), handler, threads)
}

/// The threads that serve `count` connections, each over before the next.
fn one_by_one(balance: Balance, count: usize) -> Vec<ThreadId> {
    let (builder, handler, threads) = watched(3);
    let server = Server::start(builder.balance(balance), handler);
    for _ in 0..count {
        server.connect().call(b"one");
        eventually("its end", || server.handle.connections() == 0);
    }
    let threads = threads.lock().expect("no panic under it");
    threads.clone()
}

#[test]
fn round_robin_takes_the_next_poller_whatever_has_ended() {
    let threads = one_by_one(Balance::RoundRobin, 9);
    let distinct: HashSet<_> = threads[..3].iter().collect();
    assert_eq!(distinct.len(), 3);
    assert_eq!(threads[..3], threads[3..6]);
    assert_eq!(threads[..3], threads[6..]);
}

#[test]
fn chance_finds_more_than_one_poller() {
    let threads = one_by_one(Balance::Random, 60);
    let distinct: HashSet<_> = threads.iter().collect();
    assert!(distinct.len() > 1);
}

#[test]
fn a_balance_of_ones_own_is_told_the_loads_and_obeyed() {
    let loads = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&loads);
    let balance = Balance::Custom(Arc::new(move |loads| {
        let counts: Vec<usize> = loads.iter().map(|load| load.connections).collect();
        told.lock().unwrap().push(counts);
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
fn a_balance_that_panics_or_names_no_poller_takes_nobody_along() {
    for answer in [None, Some(7), Some(usize::MAX)] {
        let balance = Balance::Custom(Arc::new(move |_| answer.expect("a balance of a test")));
        let (builder, handler, threads) = watched(2);
        let server = Server::start(builder.balance(balance), handler);
        let mut peers: Vec<Peer> = (0..4).map(|_| server.connect()).collect();
        peers.iter_mut().for_each(|peer| peer.call(b"one"));
        let distinct: HashSet<_> = threads.lock().unwrap().iter().copied().collect();
        assert_eq!(distinct.len(), 2, "the fewest get the next");
    }
}

#[test]
fn a_listener_of_each_poller_shares_one_port_and_keeps_what_it_accepts() {
    let options = ListenOptions::default();
    let listener = Listener::bind_per_poller("127.0.0.1:0", options).unwrap();
    let addr = bound(&listener);
    // Nobody is asked: all would else be placed on one poller.
    let balance = Balance::Custom(Arc::new(|_| 0));
    let (builder, handler, threads) = watched(3);
    let server = Server::start_on(listener, builder.balance(balance), handler);
    assert_eq!(server.addr, addr);
    let mut peers: Vec<Peer> = (0..60).map(|_| server.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.call(b"one"));
    let distinct: HashSet<_> = threads.lock().unwrap().iter().copied().collect();
    assert!(distinct.len() > 1, "the kernel spreads them");
    drop(peers);
    assert_eq!(server.shut_down(LIMIT), 0);
    assert!(Peer::try_connect(addr).is_err(), "every one has gone");
}

#[test]
fn a_port_of_each_poller_is_one_address_of_its_loop() {
    let options = ListenOptions::default();
    let listener = Listener::bind_per_poller("127.0.0.1:0", options).unwrap();
    let other = Listener::bind("127.0.0.1:0").unwrap();
    let addrs = [bound(&listener), bound(&other)];
    let (builder, handler, _) = watched(4);
    let builder = builder.on_request_send(handler);
    let running = builder.listen(listener).listen(other).build().unwrap();
    assert_eq!(running.local_addrs(), addrs);
}

#[test]
fn a_path_cannot_be_shared_by_pollers() {
    let addr = format!("unix:{}", free_path().display());
    let refused = Listener::bind_per_poller(addr, ListenOptions::default());
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.get_ref().is_some_and(|why| why.is::<InvalidConfig>()));
}
