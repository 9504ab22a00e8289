// SPDX-License-Identifier: MIT OR Apache-2.0
//! An abort resets the peer at once, even while other code holds the connection.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use netpoll::buffer::LinkBuffer;
use netpoll::codec::LengthField;
use netpoll::connection::{ConnectionHandle, Liveness};
use netpoll::options::ConnOptions;
use netpoll::pool::ConnPool;
use netpoll::{CloseReason, Connection, Dialer, mux};

use crate::support::{
    Gate, Host, Kind, LIMIT, Peer, Server, block_on, bytes, eventually, pair, pair_with, poll_once,
};

/// Aborts on another thread, and drops `holder` only after the peer has been reset.
fn abort_while_held<T>(holder: T, handle: &ConnectionHandle, mut peer: Peer) {
    let handle = handle.clone();
    let aborting = std::thread::spawn(move || handle.abort());
    aborting.join().expect("no panic");
    peer.expect_reset();
    drop(holder);
}

#[test]
fn an_abort_reaches_the_peer_while_an_owner_keeps_the_connection() {
    let (conn, peer) = pair();
    let handle = conn.handle();
    abort_while_held(conn, &handle, peer);
    let (conn, peer) = pair();
    let handle = conn.handle();
    abort_while_held(conn.into_split(), &handle, peer);
}

#[test]
fn an_abort_through_the_connection_itself_reaches_the_peer() {
    let (conn, mut peer) = pair();
    conn.abort();
    assert_eq!(conn.liveness(), Liveness::Closed);
    peer.expect_reset();
    conn.abort();
    drop(conn);
}

#[test]
fn an_abort_reaches_the_peer_while_waits_of_both_halves_are_kept() {
    let (conn, peer) = pair();
    let handle = conn.handle();
    let (mut reader, mut writer) = conn.into_split();
    let mut input = reader.reader();
    let mut output = writer.writer();
    output.put_slice(&bytes(7 << 20, 1));
    let mut waits = Box::pin(input.wait(1));
    let mut flush = Box::pin(output.flush());
    assert!(poll_once(waits.as_mut()).is_pending());
    assert!(poll_once(flush.as_mut()).is_pending());
    let handle_too = handle.clone();
    let closed = handle.closed();
    abort_while_held((&mut waits, &mut flush, closed), &handle_too, peer);
    assert!(block_on(waits).is_err());
    assert!(block_on(flush).is_err());
}

#[test]
fn an_abort_reaches_the_peer_with_input_unread_output_unsent_or_a_direction_ended() {
    let prepare: [fn(&mut Connection, &mut Peer); 4] = [
        |_, peer| peer.send(&bytes(100_000, 1)),
        |conn, _| conn.writer().put_slice(&bytes(7 << 20, 1)),
        |_, peer| peer.finish(),
        |conn, _| conn.writer().put_slice(b"the last output"),
    ];
    for prepare in prepare {
        let (mut conn, mut peer) = pair();
        prepare(&mut conn, &mut peer);
        let handle = conn.handle();
        abort_while_held(conn, &handle, peer);
    }
    let (mut conn, mut peer) = pair();
    conn.writer().shutdown();
    assert_eq!(peer.receive_all().unwrap(), b"");
    conn.abort();
    if crate::support::kind() == Kind::Tcp {
        // The peer has read the FIN already; its next write fails with the reset.
        eventually("a reset", || {
            std::io::Write::write(&mut &peer.stream, b"x").is_err()
        });
    }
    drop(conn);
}

#[test]
fn an_abort_reaches_the_peer_of_a_client_and_of_a_pooled_connection() {
    let (conn, peer) = pair();
    let handle = conn.handle();
    let client = mux::Client::new(conn, mux::Numbered::new(LengthField::new()));
    let mut request = LinkBuffer::new();
    request.put_str("never answered");
    let mut call = Box::pin(client.call(request.into()));
    assert!(poll_once(call.as_mut()).is_pending());
    abort_while_held(&client, &handle, peer);
    assert!(block_on(call).is_err());

    let host = Host::new();
    let pool = ConnPool::new(Dialer::new());
    let pooled = block_on(pool.get(host.addr)).unwrap();
    let (handle, peer) = (pooled.handle(), host.accept());
    abort_while_held(pooled, &handle, peer);
}

/// A server whose handler sends its handle, and then blocks its thread until the test resumes it.
fn blocking_server(
    returns: Result<(), &'static str>,
) -> (Server, Receiver<ConnectionHandle>, Sender<()>) {
    let (sender, handles) = channel();
    let (resume, resumed) = channel::<()>();
    let resumed = Arc::new(Mutex::new(resumed));
    let handler = handler!([sender, resumed], |conn| {
        conn.reader().skip(1).await?;
        sender.send(conn.handle())?;
        match resumed
            .lock()
            .expect("no panic under it")
            .recv_timeout(LIMIT)
        {
            Err(RecvTimeoutError::Timeout) => Err("the test did not resume the handler".into()),
            _ => Ok(returns?),
        }
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    (server, handles, resume)
}

#[test]
fn an_abort_reaches_the_peer_while_a_handler_blocks_its_thread() {
    let (server, handles, resume) = blocking_server(Ok(()));
    let mut peer = server.connect();
    peer.send(b"?");
    let handle = handles.recv_timeout(LIMIT).unwrap();
    handle.abort();
    peer.expect_reset();
    assert_eq!(handle.liveness(), Liveness::Closed);
    resume.send(()).unwrap();
    // Not the error that the kernel returns for a read of a reset socket.
    let reason = server.ending();
    assert!(matches!(reason, CloseReason::Local), "{reason:?}");
}

#[test]
fn an_error_that_a_handler_returns_after_an_abort_is_the_close_reason() {
    let (server, handles, resume) = blocking_server(Err("mine"));
    let mut peer = server.connect();
    peer.send(b"?");
    handles.recv_timeout(LIMIT).unwrap().abort();
    peer.expect_reset();
    resume.send(()).unwrap();
    let reason = server.ending();
    assert!(matches!(reason, CloseReason::Handler(_)), "{reason:?}");
}

#[test]
fn a_poller_sleeps_while_a_handler_holds_an_aborted_connection() {
    let gate = Gate::default();
    let at = gate.clone();
    let (sender, handles) = channel();
    let handler = handler!([at, sender], |conn| {
        conn.reader().skip(1).await?;
        sender.send(conn.handle())?;
        at.pass().await;
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    let handle = handles.recv_timeout(LIMIT).unwrap();
    eventually("the wait", || gate.is_waited_at());
    handle.abort();
    peer.expect_reset();
    let waits = || server.handle.stats().total().waits;
    let before = waits();
    std::thread::sleep(Duration::from_millis(100));
    let after = waits();
    assert!(
        after - before < 50,
        "{} waits while nothing happens",
        after - before
    );
    gate.open();
    assert!(matches!(server.ending(), CloseReason::Local));
}

#[test]
fn an_owner_that_aborts_and_then_waits_resets_the_peer() {
    let gate = Gate::default();
    let at = gate.clone();
    let server = Server::start(
        crate::support::builder().pollers(1),
        whole!([at], |conn| {
            conn.abort();
            at.pass().await;
            drop(conn);
            Ok(())
        }),
    );
    let mut peer = server.connect();
    peer.expect_reset();
    eventually("the wait", || gate.is_waited_at());
    gate.open();
    assert!(matches!(server.ending(), CloseReason::Local));
}

#[test]
fn an_aborted_connection_keeps_its_addresses() {
    let (sender, known) = channel();
    let handler = handler!([sender], |conn| {
        conn.reader().skip(1).await?;
        let before = (conn.local_addr()?, conn.peer_addr());
        conn.abort();
        sender.send((before, (conn.local_addr()?, conn.peer_addr())))?;
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    let (before, after) = known.recv_timeout(LIMIT).unwrap();
    assert_eq!(before, after);
    let (conn, mut peer) = pair();
    let before = (conn.local_addr().unwrap(), conn.peer_addr());
    conn.abort();
    peer.expect_reset();
    assert_eq!(before, (conn.local_addr().unwrap(), conn.peer_addr()));
}

#[test]
fn an_abort_that_races_with_pushes_ends_with_reason_local() {
    let options = ConnOptions::for_dialing().max_output(usize::MAX);
    let dialer = Dialer::new().options(options);
    for _ in 0..30 {
        let (mut conn, mut peer) = pair_with(&dialer);
        let handle = conn.handle();
        let pushing = {
            let handle = handle.clone();
            std::thread::spawn(move || {
                let block = Bytes::from(vec![1; 10_000]);
                while handle.push(block.clone()).is_ok() {
                    std::thread::yield_now();
                }
            })
        };
        peer.send(&bytes(100_000, 1));
        handle.abort();
        let reason = block_on(handle.closed());
        assert!(matches!(reason, CloseReason::Local), "{reason:?}");
        let error = block_on(conn.reader().wait(4 << 20)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
        pushing.join().unwrap();
        peer.expect_reset();
        drop(conn);
    }
}

#[test]
fn an_abort_does_not_reset_a_socket_that_into_fd_returned() {
    for _ in 0..50 {
        let (conn, mut peer) = pair();
        let handle = conn.handle();
        let (fd, _unread) = block_on(conn.into_fd()).unwrap();
        handle.abort();
        let stream = socket2::Socket::from(fd);
        std::io::Write::write_all(&mut &stream, b"still there").unwrap();
        assert_eq!(peer.receive(11), b"still there");
        peer.send(b"and here");
        drop(stream);
    }
}

#[test]
fn an_abort_that_races_with_into_fd_fails_it_or_leaves_the_socket_open() {
    let mut taken = 0;
    for round in 0..100 {
        let (conn, mut peer) = pair();
        let handle = conn.handle();
        let aborting = std::thread::spawn(move || {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_micros(round * 2) {
                std::hint::spin_loop();
            }
            handle.abort();
        });
        if let Ok((fd, _unread)) = block_on(conn.into_fd()) {
            aborting.join().unwrap();
            taken += 1;
            let stream = socket2::Socket::from(fd);
            std::io::Write::write_all(&mut &stream, b"mine").unwrap();
            assert_eq!(peer.receive(4), b"mine");
        } else {
            aborting.join().unwrap();
            peer.expect_reset();
        }
    }
    assert!(taken <= 100);
}

#[test]
fn a_read_of_a_connection_handler_fails_when_another_thread_aborts() {
    let (sender, handles) = channel();
    let server = Server::start(
        crate::support::builder().pollers(1),
        whole!([sender], |mut conn| {
            sender.send(conn.handle())?;
            let error = conn.reader().wait(1).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
            Ok(())
        }),
    );
    let mut peer = server.connect();
    handles.recv_timeout(LIMIT).unwrap().abort();
    peer.expect_reset();
    assert!(matches!(server.ending(), CloseReason::Local));
}
