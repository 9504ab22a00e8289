// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runners: the handlers they accept, custom runners, and handlers that block.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netpoll::event_loop::SendHandlers;
use netpoll::runner::Spawn;
use netpoll::{Builder, CloseReason, Connection, EventLoop, Runner};

use crate::support::{
    AnyBuilder, LIMIT, Peer, Server, block_on, eventually, frame, free_listener, invalid_option,
    rpc,
};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Passes each task to a closure.
struct Does<F>(F);

impl<F: Fn(Task) + Send + Sync> Spawn for Does<F> {
    fn spawn(&self, task: Task) {
        (self.0)(task);
    }
}

fn spawned(does: impl Fn(Task) + Send + Sync + 'static) -> Builder<SendHandlers> {
    EventLoop::builder_on(Runner::Spawn(Arc::new(Does(does)))).pollers(1)
}

fn threads(count: usize) -> Builder<SendHandlers> {
    EventLoop::builder_on(Runner::Threads(count)).pollers(1)
}

#[test]
fn a_number_of_threads_out_of_range_is_rejected_with_the_field_name() {
    let rejected = |builder: AnyBuilder| {
        let builder = builder.on_request(rpc).listen(free_listener());
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        invalid_option(&error).expect("an invalid option")
    };
    for (count, expected) in [(0, "at least 1 thread"), (4097, "at most 4096 threads")] {
        let local = EventLoop::builder().handler_threads(count);
        for (builder, field) in [
            (AnyBuilder::from(local), "handler_threads"),
            (threads(count).into(), "runner"),
        ] {
            let (option, message) = rejected(builder);
            assert_eq!(option, field);
            assert!(message.contains(expected), "{message}");
        }
    }
}

#[test]
fn a_pinned_on_connect_pins_its_requests_to_threads() {
    let welcome = async |conn: &mut Connection| {
        conn.writer().put_str("welcome");
        Ok(())
    };
    let builder = threads(2).on_request(rpc).on_connect(welcome);
    let server = Server::start_as_given(builder);
    let mut peer = server.connect();
    assert_eq!(peer.receive(7), b"welcome");
    peer.call(b"one");
}

#[test]
fn a_runner_with_a_thread_for_each_task_serves_requests() {
    let builder = spawned(|task| drop(std::thread::spawn(move || block_on(task))));
    let server = Server::start_as_given(builder.on_request(rpc));
    let mut peers: Vec<Peer> = (0..4).map(|_| server.connect()).collect();
    for round in 0..20 {
        let word = [round; 100];
        peers.iter_mut().for_each(|peer| peer.call(&word));
    }
}

#[test]
fn a_runner_that_drops_a_task_or_panics_closes_its_connection() {
    let does: [fn(Task); 2] = [drop, |_| panic!("a runner that panics, on purpose")];
    for does in does {
        let server = Server::start_as_given(spawned(does).on_request(rpc));
        for _ in 0..3 {
            let mut peer = server.connect();
            peer.send(&frame(b"one"));
            assert_eq!(peer.receive_all().unwrap(), b"");
            drop(peer);
            assert!(matches!(server.ending(), CloseReason::Local));
        }
        eventually("the close of all connections", || {
            server.handle.connections() == 0
        });
    }
}

#[test]
fn a_runner_that_drops_a_started_task_closes_its_connection() {
    let kept: Arc<Mutex<Vec<Task>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let server = Server::start_as_given(
        spawned(move |mut task| {
            let polled = crate::support::poll_once(task.as_mut());
            assert!(polled.is_pending(), "the frame is incomplete");
            keep.lock().unwrap().push(task);
        })
        .on_request(rpc),
    );
    let mut peer = server.connect();
    peer.send(&frame(b"one")[..5]);
    eventually("the task", || !kept.lock().unwrap().is_empty());
    kept.lock().unwrap().clear();
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::Local));
}

#[test]
fn a_runner_that_runs_tasks_late_loses_nothing() {
    let kept: Arc<Mutex<Vec<Task>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let builder = spawned(move |task| keep.lock().unwrap().push(task));
    let server = Server::start_as_given(builder.on_request(rpc));
    let mut peer = server.connect();
    for word in [b"one", b"two"] {
        peer.send(&frame(word));
        eventually("the task", || !kept.lock().unwrap().is_empty());
        peer.send(&frame(word));
        let tasks = std::mem::take(&mut *kept.lock().unwrap());
        tasks.into_iter().for_each(block_on);
        // The second request arrived before or after the first was complete.
        let mut received = peer.receive(7);
        let rest = || std::mem::take(&mut *kept.lock().unwrap());
        peer.stream.set_nonblocking(true).unwrap();
        eventually("both answers", || {
            rest().into_iter().for_each(block_on);
            // The kernel may deliver the answers in pieces.
            let mut more = [0; 7];
            if let Ok(count) = std::io::Read::read(&mut peer.stream, &mut more) {
                received.extend(&more[..count]);
            }
            received.len() == 14
        });
        peer.stream.set_nonblocking(false).unwrap();
        assert_eq!(received, frame(word).repeat(2));
    }
}

#[test]
fn tasks_that_a_runner_never_polls_are_aborted_and_reported_at_shutdown() {
    let kept: Arc<Mutex<Vec<Task>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let builder = spawned(move |task| keep.lock().unwrap().push(task));
    let mut server = Server::start_as_given(builder.on_request(rpc)).of_which_some_is_kept();
    let mut peer = server.connect();
    peer.send(&frame(b"one"));
    eventually("the task", || !kept.lock().unwrap().is_empty());
    let endings = server.take_endings();
    assert_eq!(server.shut_down(Duration::from_millis(10)), 1);
    let reasons: Vec<_> = endings.iter().map(|(_, reason)| reason).collect();
    assert!(
        matches!(reasons[..], [CloseReason::Shutdown]),
        "{reasons:?}"
    );
    // Polled late, the tasks have nothing to do.
    kept.lock().unwrap().drain(..).for_each(block_on);
}

/// A handler that blocks its thread on each request for `b` until released, with the sender that
/// releases it and the count of blocked requests.
fn blocking() -> (impl netpoll::Handler, Sender<()>, Arc<AtomicUsize>) {
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let blocked_count = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&blocked_count);
    let handler = handler!([released, count], |conn| {
        if conn.reader().peek(5).await?[4] == b'b' {
            count.fetch_add(1, Ordering::SeqCst);
            released.lock().expect("no panic under it").recv()?;
        }
        rpc(conn).await
    });
    (handler, release, blocked_count)
}

#[test]
fn a_blocking_handler_delays_neither_the_poller_nor_a_free_thread() {
    let (handler, release, blocked_count) = blocking();
    let server = Server::start_as_given(threads(2).on_request(handler));
    let (mut blocked, mut free) = (server.connect(), server.connect());
    blocked.send(&frame(b"block"));
    eventually("a blocked handler", || {
        blocked_count.load(Ordering::SeqCst) == 1
    });
    (0..50).for_each(|_| free.call(b"not blocked"));
    release.send(()).unwrap();
    assert_eq!(blocked.receive(9), frame(b"block"));
}

#[test]
fn the_poller_accepts_and_closes_connections_while_all_threads_are_blocked() {
    let (handler, release, blocked_count) = blocking();
    let server = Server::start_as_given(threads(1).on_request(handler));
    let mut blocked = server.connect();
    blocked.send(&frame(b"block"));
    eventually("a blocked handler", || {
        blocked_count.load(Ordering::SeqCst) == 1
    });
    for _ in 0..20 {
        let peer = server.connect();
        eventually("the other connection", || server.handle.connections() == 2);
        drop(peer);
        assert!(matches!(server.ending(), CloseReason::PeerFin));
    }
    release.send(()).unwrap();
    assert_eq!(blocked.receive(9), frame(b"block"));
}

#[test]
fn a_handler_that_awaits_input_occupies_no_thread() {
    let pinned = EventLoop::builder().pollers(1).handler_threads(1);
    for builder in [AnyBuilder::from(pinned), threads(1).into()] {
        let server = Server::start_as_given(builder.on_request(rpc));
        let (mut first, mut second) = (server.connect(), server.connect());
        let whole = frame(b"in two parts");
        for peer in [&mut first, &mut second] {
            peer.send(&whole[..6]);
        }
        server.connect().call(b"in between");
        for peer in [&mut second, &mut first] {
            peer.send(&whole[6..]);
            assert_eq!(peer.receive(whole.len()), whole);
        }
    }
}

#[test]
fn a_handler_that_blocks_past_the_shutdown_deadline_is_abandoned_and_reported() {
    let (handler, release, blocked_count) = blocking();
    let mut server = Server::start_as_given(threads(1).on_request(handler)).of_which_some_is_kept();
    let mut blocked = server.connect();
    blocked.send(&frame(b"block"));
    eventually("a blocked handler", || {
        blocked_count.load(Ordering::SeqCst) == 1
    });
    let endings = server.take_endings();
    assert_eq!(server.shut_down(Duration::from_millis(10)), 1);
    let ended = endings.recv_timeout(LIMIT).unwrap();
    assert!(matches!(ended.1, CloseReason::Shutdown));
    release.send(()).unwrap();
}
