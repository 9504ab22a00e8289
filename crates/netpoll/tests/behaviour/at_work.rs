// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection for which somebody works is not idle, whoever that is and whatever the handler waits
//! for meanwhile; when nobody does any more, it is.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netpoll::mux::{self, Client, Message};
use netpoll::time::sleep;
use netpoll::{CloseReason, ConnOptions, ConnPool, Dialer, Runner, Timeout};

use crate::mux::{codec, server as mux_server};
use crate::support::{Server, block_on};
use crate::timeouts::{SHORT, ended_for, one_poller};

/// How long nothing may happen on a connection of these tests.
const IDLE: Duration = SHORT.saturating_mul(2);

/// How long work takes: several times what is idle.
const WORK: Duration = SHORT.saturating_mul(9);

/// Answers each request when it has worked for it.
async fn slowly(request: Message) -> Result<Message, netpoll::BoxError> {
    sleep(WORK).await;
    Ok(request)
}

/// A connection whose other side answers a call after a while is cut only when the answer has come.
fn call_outlasts_idleness(server: &Server) {
    let conn = block_on(Dialer::new().dial(server.addr)).expect("a server");
    let client = Client::new(conn, codec());
    let answer = block_on(client.call(Message::new(b"slow"))).expect("an answer");
    let since = Instant::now();
    assert_eq!(answer.body.len(), 4);
    assert_eq!(ended_for(server, since, IDLE / 2), Timeout::Idle);
}

#[test]
fn a_request_of_a_mux_server_keeps_its_connection_until_it_is_answered() {
    let builder = one_poller()
        .idle_timeout(IDLE)
        .on_connection(mux::serve(codec(), slowly));
    call_outlasts_idleness(&Server::start_as_given(builder));
}

/// Polls each task on a thread of its own.
struct Threads;

impl netpoll::Spawn for Threads {
    fn spawn(&self, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {
        std::thread::spawn(move || block_on(task));
    }
}

#[test]
fn a_request_that_an_executor_has_keeps_its_connection_wherever_it_is_read() {
    for runner in [Runner::Inline, Runner::Threads(2)] {
        let serving = mux::serve_on(Arc::new(Threads), 4, codec(), slowly);
        let builder = one_poller()
            .idle_timeout(IDLE)
            .runner(runner)
            .on_connection_send(serving);
        call_outlasts_idleness(&Server::start_as_given(builder));
    }
}

/// Dials connections that are cut when they are idle.
fn dialer() -> Dialer {
    let mut options = ConnOptions::for_dialing();
    options.timeouts.idle = Some(IDLE);
    Dialer::new().options(options)
}

#[test]
fn a_client_with_a_call_out_is_not_idle_and_one_without_is() {
    let server = mux_server(slowly);
    let conn = block_on(dialer().dial(server.addr)).unwrap();
    let handle = conn.handle();
    let client = Client::new(conn, codec());
    for _ in 0..2 {
        let answer = block_on(client.call(Message::new(b"slow"))).expect("an answer");
        assert_eq!(answer.body.len(), 4);
    }
    let reason = block_on(handle.closed());
    assert!(matches!(reason, CloseReason::Timeout(Timeout::Idle)));
}

#[test]
fn a_call_that_was_given_up_keeps_nothing() {
    let server = mux_server(slowly);
    let conn = block_on(dialer().dial(server.addr)).unwrap();
    let handle = conn.handle();
    let client = Client::new(conn, codec());
    let soon = Instant::now() + SHORT / 4;
    let late = block_on(client.call_by(soon, Message::new(b"slow"))).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    let reason = block_on(handle.closed());
    assert!(matches!(reason, CloseReason::Timeout(Timeout::Idle)));
}

#[test]
fn a_connection_that_is_out_of_its_pool_is_not_idle() {
    let server = Server::rpc();
    let pool = ConnPool::new(dialer());
    let mut conn = block_on(pool.get(server.addr)).unwrap();
    let waits = async {
        sleep(WORK).await;
        crate::support::call(&mut conn, b"still here").await
    };
    block_on(waits).expect("a connection");
    let beside = async {
        // What it waits for is the answer to something.
        let mut reader = conn.reader();
        netpoll::time::timeout(WORK, reader.wait(1)).await
    };
    assert!(block_on(beside).is_err(), "it is not cut");
    assert!(conn.is_active());
}
