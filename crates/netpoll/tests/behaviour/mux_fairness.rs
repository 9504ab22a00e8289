// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request that never waits delays neither other requests of its connection nor other connections
//! of its poller.

use std::time::Duration;

use netpoll::mux::{self, Message};
use netpoll::time::{sleep, timeout};

use crate::busy_handlers::{Hog, one_poller, one_thread, yield_once};
use crate::mux::{answer, codec, request};
use crate::support::{Peer, Server};

/// Sends a request and checks its answer. A request with the id 0 never waits.
fn ask(peer: &mut Peer, id: u64) {
    answer(peer, id, b"");
    assert_eq!(request(peer).0, id);
}

#[test]
fn a_request_that_never_waits_delays_neither_its_connection_nor_another() {
    for way in ["yield", "sleep", "timeout"] {
        for builder in one_thread() {
            let hog = Hog::default();
            let runs = hog.clone();
            let serving = mux::serve(codec(), async move |message: Message| {
                while message.id == 0 && runs.step() {
                    match way {
                        "yield" => yield_once().await,
                        "sleep" => sleep(Duration::ZERO).await,
                        _ => drop(timeout(Duration::ZERO, yield_once()).await),
                    }
                }
                Ok(message)
            });
            let server = Server::start_as_given(builder.on_connection(serving));
            let (mut peer, mut other) = (server.connect(), server.connect());
            answer(&mut peer, 0, b"");
            let mut id = 0;
            hog.does_not_hold_up(way, || {
                id += 1;
                ask(&mut peer, id);
                ask(&mut other, id);
            });
            assert_eq!(request(&mut peer).0, 0, "the answer of the busy request");
        }
    }
}

#[test]
fn fifty_busy_requests_delay_neither_their_connection_nor_another() {
    let hog = Hog::default();
    let runs = hog.clone();
    let serving = mux::serve(codec(), async move |message: Message| {
        while message.id < 50 && runs.step() {
            match message.id % 2 {
                0 => yield_once().await,
                _ => sleep(Duration::ZERO).await,
            }
        }
        Ok(message)
    });
    let server = Server::start_as_given(one_poller().on_connection(serving));
    let (mut peer, mut other) = (server.connect(), server.connect());
    (0..50).for_each(|id| answer(&mut peer, id, b""));
    let mut id = 100;
    hog.does_not_hold_up("hogs", || {
        id += 1;
        ask(&mut peer, id);
        ask(&mut other, id);
    });
}

#[test]
fn endless_requests_answered_at_once_do_not_starve_another_connection() {
    let hog = Hog::default();
    let runs = hog.clone();
    let serving = mux::serve(codec(), async move |message: Message| {
        if message.id == 0 && !runs.step() {
            return Err("over".into());
        }
        Ok(message)
    });
    let server = Server::start_as_given(one_poller().on_connection(serving));
    let (peer, mut other) = (server.connect(), server.connect());
    let mut asks = Peer::of(peer.stream.try_clone().expect("a descriptor"));
    let asking = std::thread::spawn(move || {
        let request = [[0, 0, 0, 8].as_slice(), &[0; 8]].concat().repeat(100);
        while std::io::Write::write_all(&mut asks.stream, &request).is_ok() {}
    });
    let mut answers = peer.stream.try_clone().expect("a descriptor");
    let reading = std::thread::spawn(move || {
        while std::io::Read::read(&mut answers, &mut [0; 4096]).is_ok_and(|count| count > 0) {}
    });
    let mut id = 0;
    hog.does_not_hold_up("requests", || {
        id += 1;
        ask(&mut other, id);
    });
    reading.join().expect("no panic");
    drop(peer);
    asking.join().expect("no panic");
}
