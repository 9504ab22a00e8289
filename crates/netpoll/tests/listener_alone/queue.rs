// SPDX-License-Identifier: MIT OR Apache-2.0
//! The queue of a listener without an event loop: cancelled calls, the order of the callers, the
//! bound, and the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use netpoll::Listener;

use super::process::alone_twice_with;
use super::waiting::{block_on, eventually, poll_once};
use super::{
    Accepting, BlockedPoller, WakeCount, client, expect_closed, listen, number, pass_the_poller,
    poll_and_drop, poll_with,
};

/// The most connections that are accepted ahead of their callers.
const QUEUE_CAPACITY: usize = 16;

#[test]
fn cancelled_accepts_lose_no_connection() {
    const CONNECTIONS: u32 = 1000;
    let (listener, addr) = listen();
    let clients = std::thread::spawn(move || (0..CONNECTIONS).for_each(|n| drop(client(addr, n))));
    let mut cancelled = 0;
    for expected in 0..CONNECTIONS {
        let mut accepted = None;
        eventually("a connection", || {
            accepted = poll_and_drop(&listener);
            cancelled += usize::from(accepted.is_none());
            accepted.is_some()
        });
        assert_eq!(block_on(number(accepted.expect("just set"))), expected);
    }
    clients.join().expect("clients that connect");
    assert!(cancelled > 0, "the first call finds no connection");
    assert_eq!(listener.accept_stats().accepted, u64::from(CONNECTIONS));
}

#[test]
fn connection_of_a_dropped_caller_goes_to_the_next_caller() {
    let (listener, addr) = listen();
    let [first, second] = [Arc::<WakeCount>::default(), Arc::default()];
    let mut callers: [Accepting<'_>; 2] =
        [Box::pin(listener.accept()), Box::pin(listener.accept())];
    assert!(poll_with(&mut callers[0], &first).is_pending());
    assert!(poll_with(&mut callers[1], &second).is_pending());
    let _peer = client(addr, 3);
    eventually("a wake", || first.0.load(Ordering::SeqCst) == 1);
    assert!(
        poll_with(&mut callers[1], &second).is_pending(),
        "it is second"
    );
    assert_eq!(second.0.load(Ordering::SeqCst), 0);
    let [dropped, mut next] = callers;
    drop(dropped);
    assert_eq!(second.0.load(Ordering::SeqCst), 1);
    match poll_with(&mut next, &second) {
        Poll::Ready(accepted) => assert_eq!(block_on(number(accepted)), 3),
        Poll::Pending => panic!("the connection is lost"),
    }
}

#[test]
fn callers_get_connections_in_the_order_of_their_first_poll() {
    const CALLERS: u32 = 40;
    let (listener, addr) = listen();
    let mut callers: Vec<Option<Accepting<'_>>> = Vec::new();
    for _ in 0..CALLERS {
        let mut caller: Accepting<'_> = Box::pin(listener.accept());
        assert!(poll_once(caller.as_mut()).is_pending());
        callers.push(Some(caller));
    }
    let _peers: Vec<_> = (0..CALLERS).map(|number| client(addr, number)).collect();
    let mut numbers = vec![None; callers.len()];
    eventually("all connections", || {
        // The last caller is polled first.
        for (caller, received) in callers.iter_mut().zip(&mut numbers).rev() {
            let ready = caller.as_mut().map(|caller| poll_once(caller.as_mut()));
            if let Some(Poll::Ready(accepted)) = ready {
                *caller = None;
                *received = Some(block_on(number(accepted)));
            }
        }
        numbers.iter().all(Option::is_some)
    });
    assert_eq!(numbers, (0..CALLERS).map(Some).collect::<Vec<_>>());
}

#[test]
fn at_most_16_connections_are_accepted_ahead_of_their_callers() {
    const CONNECTIONS: u32 = 100;
    let (listener, addr) = listen();
    let _peers: Vec<_> = (0..CONNECTIONS)
        .map(|number| client(addr, number))
        .collect();
    assert_eq!(listener.accept_stats().accepted, 0, "before the first call");
    let accepted = || listener.accept_stats().accepted as usize;
    let first = poll_and_drop(&listener);
    assert!(first.is_none());
    eventually("a full queue", || accepted() >= QUEUE_CAPACITY);
    for returned in 0..CONNECTIONS {
        if returned % 20 == 0 {
            pass_the_poller();
        }
        assert!(accepted() <= returned as usize + QUEUE_CAPACITY);
        let next = block_on(number(block_on(listener.accept())));
        assert_eq!(next, returned);
    }
}

#[test]
fn drop_of_a_listener_closes_queued_connections_and_frees_the_address() {
    let (listener, addr) = listen();
    let peers: Vec<_> = (0..20).map(|number| client(addr, number)).collect();
    assert!(poll_and_drop(&listener).is_none());
    eventually("a full queue", || {
        listener.accept_stats().accepted as usize == QUEUE_CAPACITY
    });
    // Neither the close nor the free address waits for the poller.
    let blocked = BlockedPoller::new();
    drop(listener);
    let again = Listener::bind(addr);
    drop(blocked);
    again.expect("a free address");
    peers.iter().for_each(expect_closed);
}

#[test]
fn acceptor_that_waits_for_room_ends_with_its_listener() {
    let name = "queue::acceptor_that_waits_for_room_ends_with_its_listener";
    alone_twice_with(64, name, || {
        let (listener, addr) = listen();
        let _peers: Vec<_> = (0..17).map(|number| client(addr, number)).collect();
        assert!(poll_and_drop(&listener).is_none());
        eventually("a full queue", || {
            listener.accept_stats().accepted as usize == QUEUE_CAPACITY
        });
        pass_the_poller();
    });
}

#[test]
fn acceptor_of_a_listener_that_is_closed_early_leaks_no_descriptor() {
    let name = "queue::acceptor_of_a_listener_that_is_closed_early_leaks_no_descriptor";
    alone_twice_with(64, name, || {
        let blocked = BlockedPoller::new();
        let (listener, _addr) = listen();
        assert!(poll_and_drop(&listener).is_none());
        drop(listener);
        drop(blocked);
        pass_the_poller();
    });
}
