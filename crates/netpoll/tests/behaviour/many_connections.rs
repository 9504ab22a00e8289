// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many connections: concurrently, in succession, and with reused descriptors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{
    LIMIT, Peer, Server, alone_twice, bytes, eventually, frame, open_descriptors, rpc,
};

#[test]
fn a_thousand_concurrent_connections_are_all_served() {
    let limit = netpoll_sys::process::raise_descriptor_limit().unwrap();
    let count = usize::try_from(limit / 4).map_or(1000, |quarter| quarter.min(1000));
    let server = Server::start(crate::support::builder().pollers(2), rpc);
    let mut peers: Vec<Peer> = (0..count).map(|_| server.connect()).collect();
    for round in 0..3 {
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.send(&frame(&bytes(index, round)));
        }
        for (index, peer) in peers.iter_mut().enumerate() {
            let answer = frame(&bytes(index, round));
            assert!(peer.receive(answer.len()) == answer, "peer {index}");
        }
    }
    assert_eq!(server.handle.connections(), count);
    drop(peers);
    eventually("no connection", || server.handle.connections() == 0);
}

#[test]
fn churn_leaves_no_connection_and_no_descriptor() {
    alone_twice(
        "everywhere::many_connections::churn_leaves_no_connection_and_no_descriptor",
        || {
            let server = Server::start(crate::support::builder().pollers(2), rpc);
            server.connect().call(b"one");
            eventually("no connection", || server.handle.connections() == 0);
            let before = open_descriptors();
            for round in 0..2000 {
                let mut peer = server.connect();
                match round % 5 {
                    0 => drop(peer),
                    1 => peer.reset(),
                    2 => peer.call(b"one"),
                    3 => peer.send(&frame(b"half of it")[..7]),
                    _ => {
                        peer.send(&frame(b"and no answer read"));
                        peer.reset();
                    }
                }
            }
            eventually("no connection", || server.handle.connections() == 0);
            eventually("as many descriptors as before", || {
                open_descriptors() <= before
            });
            let mut after = server.connect();
            after.call(b"still here");
        },
    );
}

#[test]
fn reused_descriptors_do_not_disturb_other_connections() {
    let server = Server::start(crate::support::builder().pollers(1), rpc);
    let stop = Arc::new(AtomicBool::new(false));
    let pinging: Vec<_> = (0..4)
        .map(|seed| {
            let (mut peer, stop) = (server.connect(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut calls = 0;
                while !stop.load(Ordering::SeqCst) {
                    peer.call(&bytes(50, seed));
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for round in 0..300 {
        let mut brief: Vec<Peer> = (0..3).map(|_| server.connect()).collect();
        for peer in &mut brief {
            peer.send(&frame(&bytes(round, 1)));
        }
        if round % 2 == 0 {
            brief.into_iter().for_each(Peer::reset);
        }
    }
    stop.store(true, Ordering::SeqCst);
    for peer in pinging {
        assert!(peer.join().unwrap() > 0);
    }
    eventually("no connection", || server.handle.connections() == 0);
}

#[test]
fn connections_that_send_concurrently_get_their_own_answers() {
    let server = Server::start(crate::support::builder().pollers(2), rpc);
    let threads: Vec<_> = (0..16)
        .map(|seed| {
            let mut peer = server.connect();
            std::thread::spawn(move || {
                for round in 0..40 {
                    peer.call(&bytes(round * 251, seed));
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(server.shut_down(LIMIT), 0);
}
