// SPDX-License-Identifier: MIT OR Apache-2.0
//! A user's future that panics in `poll` and again in `drop` closes only its connection.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use netpoll::error::ErrorExt;
use netpoll::event_loop::ConnectionHandler;
use netpoll::mux::{self, Message};
use netpoll::runner::Spawn;
use netpoll::time::timeout;
use netpoll::{BoxError, CloseReason, Connection, EventLoop, Handler, Runner};

use crate::mux::{answer, codec};
use crate::support::{AnyBuilder, Peer, Server, eventually};

/// Panics in `poll` and in `drop`.
struct PanicsTwice<T>(PhantomData<fn() -> T>);

impl<T> PanicsTwice<T> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Future for PanicsTwice<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<T> {
        panic!("polled")
    }
}

impl<T> Drop for PanicsTwice<T> {
    fn drop(&mut self) {
        panic!("dropped")
    }
}

/// Stays pending and panics in `drop`.
struct WaitsAndPanics<T>(PhantomData<fn() -> T>);

impl<T> Future for WaitsAndPanics<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<T> {
        Poll::Pending
    }
}

impl<T> Drop for WaitsAndPanics<T> {
    fn drop(&mut self) {
        panic!("dropped while pending")
    }
}

/// One of the two futures above.
enum Either<T> {
    Panics(PanicsTwice<T>),
    Waits(WaitsAndPanics<T>),
}

impl<T> Future for Either<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            Self::Panics(future) => Pin::new(future).poll(context),
            Self::Waits(future) => Pin::new(future).poll(context),
        }
    }
}

type Outcome = Result<(), BoxError>;
type Answer = Result<Message, BoxError>;

/// A request handler whose future panics twice.
struct Twice;

impl Handler for Twice {
    fn call(&self, _conn: &mut Connection) -> impl Future<Output = Outcome> + Send {
        PanicsTwice::new()
    }
}

/// A connection handler whose future panics twice.
struct TwiceWhole;

impl ConnectionHandler for TwiceWhole {
    fn serve(&self, _conn: Connection) -> impl Future<Output = Outcome> + Send {
        PanicsTwice::new()
    }
}

/// An executor that runs each task on a thread of its own.
struct ThreadEach;

impl Spawn for ThreadEach {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        std::thread::spawn(move || crate::support::block_on(task));
    }
}

/// Waits until the server closes the connection of `peer` and returns the reason.
fn close_reason(server: &Server, mut peer: Peer) -> CloseReason {
    assert!(!matches!(peer.receive_all().as_deref(), Ok([_, ..])));
    drop(peer);
    server.ending()
}

/// A server with a handler that panics twice, for each way to install a handler.
fn ways() -> Vec<(&'static str, AnyBuilder)> {
    let one = || EventLoop::builder().pollers(1);
    let on_threads = || one().handler_threads(1);
    let moving = |runner| EventLoop::builder_on(runner).pollers(1);
    let threads = || Runner::Threads(1);
    let spawner = || Arc::new(ThreadEach) as Arc<dyn Spawn>;
    let request = |_: &mut Connection| PanicsTwice::<Outcome>::new();
    let whole = |_: Connection| PanicsTwice::<Outcome>::new();
    let many = |_: Message| PanicsTwice::<Answer>::new();
    let bounded = async |_: &mut Connection| -> Outcome {
        timeout(Duration::from_secs(60), PanicsTwice::<Outcome>::new()).await?
    };
    vec![
        ("on_request", one().on_request(request).into()),
        (
            "on_request, threads",
            on_threads().on_request(request).into(),
        ),
        ("on_connection", one().on_connection(whole).into()),
        (
            "on_connection, threads",
            on_threads().on_connection(whole).into(),
        ),
        (
            "on_connection, moving",
            moving(threads()).on_connection(TwiceWhole).into(),
        ),
        (
            "on_connection, Runner::Inline",
            moving(Runner::Inline).on_connection(TwiceWhole).into(),
        ),
        (
            "on_request, moving",
            moving(threads()).on_request(Twice).into(),
        ),
        (
            "on_request, Runner::Inline",
            moving(Runner::Inline).on_request(Twice).into(),
        ),
        (
            "mux::serve",
            one().on_connection(mux::serve(codec(), many)).into(),
        ),
        (
            "mux::serve_on",
            one()
                .on_connection(mux::serve_on(spawner(), 4, codec(), many))
                .into(),
        ),
        ("a timeout", one().on_request(bounded).into()),
    ]
}

#[test]
fn a_handler_that_panics_in_poll_and_in_drop_closes_only_its_connection() {
    for (way, builder) in ways() {
        let server = Server::start_as_given(builder);
        for _ in 0..2 {
            let mut peer = server.connect();
            answer(&mut peer, 1, b"?");
            let reason = close_reason(&server, peer);
            assert!(
                matches!(reason, CloseReason::HandlerPanic),
                "{way}: {reason}"
            );
        }
    }
}

#[test]
fn an_on_connect_that_panics_in_poll_and_in_drop_closes_only_its_connection() {
    let builder = EventLoop::builder()
        .pollers(1)
        .on_connect(|_: &mut Connection| PanicsTwice::<Outcome>::new())
        .on_request(async |_: &mut Connection| -> Outcome { Ok(()) });
    let server = Server::start_unobserved(builder);
    for count in 1..=2 {
        let mut peer = server.connect();
        assert!(!matches!(peer.receive_all().as_deref(), Ok([_, ..])));
        drop(peer);
        eventually("the close of all connections", || {
            server.handle.connections() == 0
        });
        assert_eq!(server.handle.accept_stats().accepted, count);
    }
}

#[test]
fn pending_requests_that_panic_in_drop_are_dropped_after_one_that_panics() {
    let serving = mux::serve(codec(), |message: Message| -> Either<Answer> {
        match message.id {
            0 => Either::Panics(PanicsTwice::new()),
            _ => Either::Waits(WaitsAndPanics(PhantomData)),
        }
    });
    let builder = EventLoop::builder().pollers(1).on_connection(serving);
    let server = Server::start_as_given(builder);
    for ids in [[1, 2, 3, 0], [0, 0, 0, 0]] {
        let mut peer = server.connect();
        ids.iter().for_each(|&id| answer(&mut peer, id, b"?"));
        assert!(matches!(
            close_reason(&server, peer),
            CloseReason::HandlerPanic
        ));
    }
    // The same for a connection that the peer resets.
    let mut peer = server.connect();
    (1..4).for_each(|id| answer(&mut peer, id, b"?"));
    peer.reset();
    server.ending();
    let mut peer = server.connect();
    answer(&mut peer, 0, b"?");
    assert!(matches!(
        close_reason(&server, peer),
        CloseReason::HandlerPanic
    ));
}

#[test]
fn a_spawned_future_that_panics_in_poll_and_in_drop_fails_its_task() {
    for _ in 0..2 {
        let task = netpoll::spawn(PanicsTwice::<u8>::new()).expect("a poller");
        let error = task.wait().unwrap_err();
        let reason = error.close_reason().expect("a reason");
        assert!(matches!(reason, CloseReason::HandlerPanic), "{reason}");
    }
}
