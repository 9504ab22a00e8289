// SPDX-License-Identifier: MIT OR Apache-2.0
//! User code that blocks its poller for too long is reported by name, and no other code is.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use netpoll::event::{Callback, Event};
use netpoll::event_loop::Balance;
use netpoll::event_loop::{HandlerKind, SendHandlers};
use netpoll::listener::Accept;
use netpoll::{Addr, BoxError, Builder, Connection, EventLoop, Listener, Runner};

use crate::support::{Gate, LIMIT, Server, bound, eventually, retry_if_late, rpc};

/// The sleep of slow code.
const LONG: Duration = Duration::from_millis(30);

/// A time that no poll takes, even on a busy machine.
const NEVER: Duration = Duration::from_millis(300);

/// A reported slow call.
type Slow = (Callback, &'static str, Addr, Duration);

/// Adds an observer that sends the slow calls of a loop to the returned receiver.
fn observe_slow_calls<K: HandlerKind>(builder: Builder<K>) -> (Builder<K>, Receiver<Slow>) {
    let (sender, reports) = channel();
    let sender = Mutex::new(sender);
    let builder = builder.on_event(move |event| {
        if let Event::SlowCall {
            callback,
            handler,
            peer,
            took,
            ..
        } = event
        {
            let slow = (*callback, *handler, *peer, *took);
            let _sent = sender.lock().expect("no panic under it").send(slow).is_ok();
        }
    });
    (builder, reports)
}

fn one_poller() -> Builder {
    EventLoop::builder().pollers(1)
}

fn send_handlers() -> Builder<SendHandlers> {
    EventLoop::builder_on(Runner::Inline).pollers(1)
}

fn slow_calls(server: &Server) -> u64 {
    server.handle.stats().total().slow_calls
}

async fn sleeps(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let byte = reader.read_u8().await?;
    sleep(LONG);
    writer.put_u8(byte);
    Ok(())
}

#[test]
fn a_slow_handler_is_reported_with_its_name_peer_and_duration() {
    let (builder, reports) = observe_slow_calls(one_poller().on_request(sleeps));
    let server = Server::start_as_given(builder);
    let mut peer = server.connect();
    peer.send(b"x");
    let (callback, handler, peer_addr, took) = reports.recv_timeout(LIMIT).expect("a slow handler");
    assert_eq!(callback, Callback::Handler);
    assert!(handler.ends_with("watchdog::sleeps"), "{handler}");
    assert_eq!(peer_addr, peer.addr());
    assert!(took >= LONG, "{took:?}");
    assert!(slow_calls(&server) >= 1);
}

#[test]
fn a_slow_send_handler_is_reported_by_its_own_type() {
    let (builder, reports) = observe_slow_calls(send_handlers().on_request(sleeps));
    let server = Server::start_as_given(builder);
    server.connect().send(b"x");
    let (_, handler, ..) = reports.recv_timeout(LIMIT).expect("a slow handler");
    assert!(handler.ends_with("watchdog::sleeps"), "{handler}");
}

#[test]
fn a_handler_that_awaits_is_not_slow() {
    retry_if_late(NEVER / 4, || {
        let gate = Gate::default();
        let pass = gate.clone();
        let builder = one_poller().slow_handler(NEVER);
        let server =
            Server::start_as_given(builder.on_request(async move |conn: &mut Connection| {
                let byte = conn.reader().read_u8().await?;
                pass.pass().await;
                conn.writer().put_u8(byte);
                Ok(())
            }));
        let mut peer = server.connect();
        peer.send(b"x");
        eventually("a waiting handler", || gate.is_waited_at());
        sleep(NEVER + LONG);
        gate.open();
        peer.receive(1);
        assert_eq!(slow_calls(&server), 0);
    });
}

#[test]
fn all_slow_calls_are_counted_and_one_a_second_is_reported() {
    let (builder, reports) =
        observe_slow_calls(one_poller().slow_handler(LONG / 2).on_request(sleeps));
    let server = Server::start_as_given(builder);
    let mut peer = server.connect();
    let begun = Instant::now();
    for _ in 0..5 {
        peer.send(b"x");
        peer.receive(1);
    }
    eventually("five counted calls", || slow_calls(&server) >= 5);
    // One report, and one more for each second that the test took.
    let most = 1 + begun.elapsed().as_secs();
    let count = reports.try_iter().count() as u64;
    assert!((1..=most).contains(&count), "{count} in {most} s");
}

#[test]
fn a_connection_delayed_by_a_slow_handler_is_not_reported() {
    retry_if_late(NEVER / 4, || {
        let (sleeping, asleep) = channel();
        let sleeping = Mutex::new(sleeping);
        let (builder, reports) = observe_slow_calls(one_poller().slow_handler(NEVER));
        let server =
            Server::start_as_given(builder.on_request(async move |conn: &mut Connection| {
                let byte = conn.reader().read_u8().await?;
                if byte == b's' {
                    sleeping.lock().expect("no panic under it").send(())?;
                    sleep(NEVER + LONG);
                }
                conn.writer().put_u8(byte);
                Ok(())
            }));
        let mut first = server.connect();
        let mut second = server.connect();
        let mut neighbours: Vec<_> = (0..40).map(|_| server.connect()).collect();
        for peer in &mut neighbours {
            peer.send(b"a");
            peer.receive(1);
        }
        // While the first handler sleeps, the requests of a second slow one and all others arrive.
        first.send(b"s");
        asleep.recv_timeout(LIMIT).expect("a slow handler");
        second.send(b"s");
        neighbours.iter_mut().for_each(|peer| peer.send(b"a"));
        neighbours.iter_mut().for_each(|peer| {
            peer.receive(1);
        });
        second.receive(1);
        assert_eq!(slow_calls(&server), 2);
        let (.., peer_addr, _) = reports.recv_timeout(LIMIT).expect("a slow handler");
        assert_eq!(peer_addr, first.addr());
    });
}

/// Sleeps in its drop.
struct SlowToDrop;

impl Drop for SlowToDrop {
    fn drop(&mut self) {
        sleep(LONG);
    }
}

#[test]
fn the_drop_of_a_future_counts_as_a_slow_call() {
    let gate = Gate::default();
    let pass = gate.clone();
    let (builder, reports) = observe_slow_calls(one_poller());
    let server = Server::start_as_given(builder.on_request(async move |_: &mut Connection| {
        let _held = SlowToDrop;
        pass.pass().await;
        Ok(())
    }));
    let mut peer = server.connect();
    peer.send(b"x");
    eventually("a waiting handler", || gate.is_waited_at());
    assert_eq!(server.shut_down(Duration::from_millis(1)), 1);
    let callbacks: Vec<_> = reports.try_iter().map(|(callback, ..)| callback).collect();
    assert_eq!(callbacks.first(), Some(&Callback::Handler));
}

#[test]
fn a_slow_callback_is_reported_by_its_kind() {
    let observing = one_poller()
        .on_request(rpc)
        .on_disconnect(|_, _| sleep(LONG));
    let filtering = one_poller().on_request(rpc).on_accept(|info| {
        sleep(LONG);
        Accept::Accept(info.options().clone())
    });
    let choose = Arc::new(|_: &[_]| {
        sleep(LONG);
        0
    });
    let placing = one_poller()
        .on_request(rpc)
        .balance(Balance::Custom(choose));
    for (builder, expected) in [
        (observing, Callback::OnDisconnect),
        (filtering, Callback::OnAccept),
        (placing, Callback::Balance),
    ] {
        let (builder, reports) = observe_slow_calls(builder);
        let server = Server::start_unobserved(builder);
        let peer = server.connect();
        let addr = peer.addr();
        drop(peer);
        let (callback, _, peer_addr, took) = reports.recv_timeout(LIMIT).expect("a slow call");
        assert_eq!((callback, peer_addr), (expected, addr));
        assert!(took >= LONG);
    }
}

#[test]
fn no_slow_call_is_reported_when_the_watchdog_is_off() {
    let (builder, reports) = observe_slow_calls(one_poller().slow_handler(None).on_request(sleeps));
    let server = Server::start_as_given(builder);
    let mut peer = server.connect();
    peer.send(b"x");
    peer.receive(1);
    drop(peer);
    server.ending();
    assert_eq!((slow_calls(&server), reports.try_iter().count()), (0, 0));
}

#[test]
fn a_handler_that_sleeps_off_the_poller_is_not_slow() {
    let listener = Listener::bind("127.0.0.1:0").expect("a free port");
    let addr = bound(&listener);
    let builder = one_poller()
        .slow_handler(NEVER)
        .on_request(async |conn: &mut Connection| {
            let byte = conn.reader().read_u8().await?;
            sleep(NEVER + LONG);
            conn.writer().put_u8(byte);
            Ok(())
        });
    let running = builder.handler_threads(1).listen(listener).build();
    let running = running.expect("a loop");
    let handle = running.handle();
    let thread = std::thread::spawn(move || running.run());
    let mut peer = crate::support::Peer::connect(addr);
    peer.send(b"x");
    peer.receive(1);
    drop(peer);
    assert_eq!(handle.shutdown(LIMIT).wait(), 0);
    thread.join().expect("no panic").expect("a clean end");
    let total = handle.stats().total();
    assert_eq!((total.slow_calls, total.requests, total.sent), (0, 1, 1));
}

#[test]
fn a_zero_slow_handler_time_is_rejected_with_the_field_name() {
    let listener = Listener::bind("127.0.0.1:0").expect("a free port");
    let builder = one_poller().on_request(rpc).listen(listener);
    let error = builder
        .slow_handler(Duration::ZERO)
        .build()
        .expect_err("zero");
    assert!(error.to_string().contains("slow_handler"), "{error}");
}

/// The callbacks reported as slow for `ends` closed connections, with a limit of one nanosecond.
fn slow_callbacks_at_close(builder: Builder, ends: u64) -> Vec<Callback> {
    let builder = builder
        .slow_handler(Duration::from_nanos(1))
        .handler_threads(1);
    let (builder, reports) = observe_slow_calls(builder);
    let server = Server::start_unobserved(builder);
    for _ in 0..ends {
        drop(server.connect());
    }
    let ended = || {
        server
            .handle
            .stats()
            .closed
            .iter()
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    eventually("all closes", || ended() == ends);
    server.shut_down(LIMIT);
    reports.try_iter().map(|(callback, ..)| callback).collect()
}

#[test]
fn a_missing_callback_is_not_reported_for_a_close() {
    let none = slow_callbacks_at_close(one_poller().on_request(rpc), 50);
    assert_eq!(none, []);
    let observed = one_poller().on_request(rpc).on_disconnect(|_, _| {});
    let observed = slow_callbacks_at_close(observed, 50);
    assert!(!observed.is_empty());
    assert!(
        observed
            .iter()
            .all(|callback| *callback == Callback::OnDisconnect)
    );
}

/// An attached value that sleeps in its drop.
struct Sleepy;

impl Drop for Sleepy {
    fn drop(&mut self) {
        sleep(LONG);
    }
}

#[test]
fn slow_code_at_a_close_is_reported_by_its_kind() {
    let slow = Duration::from_millis(20);
    let attaching = one_poller()
        .on_connect(async |conn: &mut Connection| {
            drop(conn.attach(Sleepy));
            Ok(())
        })
        .on_disconnect(|_, _| {});
    let closing = one_poller()
        .on_connect(async |conn: &mut Connection| {
            conn.on_close(|_| sleep(LONG));
            Ok(())
        })
        .on_disconnect(|_, _| {});
    for (builder, expected) in [
        (attaching, Callback::Attached),
        (closing, Callback::OnClose),
    ] {
        let (builder, reports) = observe_slow_calls(builder.on_request(rpc).slow_handler(slow));
        let server = Server::start_unobserved(builder);
        server.connect().call(b"x");
        loop {
            let (callback, _, _, took) = reports.recv_timeout(LIMIT).expect("a slow call");
            // On a busy machine other callbacks may be slow too.
            if callback == expected {
                assert!(took >= LONG);
                break;
            }
        }
    }
}
