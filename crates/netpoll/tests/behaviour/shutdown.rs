// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shutdown of a loop, graceful and forced.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use netpoll::{BoxError, CloseReason, Connection, EventLoop, Listener, LoopHandle};

use crate::support::{
    Gate, LIMIT, Peer, Server, Whole, block_on, bound, bytes, frame, free_listener, rpc,
};

/// A deadline that only a hanging shutdown reaches.
const LONG: Duration = LIMIT;

/// Counts the frames in `received`. Fails on an incomplete one.
fn whole_frames(received: &[u8], frame: &[u8]) -> usize {
    assert_eq!(received.len() % frame.len(), 0, "an incomplete answer");
    assert!(received.chunks(frame.len()).all(|answer| answer == frame));
    received.len() / frame.len()
}

#[test]
fn requests_in_the_kernel_are_answered_and_no_answer_is_truncated() {
    for round in 0..10 {
        let server = Server::start(crate::support::builder().pollers(2), rpc);
        let mut peers: Vec<Peer> = (0..20).map(|_| server.connect()).collect();
        let request = frame(&bytes(500, round));
        for peer in &mut peers {
            peer.call(b"known");
        }
        for peer in &mut peers {
            peer.send(&request.repeat(10));
        }
        let shutdown = server.handle.shutdown(LONG);
        for mut peer in peers {
            let received = peer.receive_all().unwrap();
            assert_eq!(whole_frames(&received, &request), 10);
        }
        assert_eq!(shutdown.wait(), 0);
    }
}

#[test]
fn continuous_requests_end_at_a_complete_answer() {
    let server = Server::start(crate::support::builder().pollers(2), rpc);
    let request = frame(&bytes(300, 9));
    let calling: Vec<_> = (0..4)
        .map(|_| {
            let (mut peer, request) = (server.connect(), request.clone());
            peer.call(b"known");
            std::thread::spawn(move || {
                let sending = peer.send_aside(request.repeat(20_000));
                let mut received = Vec::new();
                // The kernel may answer late requests after the FIN with a reset.
                let _end = std::io::Read::read_to_end(&mut peer.stream, &mut received);
                drop(peer);
                drop(sending.join());
                whole_frames(&received, &request)
            })
        })
        .collect();
    let shutdown = server.handle.shutdown(LONG);
    for call in calling {
        call.join().unwrap();
    }
    assert_eq!(shutdown.wait(), 0);
}

#[test]
fn idle_connections_close_with_the_reason_shutdown() {
    let mut server = Server::rpc();
    let mut peers: Vec<Peer> = (0..10).map(|_| server.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.call(b"one"));
    let shutdown = server.handle.shutdown(LONG);
    for mut peer in peers {
        assert_eq!(peer.receive_all().unwrap(), b"");
    }
    assert_eq!(shutdown.wait(), 0);
    let endings = server.take_endings();
    drop(server);
    let reasons: Vec<CloseReason> = endings.iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons.len(), 10);
    assert!(
        reasons
            .iter()
            .all(|reason| matches!(reason, CloseReason::Shutdown))
    );
}

/// Echoes its input chunk by chunk.
async fn echo(mut conn: Connection) -> Result<(), BoxError> {
    while let Some(chunk) = conn.reader().chunk().await? {
        conn.writer().append(chunk);
    }
    Ok(())
}

#[test]
fn a_waiting_connection_handler_is_notified_of_the_shutdown() {
    let server = Server::start(crate::support::builder().pollers(1), Whole(echo));
    let mut peer = server.connect();
    peer.send(b"echo");
    assert_eq!(peer.receive(4), b"echo");
    let shutdown = server.handle.shutdown(LONG);
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::Shutdown));
    assert_eq!(shutdown.wait(), 0);
}

#[test]
fn a_connection_handler_reads_data_in_the_kernel_before_the_shutdown_notice() {
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let held = Gate::default();
    let at = held.clone();
    let handler = whole!([at, released], |mut conn| {
        while let Some(mut chunk) = conn.reader().chunk().await? {
            if chunk.peek(1)?[0] == b'h' {
                at.open();
                released.lock().unwrap().recv()?;
            }
            conn.writer().append(chunk);
        }
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let (mut holder, mut peer) = (server.connect(), server.connect());
    peer.send(b"x");
    assert_eq!(peer.receive(1), b"x");
    holder.send(b"h");
    block_on(held.pass());
    peer.send(b"in the kernel");
    let shutdown = server.handle.shutdown(LONG);
    release.send(()).unwrap();
    assert_eq!(peer.receive_all().unwrap(), b"in the kernel");
    assert_eq!(holder.receive_all().unwrap(), b"h");
    drop((holder, peer));
    assert_eq!(shutdown.wait(), 0);
}

#[test]
fn a_handler_can_shut_down_its_own_loop() {
    let handle: Arc<OnceLock<LoopHandle>> = Arc::default();
    let own = Arc::clone(&handle);
    let handler = handler!([own], |conn| {
        drop(own.get().expect("a handle").shutdown(LONG));
        rpc(conn).await
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    handle.set(server.handle.clone()).unwrap();
    let mut peer = server.connect();
    let request = frame(b"the last one");
    peer.send(&request);
    assert_eq!(peer.receive_all().unwrap(), request);
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::Shutdown));
    assert_eq!(server.shut_down(LONG), 0);
}

#[test]
fn a_shutdown_can_be_awaited() {
    let server = Server::rpc();
    server.connect().call(b"one");
    assert_eq!(block_on(server.handle.shutdown(LONG)), 0);
    assert_eq!(
        block_on(server.handle.shutdown(LONG)),
        0,
        "a second shutdown"
    );
    assert_eq!(server.handle.connections(), 0);
}

#[test]
fn dropping_a_loop_that_never_ran_completes_its_shutdown() {
    let builder = EventLoop::builder().on_request(rpc).listen(free_listener());
    let never_run = builder.build().unwrap();
    let shutdown = never_run.handle().shutdown(LONG);
    drop(never_run);
    assert_eq!(shutdown.wait(), 0);
}

#[test]
fn connections_in_the_accept_queue_are_served() {
    for _ in 0..30 {
        let listener = free_listener();
        let addr = bound(&listener);
        let running = EventLoop::builder()
            .pollers(2)
            .on_request(rpc)
            .listen(listener);
        let running = running.build().unwrap();
        let mut peers: Vec<Peer> = (0..10).map(|_| Peer::connect(addr)).collect();
        let request = frame(b"in the queue");
        peers.iter_mut().for_each(|peer| peer.send(&request));
        let shutdown = running.handle().shutdown(LONG);
        let serving = std::thread::spawn(move || running.run());
        for mut peer in peers {
            assert_eq!(peer.receive_all().unwrap(), request);
        }
        assert_eq!(shutdown.wait(), 0);
        serving.join().unwrap().unwrap();
    }
}

#[test]
fn run_returns_and_the_address_is_free_again() {
    let server = Server::rpc();
    let addr = server.addr;
    server.connect().call(b"one");
    assert_eq!(server.shut_down(LIMIT), 0);
    assert!(Peer::try_connect(addr).is_err());
    drop(Listener::bind(addr).unwrap());
}

#[test]
fn a_shutdown_awaited_by_a_handler_does_not_wait_for_that_handler() {
    let handle: Arc<OnceLock<LoopHandle>> = Arc::default();
    let own = Arc::clone(&handle);
    let handler = handler!([own], |conn| {
        if conn.reader().read_u8().await? == b's' {
            let shutdown = own.get().expect("a handle").shutdown(LONG);
            conn.writer().put_u8(b'a');
            let cut = shutdown.await;
            conn.writer().put_slice(&[b'0' + cut as u8]);
        }
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(2), handler);
    handle.set(server.handle.clone()).unwrap();
    let (mut first, mut second, mut idle) = (server.connect(), server.connect(), server.connect());
    idle.send(b".");
    let since = std::time::Instant::now();
    // Two handlers that would deadlock if the shutdown waited for them.
    first.send(b"s");
    second.send(b"s");
    for peer in [&mut first, &mut second] {
        assert_eq!(peer.receive_all().unwrap(), b"a0");
    }
    assert_eq!(idle.receive_all().unwrap(), b"");
    drop((first, second, idle));
    assert_eq!(server.shut_down(LONG), 0);
    assert!(since.elapsed() < LONG, "the deadline passed");
}
