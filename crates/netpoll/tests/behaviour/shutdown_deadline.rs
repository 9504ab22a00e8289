// SPDX-License-Identifier: MIT OR Apache-2.0
//! A shutdown that reaches its deadline.

use std::time::{Duration, Instant};

use netpoll::{CloseReason, Connection};

use crate::support::{Gate, LIMIT, Peer, Server, eventually, rpc};

#[test]
fn a_handler_that_never_returns_is_aborted_at_the_deadline_and_counted() {
    let handler = async |conn: &mut Connection| {
        if rpc(conn).await.is_ok() {
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let mut server = Server::start(crate::support::builder().pollers(1), handler);
    let (mut idle, mut stuck, mut stuck_too) =
        (server.connect(), server.connect(), server.connect());
    stuck.call(b"one");
    stuck_too.call(b"one");
    let shutdown = server.handle.shutdown(Duration::from_millis(50));
    assert_eq!(idle.receive_all().unwrap(), b"");
    assert_eq!(shutdown.wait(), 2);
    for mut peer in [stuck, stuck_too] {
        assert!(matches!(peer.receive_all().as_deref(), Ok([]) | Err(_)));
    }
    let endings = server.take_endings();
    drop(server);
    let shut = |(_, reason): &(_, CloseReason)| matches!(reason, CloseReason::Shutdown);
    assert_eq!(endings.iter().filter(shut).count(), 3);
}

/// Returns a server, and a peer whose request waits at a gate.
fn held_at_a_gate() -> (Server, Peer, Gate) {
    let gate = Gate::default();
    let at = gate.clone();
    let handler = handler!([at], |conn| {
        conn.reader().skip(1).await?;
        at.pass().await;
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    eventually("the wait", || gate.is_waited_at());
    (server, peer, gate)
}

#[test]
fn an_aborted_peer_sees_the_end_while_a_waker_of_its_handler_is_held() {
    let (server, mut peer, gate) = held_at_a_gate();
    assert_eq!(server.shut_down(Duration::from_millis(1)), 1);
    assert_eq!(peer.receive_all().unwrap(), b"");
    assert!(gate.is_waited_at(), "the waker is still held");
}

#[test]
fn the_first_shutdown_sets_the_deadline_and_all_return_the_same_count() {
    let (server, _peer, _gate) = held_at_a_gate();
    let shutdowns = [
        server.handle.shutdown(Duration::from_millis(50)),
        server.handle.shutdown(Duration::from_secs(3600)),
        server.handle.clone().shutdown(Duration::MAX),
    ];
    for shutdown in shutdowns {
        assert_eq!(shutdown.wait(), 1);
    }
    assert_eq!(server.handle.shutdown(Duration::ZERO).wait(), 1);
}

#[test]
fn a_shutdown_with_zero_time_aborts_at_once() {
    let (server, _peer, _gate) = held_at_a_gate();
    let begun = Instant::now();
    assert_eq!(server.shut_down(Duration::ZERO), 1);
    assert!(begun.elapsed() < LIMIT);
}
