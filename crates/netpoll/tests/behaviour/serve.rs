// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Connection::serve`: a handler for an owned connection.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use netpoll::{CloseReason, Connection, Dialer, EventLoop};

use crate::support::{
    Gate, LIMIT, Server, block_on, bytes, eventually, frame, pair, poll_once, rpc,
};

#[test]
fn a_dialed_connection_can_serve_requests() {
    let (conn, mut peer) = pair();
    let handle = conn.serve(rpc);
    for size in [0, 1, 1000, 100_000] {
        peer.call_aside(&bytes(size, 3));
    }
    handle.push("by the way".into()).unwrap();
    assert_eq!(peer.receive(10), b"by the way");
    let over = handle.closed();
    peer.finish();
    assert!(matches!(block_on(over), CloseReason::PeerFin));
    assert_eq!(peer.receive_all().unwrap(), b"");
}

#[test]
fn input_received_before_serve_is_served_at_once() {
    let requests = [frame(b"one"), frame(b"two")].concat();
    let leave: [fn(&mut Connection, usize); 3] = [
        // Received into the input buffer and not touched.
        |conn, size| eventually("all input", || conn.reader().available() == size),
        // Taken by a read of the owner and not consumed.
        |conn, size| block_on(conn.reader().wait(size)).unwrap(),
        // Returned by a dropped wait.
        |conn, size| {
            block_on(conn.reader().wait(size)).unwrap();
            let mut reader = conn.reader();
            let waiting = std::pin::pin!(reader.wait(size + 1));
            assert!(poll_once(waiting).is_pending());
        },
    ];
    for leave in leave {
        for finish in [false, true] {
            let (mut conn, mut peer) = pair();
            conn.attach(7_u8);
            peer.send(&requests);
            leave(&mut conn, requests.len());
            if finish {
                peer.finish();
                block_on(conn.closed());
            }
            conn.serve(async |conn: &mut Connection| {
                assert_eq!(conn.attached::<u8>(), Some(&mut 7));
                rpc(conn).await
            });
            assert_eq!(peer.receive(requests.len()), requests);
            if !finish {
                peer.finish();
            }
            assert_eq!(peer.receive_all().unwrap(), b"");
        }
    }
}

#[test]
fn a_handler_can_pass_its_connection_to_another_handler() {
    let gate = Gate::default();
    let at = gate.clone();
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_connection(
        async move |mut conn: Connection| {
            assert_eq!(conn.reader().next(5).await?, b"hello");
            conn.writer().put_str("welcome");
            conn.serve(rpc);
            // The new handler starts when this one has returned.
            at.pass().await;
            Ok(())
        },
    ));
    let mut peer = server.connect();
    peer.send(b"hello");
    peer.send(&frame(b"early"));
    assert_eq!(peer.receive(7), b"welcome");
    eventually("a waiting handler", || gate.is_waited_at());
    gate.open();
    assert_eq!(peer.receive(9), frame(b"early"));
    peer.call(b"late");
    assert_eq!(server.handle.connections(), 1);
    peer.finish();
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn a_connection_served_during_a_drain_closes_with_the_drain() {
    let gate = Gate::default();
    let at = gate.clone();
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_connection(
        async move |conn: Connection| {
            at.pass().await;
            conn.serve(rpc);
            Ok(())
        },
    ));
    let mut peer = server.connect();
    eventually("a waiting handler", || gate.is_waited_at());
    peer.send(&frame(b"early"));
    let shutdown = server.handle.shutdown(10 * LIMIT);
    gate.open();
    assert_eq!(peer.receive_all().unwrap(), frame(b"early"));
    drop(peer);
    assert_eq!(shutdown.wait(), 0);
}

#[test]
fn a_connection_dialed_on_a_draining_loop_is_served_and_drained() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream: netpoll::Addr = listener.local_addr().unwrap().into();
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let gate = Gate::default();
    let at = gate.clone();
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let dialed = Dialer::new().dial(upstream).await?;
            sender.lock().unwrap().send(dialed)?;
            at.pass().await;
            Ok(())
        },
    ));
    let mut peer = server.connect();
    peer.send(b"?");
    let dialed = receiver.recv_timeout(LIMIT).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.set_read_timeout(Some(LIMIT)).unwrap();
    std::io::Write::write_all(&mut accepted, &frame(b"early")).unwrap();
    let shutdown = server.handle.shutdown(10 * LIMIT);
    eventually("a closed port", || {
        crate::support::Peer::try_connect(server.addr).is_err()
    });
    dialed.serve(rpc);
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut accepted, &mut all).unwrap();
    assert_eq!(all, frame(b"early"));
    gate.open();
    assert_eq!(peer.receive_all().unwrap(), b"");
    assert_eq!(shutdown.wait(), 0);
}

#[test]
fn a_connection_dialed_on_a_poller_is_served_there() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let upstream = Server::start_as_given(EventLoop::builder().pollers(1).on_connection(
        async |mut conn: Connection| {
            conn.writer().put_str("?");
            assert_eq!(conn.reader().next(1).await?, b"!");
            Ok(())
        },
    ));
    let addr = upstream.addr;
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let dialed = Dialer::new().dial(addr).await?;
            let (poller, sender) = (std::thread::current().id(), sender.lock().unwrap().clone());
            dialed.serve(async move |conn: &mut Connection| {
                conn.reader().skip(1).await?;
                conn.writer().put_str("!");
                sender.send(std::thread::current().id() == poller)?;
                Ok(())
            });
            Ok(())
        },
    ));
    let mut peer = server.connect();
    peer.send(b"go");
    assert!(receiver.recv_timeout(LIMIT).unwrap());
    assert!(receiver.recv_timeout(LIMIT).unwrap());
    upstream.ending();
}

#[test]
fn a_failing_handler_closes_only_its_connection() {
    let ((conn, mut peer), (other, mut other_peer)) = (pair(), pair());
    other.serve(rpc);
    let failing = conn.serve(async |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        Err("failed".into())
    });
    let over = failing.closed();
    peer.send(b"?");
    assert!(matches!(block_on(over), CloseReason::Handler(_)));
    other_peer.call(b"still served");
}

/// A value that sends a message in its drop.
struct SendsOnDrop(std::sync::mpsc::Sender<()>);

impl Drop for SendsOnDrop {
    fn drop(&mut self) {
        self.0.send(()).ok();
    }
}

#[test]
fn serve_on_a_closed_connection_drops_the_handler_and_leaks_nothing() {
    for round in 0..60 {
        let (sender, receiver) = channel();
        let on_drop = SendsOnDrop(sender);
        let (conn, peer) = pair();
        let handle = conn.handle();
        match round % 3 {
            0 => {
                handle.abort();
                assert!(matches!(block_on(conn.closed()), CloseReason::Local));
            }
            1 => {
                let aborting = handle.clone();
                std::thread::spawn(move || aborting.abort());
            }
            _ => {
                peer.reset();
                block_on(conn.closed());
            }
        }
        conn.serve(async move |conn: &mut Connection| {
            let _held = &on_drop;
            rpc(conn).await
        });
        receiver
            .recv_timeout(LIMIT)
            .expect("the drop of the handler");
        eventually("a freed connection", || handle.timeouts().is_none());
    }
}
