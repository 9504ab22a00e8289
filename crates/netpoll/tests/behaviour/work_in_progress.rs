// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection is not idle while work for it is in progress, in any task and during any wait of
//! the handler. It is idle when the work is done.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use netpoll::buffer::LinkBuffer;
use netpoll::error::Timeout;
use netpoll::mux::{self, Client, Message};
use netpoll::options::ConnOptions;
use netpoll::pool::ConnPool;
use netpoll::time::{sleep, timeout};
use netpoll::{BoxError, CloseReason, Connection, Dialer, EventLoop, Runner};

use crate::mux::{codec, server as mux_server};
use crate::support::{Server, block_on, retry_if_late};
use crate::timeout_builders::{Way, one_poller, way};
use crate::timeouts::{SHORT, ended_for};

/// The idle timeout of the connections in these tests.
const IDLE: Duration = SHORT.saturating_mul(2);

/// How long work takes: several times the idle timeout.
const WORK: Duration = SHORT.saturating_mul(9);

/// Answers each request after `WORK`.
async fn slowly(request: Message) -> Result<Message, BoxError> {
    sleep(WORK).await;
    Ok(request)
}

/// Checks that the idle timeout closes a connection only after the answer to its slow call.
fn check_call_outlasts_idle_timeout(server: &Server) {
    let conn = block_on(Dialer::new().dial(server.addr)).expect("a server");
    let client = Client::new(conn, codec());
    let answer = block_on(client.call(Message::new(b"slow"))).expect("an answer");
    let since = Instant::now();
    assert_eq!(answer.body.len(), 4);
    assert_eq!(ended_for(server, since, IDLE / 2), Timeout::Idle);
}

#[test]
fn a_mux_request_in_progress_keeps_its_connection_from_being_idle() {
    retry_if_late(SHORT / 4, || {
        let builder = EventLoop::builder()
            .pollers(1)
            .idle_timeout(IDLE)
            .on_connection(mux::serve(codec(), slowly));
        check_call_outlasts_idle_timeout(&Server::start_as_given(builder));
    });
}

/// Polls each task on a thread of its own.
struct Threads;

impl netpoll::runner::Spawn for Threads {
    fn spawn(&self, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {
        std::thread::spawn(move || block_on(task));
    }
}

#[test]
fn a_mux_request_on_an_executor_keeps_its_connection_from_being_idle() {
    for runner in [Runner::Inline, Runner::Threads(2)] {
        let serving = mux::serve_on(Arc::new(Threads), 4, codec(), slowly);
        let builder = EventLoop::builder_on(runner)
            .pollers(1)
            .idle_timeout(IDLE)
            .on_connection(serving);
        check_call_outlasts_idle_timeout(&Server::start_as_given(builder));
    }
}

/// Dials connections with an idle timeout.
fn dialer() -> Dialer {
    let options = ConnOptions::for_dialing().idle_timeout(IDLE);
    Dialer::new().options(options)
}

#[test]
fn a_mux_client_is_idle_only_without_a_pending_call() {
    retry_if_late(SHORT / 4, || {
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
    });
}

#[test]
fn a_timed_out_call_does_not_keep_its_connection_from_being_idle() {
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
fn a_connection_checked_out_of_its_pool_is_not_idle() {
    let server = Server::rpc();
    let pool = ConnPool::new(dialer());
    let mut conn = block_on(pool.get(server.addr)).unwrap();
    let waits = async {
        sleep(WORK).await;
        crate::support::call(&mut conn, b"still here").await
    };
    block_on(waits).expect("a connection");
    let beside = async {
        // A read outside the pool counts as the wait for an answer.
        let mut reader = conn.reader();
        timeout(WORK, reader.wait(1)).await
    };
    assert!(
        block_on(beside).is_err(),
        "the idle timeout does not close it"
    );
    assert!(conn.is_active());
}

/// Waits for both futures.
async fn both<A: Future, B: Future>(one: A, other: B) -> (A::Output, B::Output) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(output) = one.as_mut().poll(context)
        {
            first = Some(output);
        }
        if second.is_none()
            && let Poll::Ready(output) = other.as_mut().poll(context)
        {
            second = Some(output);
        }
        match (first.is_some(), second.is_some()) {
            (true, true) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    first.zip(second).expect("both outputs")
}

/// Reads and works concurrently; the work takes longer than the idle timeout. Then answers and
/// reads on.
async fn works_and_reads(mut conn: Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let work = async {
        sleep(WORK).await;
        writer.put_str("done");
    };
    let (read, ()) = both(reader.wait(1), work).await;
    Ok(read?)
}

/// As [`works_and_reads`], with a select in place of the join.
async fn races(mut conn: Connection) -> Result<(), BoxError> {
    let mut work = pin!(sleep(WORK));
    let read = {
        let mut reader = conn.reader();
        let mut read = pin!(reader.wait(1));
        poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => work.as_mut().poll(context).map(|()| None),
        })
        .await
    };
    assert!(read.is_none(), "the peer is silent");
    conn.writer().put_str("done");
    conn.reader().wait(1).await?;
    Ok(())
}

/// Reads with one half while a task works with the other.
async fn works_aside(conn: Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.into_split();
    let aside = netpoll::spawn(async move {
        sleep(WORK).await;
        writer.put_str("done");
        writer.flush().await.map(|()| writer)
    });
    let read = reader.wait(1).await;
    drop(aside);
    Ok(read?)
}

fn works() -> Vec<Way> {
    vec![
        way("a join", || {
            EventLoop::builder().on_connection(works_and_reads)
        }),
        way("a join, offloaded", || {
            EventLoop::builder_on(Runner::Threads(2)).on_connection(works_and_reads)
        }),
        way("a select", || EventLoop::builder().on_connection(races)),
        way("a select, offloaded", || {
            EventLoop::builder_on(Runner::Threads(2)).on_connection(races)
        }),
        way("halves", || EventLoop::builder().on_connection(works_aside)),
        way("halves, offloaded", || {
            EventLoop::builder_on(Runner::Threads(2)).on_connection(works_aside)
        }),
    ]
}

#[test]
fn a_handler_that_reads_and_works_concurrently_is_idle_when_the_work_is_done() {
    retry_if_late(SHORT / 4, || {
        for (way, serve) in works() {
            let server = Server::start_as_given(serve().idle_timeout(IDLE));
            let mut peer = server.connect();
            let since = Instant::now();
            assert_eq!(peer.receive(4), b"done", "{way}");
            assert!(since.elapsed() >= IDLE * 2);
            assert_eq!(ended_for(&server, since, WORK), Timeout::Idle, "{way}");
        }
    });
}

#[test]
fn a_task_that_answers_through_the_write_queue_keeps_its_connection_until_it_has() {
    retry_if_late(SHORT / 4, || {
        let builder = one_poller()
            .idle_timeout(IDLE)
            .on_request(async |conn: &mut Connection| {
                let queue = conn.write_queue();
                conn.reader().read_u8().await?;
                drop(netpoll::spawn(async move {
                    sleep(WORK).await;
                    let answer = LinkBuffer::from(bytes::Bytes::from_static(b"done"));
                    queue.send(answer).await.expect("an open connection");
                    // A queue without unsent messages does not keep the connection from being idle.
                    sleep(WORK * 50).await;
                }));
                Ok(())
            });
        let server = Server::start_as_given(builder);
        let mut peer = server.connect();
        peer.send(b"?");
        let since = Instant::now();
        assert_eq!(peer.receive(4), b"done");
        assert_eq!(ended_for(&server, since, WORK), Timeout::Idle);
    });
}

#[test]
fn a_handler_that_only_waits_with_a_timeout_is_idle() {
    let bounded: Vec<Way> = vec![
        way("a timeout", || {
            EventLoop::builder().on_connection(async |mut conn: Connection| {
                loop {
                    if let Ok(read) = timeout(SHORT / 4, conn.reader().wait(1)).await {
                        return Ok(read?);
                    }
                }
            })
        }),
        way("a long timeout, offloaded", || {
            EventLoop::builder_on(Runner::Threads(2)).on_connection(async |mut conn: Connection| {
                Ok(timeout(WORK * 50, conn.reader().wait(1)).await??)
            })
        }),
        way("a wait for the end", || {
            EventLoop::builder().on_connection(async |mut conn: Connection| {
                let closed = conn.closed();
                let (read, _) = both(conn.reader().wait(1), closed).await;
                Ok(read?)
            })
        }),
        way("an echo by halves", || {
            EventLoop::builder().on_connection(async |conn: Connection| {
                let (mut reader, mut writer) = conn.into_split();
                loop {
                    let byte = reader.read_u8().await?;
                    writer.put_u8(byte);
                }
            })
        }),
    ];
    for (way, serve) in bounded {
        let server = Server::start_as_given(serve().idle_timeout(IDLE));
        let mut peer = server.connect();
        let since = Instant::now();
        if way.starts_with("an echo") {
            peer.send(b"?");
            assert_eq!(peer.receive(1), b"?");
        }
        assert_eq!(ended_for(&server, since, IDLE), Timeout::Idle, "{way}");
    }
}
