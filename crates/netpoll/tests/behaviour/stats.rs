// SPDX-License-Identifier: MIT OR Apache-2.0
//! Statistics of a loop and of a connection.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use netpoll::connection::ConnectionHandle;
use netpoll::event_loop::Balance;
use netpoll::stats::{ClosedStats, LoopStats};
use netpoll::{BoxError, Builder, CloseReason, Connection, EventLoop, LoopHandle};

use crate::support::{
    AsGiven, Gate, LIMIT, Server, block_on, bytes, eventually, frame, retry_if_late, rpc,
    tight_listener,
};

fn one_poller() -> Builder {
    let short = Duration::from_millis(20);
    EventLoop::builder().pollers(1).linger(short)
}

/// Waits until `condition` holds for the server's statistics and returns them.
fn once(server: &Server, what: &str, mut condition: impl FnMut(&LoopStats) -> bool) -> LoopStats {
    let mut stats = server.handle.stats();
    eventually(what, || {
        stats = server.handle.stats();
        condition(&stats)
    });
    stats
}

/// The counts of `closed` that are not zero.
fn counted(closed: &ClosedStats) -> Vec<(&'static str, u64)> {
    closed.iter().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn all_requests_and_bytes_are_counted() {
    let server = Server::rpc();
    let body = bytes(1000, 1);
    for _ in 0..3 {
        let mut peer = server.connect();
        for _ in 0..5 {
            peer.send(&frame(&body));
            assert_eq!(peer.receive(1004), frame(&body));
        }
        drop(peer);
        assert!(matches!(server.ending(), CloseReason::PeerFin));
    }
    let stats = once(&server, "the close of all connections", |stats| {
        stats.connections == 0
    });
    let total = stats.total();
    assert_eq!((total.requests, total.batches), (15, 15));
    assert_eq!((total.received, total.sent), (15 * 1004, 15 * 1004));
    assert_eq!((total.opened, total.closed, total.connections()), (3, 3, 0));
    assert_eq!(total.sends, 15);
    assert!(total.reads >= 15 + 3, "{total:?}");
    assert!(total.waits > 0 && total.events >= 15, "{total:?}");
    assert_eq!((total.blocked_sends, total.slow_calls), (0, 0));
    assert_eq!((stats.accept.accepted, stats.connections), (3, 0));
    assert_eq!(counted(&stats.closed), [("peer_fin", 3)]);
    assert_eq!(stats.closed.total(), 3);
}

#[test]
fn a_batch_counts_once_for_all_its_requests() {
    let server = Server::rpc();
    let mut peer = server.connect();
    peer.send(&frame(b"abc").repeat(40));
    peer.receive(40 * 7);
    let total = once(&server, "a batch", |stats| stats.total().requests == 40).total();
    assert!(total.batches < 40, "{total:?}");
    // An incomplete frame is not counted as a request.
    peer.send(&frame(b"abc")[..3]);
    let reads = total.reads;
    once(&server, "a read", |stats| stats.total().reads > reads);
    assert_eq!(server.handle.stats().total().requests, 40);
}

#[test]
fn a_handler_call_that_consumes_nothing_is_not_counted_as_a_request() {
    let server = Server::start_as_given(one_poller().on_request(async |conn: &mut Connection| {
        let mut reader = conn.reader();
        if reader.available() >= 4 {
            reader.skip(4).await?;
        }
        Ok(())
    }));
    let mut peer = server.connect();
    peer.send(b"12345");
    once(&server, "a call that consumes nothing", |stats| {
        (stats.total().requests, stats.total().batches) == (1, 1)
    });
    peer.send(b"678");
    once(&server, "another", |stats| stats.total().requests == 2);
}

#[test]
fn each_poller_counts_its_own_connections_and_requests() {
    let builder = EventLoop::builder().pollers(2);
    let server = Server::start_as_given(builder.balance(Balance::RoundRobin).on_request(rpc));
    let mut peers: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for (index, peer) in peers.iter_mut().enumerate() {
        for _ in 0..=index {
            peer.send(&frame(b"x"));
            peer.receive(5);
        }
    }
    let stats = once(&server, "all requests", |stats| {
        stats.total().requests == 10
    });
    let connections: Vec<_> = stats
        .pollers
        .iter()
        .map(|poller| poller.connections())
        .collect();
    assert_eq!(connections, [2, 2]);
    let mut requests: Vec<_> = stats.pollers.iter().map(|poller| poller.requests).collect();
    requests.sort_unstable();
    assert_eq!(requests, [1 + 3, 2 + 4]);
    assert_eq!(stats.connections, 4);
}

#[test]
fn each_close_is_counted_under_its_reason() {
    retry_if_late(Duration::from_millis(4), || {
        let builder = one_poller()
            .max_frame(100)
            .idle_timeout(Duration::from_millis(30));
        let server = Server::start_as_given(builder.on_request(async |conn: &mut Connection| {
            match conn.reader().read_u8().await? {
                0 => Err("no".into()),
                1 => panic!("yes"),
                2 => {
                    conn.abort();
                    Ok(())
                }
                3 => Ok(conn.reader().skip(101).await?),
                _ => Ok(()),
            }
        }));
        for first in 0..5 {
            let mut peer = server.connect();
            peer.send(&[first]);
            server.ending();
        }
        let mut reset = server.connect();
        reset.send(&[9]);
        once(&server, "a request", |stats| {
            stats.total().requests >= 6 - 2
        });
        reset.reset();
        assert!(matches!(server.ending(), CloseReason::Broken(_)));
        let expected = [
            ("local", 1),
            ("broken", 1),
            ("handler_error", 1),
            ("handler_panic", 1),
            ("frame_limit", 1),
            ("idle_timeout", 1),
        ];
        assert_eq!(counted(&server.handle.stats().closed), expected);
    });
}

#[test]
fn a_close_is_counted_before_on_disconnect_runs() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let handle: Arc<OnceLock<LoopHandle>> = Arc::default();
    let known = Arc::clone(&handle);
    let builder = one_poller().on_request(rpc).on_disconnect(move |_, _| {
        let closed = known.get().map(|handle| handle.stats().closed.peer_fin);
        let sender = sender.lock().expect("no panic under it");
        sender.send(closed).expect("a waiting test");
    });
    let server = Server::start_unobserved(builder);
    handle.set(server.handle.clone()).expect("the first");
    drop(server.connect());
    assert_eq!(receiver.recv_timeout(LIMIT), Ok(Some(1)));
}

#[test]
fn closes_by_shutdown_are_counted_and_stay_readable() {
    let server = Server::start_as_given(one_poller().on_request(rpc));
    let _idle = server.connect();
    once(&server, "a connection", |stats| stats.total().opened == 1);
    let handle = server.handle.clone();
    assert_eq!(server.shut_down(LIMIT), 0);
    assert_eq!(counted(&handle.stats().closed), [("shutdown", 1)]);
}

#[test]
fn a_connection_owned_past_the_end_of_the_loop_is_counted_once() {
    let (own, owned) = channel();
    let own = Mutex::new(own);
    let server =
        Server::start_as_given(one_poller().on_connection(async move |conn: Connection| {
            own.lock().expect("no panic under it").send(conn)?;
            Ok::<(), BoxError>(())
        }));
    let _peer = server.connect();
    let conn = owned.recv_timeout(LIMIT).expect("a connection");
    let handle = server.handle.clone();
    server.shut_down(Duration::from_millis(1));
    let stats = handle.stats();
    assert_eq!((stats.total().opened, stats.total().closed), (1, 1));
    assert_eq!(counted(&stats.closed), [("shutdown", 1)]);
    drop(conn);
    assert_eq!(handle.stats().closed.total(), 1);
}

#[test]
fn a_peer_that_does_not_read_is_counted_as_blocked_sends_and_pauses() {
    let builder = one_poller().on_request(async |conn: &mut Connection| {
        let (mut reader, mut writer) = conn.split();
        reader.skip(1).await?;
        writer.put_slice(&[7; 32 << 10]);
        Ok(())
    });
    let server = Server::start_on(tight_listener(), builder.into(), AsGiven);
    let mut peer = server.connect();
    peer.send(&[0; 100]);
    let stats = once(&server, "a pause", |stats| {
        stats.total().pauses_for_peer >= 1 && stats.total().blocked_sends >= 1
    });
    assert_eq!(stats.total().pauses_for_handler, 0);
    peer.receive(100 * (32 << 10));
    let total = once(&server, "all requests", |stats| {
        stats.total().requests == 100
    })
    .total();
    eventually("all output sent", || {
        server.handle.stats().total().sent == 100 * (32 << 10)
    });
    // A pause is counted once and ends with a batch.
    assert!(total.pauses_for_peer <= total.batches, "{total:?}");
}

#[test]
fn input_above_the_high_watermark_is_counted_as_a_pause_for_the_handler() {
    let gate = Gate::default();
    let pass = gate.clone();
    let server =
        Server::start_as_given(one_poller().on_request(async move |conn: &mut Connection| {
            pass.pass().await;
            let mut reader = conn.reader();
            let length = reader.available();
            Ok(reader.skip(length.max(1)).await?)
        }));
    let mut peer = server.connect();
    peer.send(&[0; 200 << 10]);
    let stats = once(&server, "a pause", |stats| {
        stats.total().pauses_for_handler == 1
    });
    assert_eq!(stats.total().pauses_for_peer, 0);
    assert!(stats.total().received >= 64 << 10, "{stats:?}");
    gate.open();
    once(&server, "the rest", |stats| {
        stats.total().received == 200 << 10
    });
}

#[test]
fn sends_by_another_thread_are_counted_and_its_commands_wake_the_poller() {
    let (own, owned) = channel();
    let own = Mutex::new(own);
    let server =
        Server::start_as_given(one_poller().on_connection(async move |conn: Connection| {
            own.lock().expect("no panic under it").send(conn)?;
            Ok::<(), BoxError>(())
        }));
    let mut peer = server.connect();
    let mut conn = owned.recv_timeout(LIMIT).expect("a connection");
    block_on(async {
        for _ in 0..3 {
            let mut writer = conn.writer();
            writer.put_slice(&[1; 1000]);
            writer.flush().await.expect("a peer that reads");
        }
    });
    peer.receive(3000);
    assert_eq!(conn.stats().sent, 3000);
    eventually("the wake of a sleeping poller", || {
        conn.set_timeouts(conn.timeouts()).expect("as they are");
        server.handle.stats().total().wakeups > 0
    });
    drop(conn);
    peer.receive_all().expect("the end");
    server.ending();
    let total = server.handle.stats().total();
    assert_eq!((total.sends, total.sent), (3, 3000));
    assert!(total.commands >= total.wakeups, "{total:?}");
    assert_eq!(
        total.requests, 0,
        "reads and writes of an owner are not requests"
    );
}

#[test]
fn a_connection_reports_its_own_counts() {
    let handles: Arc<Mutex<Vec<ConnectionHandle>>> = Arc::default();
    let kept = Arc::clone(&handles);
    let gate = Gate::default();
    let pass = gate.clone();
    let server =
        Server::start_as_given(one_poller().on_request(async move |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            reader.skip(10).await?;
            writer.put_slice(&[0; 20]);
            let stats = conn.stats();
            assert_eq!((stats.received, stats.waiting), (15, 5));
            assert_eq!((stats.sent, stats.unsent, stats.requests), (0, 20, 0));
            kept.lock().expect("no panic under it").push(conn.handle());
            pass.pass().await;
            conn.reader().skip(5).await?;
            Ok(())
        }));
    let mut peer = server.connect();
    peer.send(&[1; 15]);
    peer.receive(20);
    let handle = handles
        .lock()
        .expect("no panic under it")
        .pop()
        .expect("a handle");
    eventually("the sent output", || {
        handle.stats().is_some_and(|stats| stats.sent == 20)
    });
    peer.send(&[1; 7]);
    eventually("more input", || {
        handle.stats().is_some_and(|stats| stats.waiting == 7)
    });
    let stats = handle.stats().expect("an open connection");
    assert_eq!((stats.received, stats.unsent, stats.requests), (22, 0, 0));
    gate.open();
    eventually("a handled request", || {
        handle.stats().is_some_and(|stats| stats.requests == 1)
    });
    let silent = Duration::from_millis(20);
    eventually("an idle connection", || {
        handle.stats().is_some_and(|stats| stats.idle >= silent)
    });
    drop(peer);
    server.ending();
    eventually("a freed connection", || handle.stats().is_none());
}
