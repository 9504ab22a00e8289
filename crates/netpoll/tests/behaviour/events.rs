// SPDX-License-Identifier: MIT OR Apache-2.0
//! The events that a loop reports, such as for lines of a log.

use std::pin::Pin;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netpoll::event::{AcceptPauseReason, Callback, Event};
use netpoll::event_loop::Balance;
use netpoll::event_loop::{HandlerKind, SendHandlers};
use netpoll::runner::Spawn;
use netpoll::{Builder, EventLoop, Listener, Runner};

use crate::support::{Gate, LIMIT, Peer, Server, bound, eventually, rpc};

/// Returns a builder whose loop sends its events to the returned receiver.
fn recorded<K: HandlerKind>(builder: Builder<K>) -> (Builder<K>, Receiver<Event>) {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let builder = builder.on_event(move |event| {
        // A test that has ended has dropped the receiver.
        let sender = sender.lock().expect("no panic under it");
        let _seen = sender.send(event.clone()).is_ok();
    });
    (builder, events)
}

/// Returns a builder whose executor drops its tasks.
fn dropping() -> Builder<SendHandlers> {
    EventLoop::builder_on(Runner::Spawn(Arc::new(DropsTasks))).pollers(1)
}

fn one_poller() -> Builder {
    // On a busy machine any poll may take 10 ms.
    EventLoop::builder().pollers(1).slow_handler(None)
}

fn next(events: &Receiver<Event>) -> Event {
    events.recv_timeout(LIMIT).expect("an event")
}

#[test]
fn a_full_loop_reports_that_accepting_pauses_and_resumes() {
    let (builder, events) = recorded(one_poller().max_connections(1).on_request(rpc));
    let server = Server::start_as_given(builder);
    let mut first = server.connect();
    first.call(b"let in");
    let mut second = server.connect();
    let why = AcceptPauseReason::Limit;
    assert!(matches!(next(&events), Event::AcceptingPaused { reason, .. } if reason == why));
    drop(first);
    second.call(b"let in as well");
    assert!(matches!(next(&events), Event::AcceptingResumed { reason, .. } if reason == why));
}

#[test]
fn pauses_for_accept_rate_are_reported_once_a_second() {
    let (builder, events) = recorded(one_poller().accept_rate(50).on_request(rpc));
    let server = Server::start_as_given(builder);
    let mut peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.call(b"let in"));
    let pauses = server.handle.accept_stats().pauses_for_rate;
    let why = AcceptPauseReason::Rate;
    assert!(matches!(next(&events), Event::AcceptingPaused { reason, .. } if reason == why));
    let paused = |event: &Event| matches!(event, Event::AcceptingPaused { .. });
    let more = events.try_iter().filter(paused).count() as u64;
    assert!(more + 1 < pauses, "{more} more of {pauses}");
}

#[test]
fn a_connection_limit_above_the_descriptor_limit_is_reported_at_build() {
    let (builder, events) = recorded(one_poller().on_request(rpc));
    let listener = Listener::bind("127.0.0.1:0").expect("a free port");
    let builder = builder.max_connections(usize::MAX).listen(listener);
    drop(builder.build().expect("a loop in spite of it"));
    let event = next(&events);
    assert!(
        matches!(event, Event::LimitAboveDescriptors { connections, descriptors, .. }
            if connections == usize::MAX && descriptors > 0),
        "{event}"
    );
}

#[test]
fn a_panic_of_a_callback_is_reported_with_the_callback_and_the_peer() {
    let choose = Arc::new(|_: &[_]| panic!("of balance"));
    let all = [
        (
            one_poller().on_disconnect(|_, _| panic!("of on_disconnect")),
            Callback::OnDisconnect,
        ),
        (
            one_poller().on_accept(|_| panic!("of on_accept")),
            Callback::OnAccept,
        ),
        (
            one_poller().balance(Balance::Custom(choose)),
            Callback::Balance,
        ),
    ];
    for (builder, expected) in all {
        let (builder, events) = recorded(builder.on_request(rpc));
        let server = Server::start_unobserved(builder);
        let peer = server.connect();
        let addr = peer.addr();
        drop(peer);
        match next(&events) {
            Event::CallbackPanicked { callback, peer, .. } => {
                assert_eq!((callback, peer), (expected, addr))
            }
            other => panic!("{other}"),
        }
    }
}

/// An executor that drops its tasks.
struct DropsTasks;

impl Spawn for DropsTasks {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(task);
    }
}

#[test]
fn a_task_that_the_executor_drops_is_reported() {
    let (builder, events) = recorded(dropping().on_request(rpc));
    let listener = Listener::bind("127.0.0.1:0").expect("a free port");
    let addr = bound(&listener);
    let running = builder.listen(listener).build().expect("a loop");
    let handle = running.handle();
    let thread = std::thread::spawn(move || running.run());
    let mut peer = Peer::connect(addr);
    peer.send(b"x");
    let addr_of_peer = peer.addr();
    assert!(matches!(next(&events), Event::TaskDropped { peer, .. } if peer == addr_of_peer));
    drop(peer);
    assert_eq!(handle.shutdown(LIMIT).wait(), 0);
    thread.join().expect("no panic").expect("a loop that ends");
}

#[test]
fn connections_that_a_shutdown_aborts_are_reported() {
    let gate = Gate::default();
    let pass = gate.clone();
    let (builder, events) = recorded(one_poller());
    let server = Server::start_as_given(builder.on_request(
        async move |_: &mut netpoll::Connection| {
            pass.pass().await;
            Ok(())
        },
    ));
    let mut peer = server.connect();
    peer.send(b"x");
    eventually("a handler that waits", || gate.is_waited_at());
    assert_eq!(server.shut_down(Duration::from_millis(1)), 1);
    assert!(matches!(
        next(&events),
        Event::ConnectionsAborted { connections: 1, .. }
    ));
    assert_eq!(events.try_iter().count(), 0);
}

#[test]
fn a_shutdown_that_aborts_nothing_reports_nothing() {
    let (builder, events) = recorded(one_poller().on_request(rpc));
    let server = Server::start_as_given(builder);
    server.connect().call(b"x");
    assert_eq!(server.shut_down(LIMIT), 0);
    assert_eq!(events.try_iter().count(), 0);
}

#[test]
fn a_panic_of_on_event_harms_no_poller() {
    let builder = one_poller().on_event(|_| panic!("of on_event"));
    let server = Server::start_unobserved(builder.on_request(rpc).on_disconnect(|_, _| panic!()));
    for _ in 0..3 {
        server.connect().call(b"x");
    }
}

#[test]
fn repeated_events_are_reported_a_few_times_and_then_counted() {
    const CONNECTIONS: u64 = 300;
    let (builder, events) = recorded(dropping().on_request(rpc));
    let listener = Listener::bind("127.0.0.1:0").expect("a free port");
    let addr = bound(&listener);
    let running = builder.listen(listener).build().expect("a loop");
    let handle = running.handle();
    let thread = std::thread::spawn(move || running.run());
    let begun = std::time::Instant::now();
    for _ in 0..CONNECTIONS {
        let mut peer = Peer::connect(addr);
        peer.send(b"x");
        assert!(peer.receive_all().is_ok());
    }
    drop(handle.shutdown(LIMIT));
    thread.join().expect("no panic").expect("a loop that ends");
    let (mut lines, mut dropped) = (0, 0);
    for event in events.try_iter() {
        lines += 1;
        dropped += match event {
            Event::TaskDropped { .. } => 1,
            Event::Suppressed { kind, count, .. } if kind == "TaskDropped" => count,
            other => panic!("{other}"),
        };
    }
    assert_eq!(dropped, CONNECTIONS);
    // And in each second one line for those that were suppressed.
    let most = 11 * (begun.elapsed().as_secs() + 2);
    assert!(lines <= most, "{lines} lines");
}
