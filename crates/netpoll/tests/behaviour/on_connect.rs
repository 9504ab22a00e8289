// SPDX-License-Identifier: MIT OR Apache-2.0
//! `on_connect`, the first call of a connection, and the value that it attaches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use netpoll::{BoxError, CloseReason, Connection};

use crate::support::{
    AnyBuilder, Gate, Greeted, GreetedWhole, LIMIT, Peer, Server, builder, bytes, eventually,
    frame, rpc,
};

fn one_poller() -> AnyBuilder {
    builder().pollers(1)
}

/// Accepts a connection whose first line is `hello`.
async fn hello(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    if reader.until(b'\n', 10).await? != b"hello\n" {
        writer.put_str("go away\n");
        return Err("a stranger".into());
    }
    writer.put_str("welcome\n");
    Ok(())
}

/// Returns a server whose `on_connect` waits at a gate, and its peer.
fn held_at_a_gate() -> (Server, Peer, Gate) {
    let gate = Gate::default();
    let at = gate.clone();
    let greet = handler!([at], |_conn| {
        at.pass().await;
        Ok(())
    });
    let server = Server::start(one_poller(), Greeted(greet, rpc));
    let peer = server.connect();
    eventually("the wait", || gate.is_waited_at());
    (server, peer, gate)
}

/// Shuts down, and checks that `on_disconnect` runs for no further connection.
fn expect_no_on_disconnect(mut server: Server) {
    let endings = server.take_endings();
    server.shut_down(LIMIT);
    assert_eq!(endings.iter().count(), 0);
}

#[test]
fn on_connect_reads_and_writes_before_any_request() {
    let server = Server::start(one_poller(), Greeted(hello, rpc));
    let mut peer = server.connect();
    peer.send(b"hel");
    peer.send(&[&b"lo\n"[..], &frame(b"one")].concat());
    assert_eq!(peer.receive(8), b"welcome\n");
    assert_eq!(peer.receive(7), frame(b"one"));
    peer.call(b"two");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn on_connect_runs_before_a_connection_handler() {
    let echo = async |mut conn: Connection| {
        while let Some(chunk) = conn.reader().chunk().await? {
            conn.writer().append(chunk);
        }
        Ok(())
    };
    let server = Server::start(one_poller(), GreetedWhole(hello, echo));
    for early in [&b"hello\nand more"[..], b"hello\n"] {
        let mut peer = server.connect();
        peer.send(early);
        assert_eq!(peer.receive(8), b"welcome\n");
        peer.send(b", later");
        peer.finish();
        let all = [&early[6..], b", later"].concat();
        assert_eq!(peer.receive_all().unwrap(), all);
        assert!(matches!(server.ending(), CloseReason::PeerFin));
    }
}

#[test]
fn a_slow_on_connect_delays_requests_and_loses_none() {
    let (server, mut peer, gate) = held_at_a_gate();
    let requests: Vec<u8> = (0..300).flat_map(|n| frame(&bytes(n * 7, 1))).collect();
    let sending = peer.send_aside(requests.clone());
    let mut other = server.connect();
    other.send(&frame(b"not yet"));
    gate.open();
    assert_eq!(other.receive(11), frame(b"not yet"));
    assert!(peer.receive(requests.len()) == requests);
    sending.join().unwrap().unwrap();
}

#[test]
fn a_peer_that_on_connect_refuses_is_answered_without_on_disconnect() {
    let server = Server::start(one_poller(), Greeted(hello, rpc));
    let mut peer = server.connect();
    peer.send(b"let me\nin");
    assert_eq!(peer.receive_all().unwrap(), b"go away\n");
    expect_no_on_disconnect(server);
}

#[test]
fn a_connection_handler_is_not_called_when_on_connect_refuses() {
    let never = async |_: Connection| panic!("called for a refused connection");
    let server = Server::start(one_poller(), GreetedWhole(hello, never));
    let mut peer = server.connect();
    peer.send(b"let me\nin");
    assert_eq!(peer.receive_all().unwrap(), b"go away\n");
    expect_no_on_disconnect(server);
}

#[test]
fn a_panic_of_on_connect_closes_its_connection_without_on_disconnect() {
    let greet = async |conn: &mut Connection| {
        assert_eq!(
            conn.reader().read_u8().await?,
            b'h',
            "requested by the test"
        );
        Ok(())
    };
    let server = Server::start(one_poller(), Greeted(greet, rpc));
    let (mut steady, mut peer) = (server.connect(), server.connect());
    steady.send(b"h");
    steady.call(b"in");
    peer.send(b"x");
    assert_eq!(peer.receive_all().unwrap(), b"");
    steady.call(b"still here");
    drop((peer, steady));
    assert!(matches!(server.ending(), CloseReason::PeerFin));
    expect_no_on_disconnect(server);
}

#[test]
fn a_request_and_a_fin_received_during_on_connect_get_the_whole_answer() {
    let (server, mut peer, gate) = held_at_a_gate();
    peer.send(&frame(b"the only one"));
    peer.finish();
    gate.open();
    assert_eq!(peer.receive_all().unwrap(), frame(b"the only one"));
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn a_fin_during_on_connect_ends_the_connection_after_it() {
    let (server, mut peer, gate) = held_at_a_gate();
    peer.finish();
    gate.open();
    assert_eq!(peer.receive_all().unwrap(), b"");
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn netpoll_307_hazard_b13_a_peer_lost_during_on_connect_gets_each_callback_once() {
    let greeted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&greeted);
    let greet = handler!([count], |conn| {
        conn.writer().put_str("welcome\n");
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let mut server = Server::start(builder().pollers(2), Greeted(greet, rpc));
    for round in 0..200 {
        let peer = server.connect();
        match round % 3 {
            0 => peer.reset(),
            1 => peer.finish(),
            _ => drop(peer),
        }
    }
    eventually("all connections accepted", || {
        server.handle.accept_stats().accepted == 200
    });
    eventually("no connection", || server.handle.connections() == 0);
    let endings = server.take_endings();
    server.shut_down(LIMIT);
    assert_eq!(greeted.load(Ordering::SeqCst), 200);
    assert_eq!(endings.iter().count(), 200);
}

#[test]
fn a_reset_during_on_connect_is_reported_after_it_returns() {
    let (server, peer, gate) = held_at_a_gate();
    peer.reset();
    let mut other = server.connect();
    gate.open();
    other.call(b"in");
    server.ending();
}

#[test]
fn an_aborted_on_connect_is_counted_without_on_disconnect() {
    let (mut server, _peer, _gate) = held_at_a_gate();
    let endings = server.take_endings();
    assert_eq!(server.shut_down(Duration::from_millis(20)), 1);
    assert_eq!(endings.iter().count(), 0);
}

#[test]
fn a_connection_closed_by_on_connect_gets_no_request_call() {
    let greet = async |conn: &mut Connection| {
        conn.writer().put_str("closed today\n");
        conn.close();
        Ok(())
    };
    let never = async |_: &mut Connection| panic!("called for a closed connection");
    let server = Server::start(one_poller(), Greeted(greet, never));
    let mut peer = server.connect();
    peer.send(&frame(b"one"));
    assert_eq!(peer.receive_all().unwrap(), b"closed today\n");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::Local));
}

/// Counts its drops, and panics in them if `panics` is set.
struct Counted {
    requests: u8,
    drops: Arc<AtomicUsize>,
    panics: bool,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics, "requested by the test");
    }
}

/// Answers with the number of earlier requests, as a byte.
async fn numbered(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer, state) = conn.split_with::<Counted>()?;
    reader.skip(1).await?;
    writer.put_u8(state.requests);
    state.requests += 1;
    Ok(())
}

#[test]
fn an_attached_value_reaches_every_call_and_is_dropped_once_with_its_connection() {
    let drops = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&drops);
    let greet = handler!([counter], |conn| {
        let replaced = conn.attach(Counted {
            requests: 0,
            drops: counter,
            panics: false,
        });
        assert!(replaced.is_none());
        Ok(())
    });
    let (sender, seen) = channel();
    let observer = move |conn: &mut Connection, _: &CloseReason| {
        let requests = conn.attached::<Counted>().map(|state| state.requests);
        assert!(
            conn.attached::<String>().is_none(),
            "a value of another type"
        );
        sender.send(requests).expect("a test that waits");
    };
    let server = Server::start_observed(one_poller(), Greeted(greet, numbered), observer);
    let mut peers: Vec<Peer> = (0..3).map(|_| server.connect()).collect();
    for number in 0..5 {
        for peer in &mut peers {
            peer.send(b"?");
            assert_eq!(peer.receive(1), [number]);
        }
    }
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    for gone in 1..=3 {
        drop(peers.pop());
        assert_eq!(seen.recv_timeout(LIMIT).unwrap(), Some(5));
        eventually("the drop", || drops.load(Ordering::SeqCst) == gone);
    }
    server.shut_down(LIMIT);
    assert_eq!(drops.load(Ordering::SeqCst), 3);
}

#[test]
fn a_panic_in_the_drop_of_an_attached_value_affects_no_other_connection() {
    let drops = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&drops);
    let greet = handler!([counter], |conn| {
        conn.attach(Counted {
            requests: 0,
            drops: counter,
            panics: true,
        });
        Ok(())
    });
    let server = Server::start(one_poller(), Greeted(greet, numbered));
    for _ in 0..3 {
        let mut peer = server.connect();
        peer.send(b"?");
        assert_eq!(peer.receive(1), [0]);
        drop(peer);
        assert!(matches!(server.ending(), CloseReason::PeerFin));
    }
    let _closed_by_shutdown = server.connect();
    eventually("the last connection", || server.handle.connections() == 1);
    assert_eq!(server.shut_down(LIMIT), 0);
    assert_eq!(drops.load(Ordering::SeqCst), 4);
}
