// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that reset or close at any time, and handlers that outlive their connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use netpoll::{CloseReason, Connection};

use crate::support::{Gate, LIMIT, RESET, Server, block_on, bytes, errno_of, eventually, frame};

#[test]
fn a_reset_after_any_byte_affects_no_other_connection_and_keeps_its_errno() {
    let server = Server::rpc();
    let mut steady = server.connect();
    let request = frame(&bytes(20, 1));
    for cut in 0..request.len() {
        let mut peer = server.connect();
        peer.send(&request[..cut]);
        peer.reset();
        steady.call(b"still served");
        assert_eq!(errno_of(&server.ending()), Some(RESET), "after {cut} bytes");
    }
    steady.call(b"still served");
}

#[test]
fn a_reset_between_requests_closes_with_its_errno() {
    let server = Server::rpc();
    let mut peer = server.connect();
    peer.call(b"one");
    peer.reset();
    assert_eq!(errno_of(&server.ending()), Some(RESET));
}

#[test]
fn a_reset_while_an_answer_is_sent_affects_no_other_connection() {
    let server = Server::rpc();
    let mut steady = server.connect();
    for _ in 0..5 {
        let mut peer = server.connect();
        let sending = peer.send_aside(frame(&bytes(4 << 20, 1)));
        peer.receive(10);
        peer.reset();
        drop(sending.join());
        steady.call(b"still served");
        let errno = errno_of(&server.ending());
        assert!(errno.is_some(), "the errno is kept");
    }
}

#[test]
fn peers_that_close_with_requests_in_flight_affect_no_other_connection() {
    let server = Server::rpc();
    let mut steady = server.connect();
    for round in 0..50 {
        let mut peer = server.connect();
        for _ in 0..round {
            peer.send(&frame(&bytes(1000, 1)));
        }
        // With unread answers the kernel sends a reset, without them a FIN.
        drop(peer);
        steady.call(b"still served");
    }
    for _ in 0..50 {
        server.ending();
    }
}

/// Waits for input that never arrives and returns the errnos of all calls after the reset.
async fn outlive(conn: &mut Connection) -> Vec<Option<i32>> {
    let (mut reader, mut writer) = conn.split();
    let mut errnos = Vec::new();
    for _ in 0..2 {
        let waited = reader.wait(100).await;
        errnos.push(waited.expect_err("a reset").raw_os_error());
    }
    writer.put_slice(b"discarded");
    assert_eq!(writer.unsent(), 0, "puts are discarded");
    let flushed = writer.flush().await;
    errnos.push(flushed.expect_err("a reset").raw_os_error());
    let reserved = writer.reserve(4);
    errnos.push(reserved.expect_err("a reset").raw_os_error());
    errnos
}

#[test]
fn after_a_reset_every_call_returns_the_errno_and_the_handler_is_not_dropped() {
    let (sender, errnos) = channel();
    let handler = handler!([sender], |conn| {
        let errnos = outlive(conn).await;
        sender.send(errnos)?;
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    peer.reset();
    assert_eq!(errnos.recv_timeout(LIMIT).unwrap(), [Some(RESET); 4]);
    assert_eq!(errno_of(&server.ending()), Some(RESET));
}

#[test]
fn bytes_received_before_a_reset_stay_readable() {
    let arrived = Gate::default();
    let (sender, read) = channel();
    let at = arrived.clone();
    let handler = handler!([at, sender], |conn| {
        let mut reader = conn.reader();
        reader.wait(10).await?;
        at.open();
        reader.wait(100).await.expect_err("a reset");
        let words = reader.read_vec(10).await?;
        sender.send(words)?;
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"last words");
    block_on(arrived.pass());
    peer.reset();
    assert_eq!(read.recv_timeout(LIMIT).unwrap(), b"last words");
    assert_eq!(errno_of(&server.ending()), Some(RESET));
}

#[test]
fn bytes_in_the_kernel_before_a_reset_are_delivered_first() {
    let (release, released) = channel::<()>();
    let (sender, read) = channel();
    let released = Arc::new(Mutex::new(released));
    let handler = handler!([released, sender], |conn| {
        let word = conn.reader().read_vec(10).await?;
        sender.send(word.clone())?;
        if word == *b"hold still" {
            // Blocks the poller.
            released.lock().unwrap().recv()?;
        }
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let (mut holder, mut peer) = (server.connect(), server.connect());
    holder.send(b"hold still");
    assert_eq!(read.recv_timeout(LIMIT).unwrap(), b"hold still");
    peer.send(b"last words");
    peer.reset();
    release.send(()).unwrap();
    assert_eq!(read.recv_timeout(LIMIT).unwrap(), b"last words");
    assert_eq!(errno_of(&server.ending()), Some(RESET));
}

#[test]
fn on_disconnect_runs_after_the_handler_returns() {
    let observed = Arc::new(AtomicBool::new(false));
    let (gate, at_error) = (Gate::default(), Gate::default());
    let (at, erred, seen) = (gate.clone(), at_error.clone(), Arc::clone(&observed));
    let handler = handler!([at, seen, erred], |conn| {
        conn.reader().wait(100).await.expect_err("a reset");
        assert!(
            !seen.load(Ordering::SeqCst),
            "on_disconnect ran before the handler had the error"
        );
        at.pass().await;
        assert!(
            !seen.load(Ordering::SeqCst),
            "on_disconnect ran before the handler returned"
        );
        erred.open();
        Ok(())
    });
    let observer = Arc::clone(&observed);
    let server = Server::start_observed(
        crate::support::builder().pollers(1),
        handler,
        move |_, _| {
            observer.store(true, Ordering::SeqCst);
        },
    );
    let mut peer = server.connect();
    peer.send(b"?");
    peer.reset();
    eventually("a waiting handler", || gate.is_waited_at());
    assert!(
        !observed.load(Ordering::SeqCst),
        "on_disconnect ran while the handler ran"
    );
    gate.open();
    block_on(at_error.pass());
    eventually("on_disconnect", || observed.load(Ordering::SeqCst));
}

#[test]
fn a_late_handler_error_does_not_replace_the_close_reason() {
    let handler = async |conn: &mut Connection| {
        conn.reader().wait(100).await.expect_err("a reset");
        Err("too late".into())
    };
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    peer.reset();
    assert_eq!(errno_of(&server.ending()), Some(RESET));
}

#[test]
fn a_late_handler_panic_does_not_replace_the_close_reason() {
    let handler = async |conn: &mut Connection| {
        conn.close();
        conn.reader().wait(100).await.expect_err("a close");
        panic!("too late");
    };
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::Local));
}

#[test]
fn a_reset_during_a_close_does_not_replace_the_close_reason() {
    let handler = async |_: &mut Connection| Err("the first cause".into());
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    assert_eq!(peer.receive_all().unwrap(), b"");
    peer.reset();
    assert!(matches!(server.ending(), CloseReason::Handler(_)));
}
