// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listeners that move from one loop to another, and loops that stop accepting.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use netpoll::listener::ListenOptions;
use netpoll::{Addr, EventLoop, Listener};

use crate::support::{LIMIT, Peer, Server, bound, eventually, frame, free_listener, rpc};

/// Connects again and again, each time with a pause before the request, until `stop` is set. Fails
/// at the first request that is not answered.
fn connect_until(addr: Addr, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let mut peer = Peer::connect(addr);
        std::thread::sleep(Duration::from_millis(1));
        peer.call(b"in either loop");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn no_connection_is_lost_while_a_listener_moves_between_loops() {
    const LOOPS: usize = 8;
    let first = free_listener();
    let addr = bound(&first);
    let mut next = Some(first);
    let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut clients = Vec::new();
    let mut former: Option<Server> = None;
    for number in 1..=LOOPS {
        let listener = next.take().expect("a listener for each loop");
        let duplicate = listener.as_fd().try_clone_to_owned().unwrap();
        next = Some(Listener::from_fd(duplicate).unwrap());
        let server = Server::start_on(listener, crate::support::builder().pollers(2), rpc);
        if let Some(former) = former.replace(server) {
            assert_eq!(former.shut_down(LIMIT), 0);
        } else {
            clients.extend((0..4).map(|_| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                std::thread::spawn(move || connect_until(addr, stop, answered))
            }));
        }
        let so_far = 300 * number;
        eventually("many connections", || {
            answered.load(Ordering::Relaxed) >= so_far || clients.iter().any(|it| it.is_finished())
        });
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("each request was answered");
    }
}

#[test]
fn a_new_connection_that_drains_gets_its_first_request_answered() {
    let server = Server::rpc();
    let mut peers: Vec<Peer> = (0..3).map(|_| server.connect()).collect();
    eventually("three connections", || server.handle.connections() == 3);
    let shutdown = server.handle.shutdown(LIMIT);
    eventually("a closed port", || Peer::try_connect(server.addr).is_err());
    let request = frame(b"on its way");
    for peer in &mut peers {
        let (head, tail) = request.split_at(3);
        peer.send(head);
        peer.send(tail);
        assert_eq!(peer.receive_all().unwrap(), request);
    }
    assert_eq!(shutdown.wait(), 0);
}

#[test]
fn a_drain_waits_for_a_new_connection_up_to_the_first_byte_timeout() {
    let builder = crate::support::builder().pollers(1);
    let builder = builder.first_byte_timeout(Duration::from_millis(50));
    let server = Server::start(builder, rpc);
    let mut silent = server.connect();
    eventually("one connection", || server.handle.connections() == 1);
    let shutdown = server.handle.shutdown(100 * LIMIT);
    assert_eq!(silent.receive_all().unwrap(), b"");
    drop(silent);
    assert_eq!(shutdown.wait(), 0);
}

#[test]
fn a_new_connection_that_stays_silent_is_not_counted_as_aborted() {
    let server = Server::rpc();
    let _silent = server.connect();
    eventually("one connection", || server.handle.connections() == 1);
    assert_eq!(server.shut_down(Duration::from_millis(20)), 0);
}

#[test]
fn stop_accepting_frees_the_port_and_keeps_serving_open_connections() {
    let per_poller = || Listener::bind_per_poller("127.0.0.1:0", ListenOptions::default());
    for listener in [free_listener(), per_poller().unwrap()] {
        let server = Server::start_on(listener, crate::support::builder().pollers(2), rpc);
        let mut peer = server.connect();
        peer.call(b"before");
        server.handle.stop_accepting();
        server.handle.stop_accepting();
        let mut again = None;
        eventually("a free port", || {
            again = Listener::bind(server.addr).ok();
            again.is_some()
        });
        peer.call(b"after");
        let other = Server::start_on(again.unwrap(), crate::support::builder().pollers(1), rpc);
        other.connect().call(b"to the other");
        peer.call(b"still");
        assert_eq!(server.handle.connections(), 1);
        let shutdown = server.handle.shutdown(LIMIT);
        assert_eq!(peer.receive_all().unwrap(), b"");
        drop(peer);
        assert_eq!(shutdown.wait(), 0);
    }
}

#[test]
fn stop_accepting_before_the_loop_runs_serves_the_backlog() {
    let listener = free_listener();
    let addr = bound(&listener);
    let builder = EventLoop::builder().pollers(1).on_request(rpc);
    let running = builder.listen(listener).build().unwrap();
    let handle = running.handle();
    let mut peer = Peer::connect(addr);
    handle.stop_accepting();
    let serving = std::thread::spawn(move || running.run());
    peer.call(b"queued");
    eventually("a closed port", || Peer::try_connect(addr).is_err());
    peer.call(b"and served");
    drop(peer);
    assert_eq!(handle.shutdown(LIMIT).wait(), 0);
    serving.join().unwrap().unwrap();
}

#[test]
fn stop_accepting_does_not_stop_a_loop_with_the_same_listener() {
    let listener = free_listener();
    let duplicate = listener.as_fd().try_clone_to_owned().unwrap();
    let first = Server::start_on(listener, crate::support::builder().pollers(1), rpc);
    let mut peer = first.connect();
    peer.call(b"by the first");
    first.handle.stop_accepting();
    let second = Listener::from_fd(duplicate).unwrap();
    let second = Server::start_on(second, crate::support::builder().pollers(1), rpc);
    eventually("a connection of the second loop", || {
        second.connect().call(b"by either");
        second.handle.stats().accept.accepted > 0
    });
    peer.call(b"by the first still");
    drop(peer);
    assert_eq!(first.shut_down(LIMIT), 0);
    second.connect().call(b"by the second");
}
