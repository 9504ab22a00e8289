// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every timeout works with every way of serving. Each ends the connection of a peer that exceeds
//! it, and no other.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use netpoll::buffer::LinkBuffer;
use netpoll::codec::LengthField;
use netpoll::error::Timeout;
use netpoll::mux::{self, Message};
use netpoll::{BoxError, CloseReason, Connection, EventLoop, Runner};

use crate::mux::codec;
use crate::support::{AnyBuilder, Peer, Server, block_on, frame, retry_if_late};
use crate::timeout_builders::{Way, way};
use crate::timeouts::{SHORT, ended_for};

/// The timeout under test.
const PATIENCE: Duration = SHORT.saturating_mul(4);

/// How late threads may run before a peer exceeds a timeout that it should meet.
const SLACK: Duration = Duration::from_millis(50);

/// A large answer: two are more than the sockets hold, and less than the limit of unsent output.
const LARGE: usize = 7 << 19;

/// Returns the answer to a request: one byte, or `LARGE` bytes if the request ends with `!`.
fn answered(mut request: LinkBuffer) -> LinkBuffer {
    let bytes = request.next(request.len()).unwrap_or_default().to_vec();
    let large = bytes.last() == Some(&b'!');
    let mut answer = LinkBuffer::new();
    answer.put_slice(&bytes[..8]);
    answer.put_slice(&vec![b'x'; if large { LARGE } else { 1 }]);
    answer
}

async fn answers(mut request: Message) -> Result<Message, BoxError> {
    let large = request.body.next(request.body.len())?.last() == Some(&b'!');
    let mut body = LinkBuffer::new();
    body.put_slice(&vec![b'x'; if large { LARGE } else { 1 }]);
    request.body = body;
    Ok(request)
}

async fn answer_one(conn: &mut Connection) -> Result<(), BoxError> {
    let codec = LengthField::new();
    let (mut reader, mut writer) = conn.split();
    if let Some(request) = reader.frame(&codec).await? {
        writer.frame(&codec, answered(request))?;
    }
    Ok(())
}

async fn answer_all(mut conn: Connection) -> Result<(), BoxError> {
    let codec = LengthField::new();
    let (mut reader, mut writer) = conn.split();
    while let Some(request) = reader.frame(&codec).await? {
        writer.frame(&codec, answered(request))?;
    }
    Ok(())
}

async fn answer_by_halves(conn: Connection) -> Result<(), BoxError> {
    let codec = LengthField::new();
    let (mut reader, mut writer) = conn.into_split();
    while let Some(request) = reader.frame(&codec).await? {
        writer.frame(&codec, answered(request))?;
    }
    Ok(())
}

/// Polls each task on a thread of its own.
struct Threads;

impl netpoll::runner::Spawn for Threads {
    fn spawn(&self, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {
        std::thread::spawn(move || block_on(task));
    }
}

fn ways() -> Vec<Way> {
    #[cfg_attr(
        not(feature = "tokio"),
        expect(unused_mut, reason = "the feature adds more ways")
    )]
    let mut ways = of_netpoll();
    #[cfg(feature = "tokio")]
    ways.extend(of_tokio());
    ways
}

/// Handlers as tasks of a tokio runtime.
#[cfg(feature = "tokio")]
fn of_tokio() -> [Way; 4] {
    use crate::support::Runs::Tokio;
    [
        way("on_request, tokio", || {
            EventLoop::builder_on(Tokio.runner()).on_request(answer_one)
        }),
        way("on_connection, tokio", || {
            EventLoop::builder_on(Tokio.runner()).on_connection(answer_all)
        }),
        way("halves, tokio", || {
            EventLoop::builder_on(Tokio.runner()).on_connection(answer_by_halves)
        }),
        way("mux::serve_on, tokio", || {
            let serving = mux::serve_on(Arc::new(Threads), 4, codec(), answers);
            EventLoop::builder_on(Tokio.runner()).on_connection(serving)
        }),
    ]
}

fn of_netpoll() -> Vec<Way> {
    vec![
        way("on_request", || {
            EventLoop::builder().on_request(async |conn: &mut Connection| answer_one(conn).await)
        }),
        way("on_request, offloaded", || {
            EventLoop::builder()
                .handler_threads(2)
                .on_request(async |conn: &mut Connection| answer_one(conn).await)
        }),
        way("on_connection", || {
            EventLoop::builder().on_connection(answer_all)
        }),
        way("on_connection, offloaded", || {
            EventLoop::builder_on(Runner::Threads(2)).on_connection(answer_all)
        }),
        way("halves", || {
            EventLoop::builder().on_connection(answer_by_halves)
        }),
        way("halves, offloaded", || {
            EventLoop::builder_on(Runner::Threads(2)).on_connection(answer_by_halves)
        }),
        way("mux::serve", || {
            EventLoop::builder().on_connection(mux::serve(codec(), answers))
        }),
        way("mux::serve_on", || {
            EventLoop::builder().on_connection(mux::serve_on(
                Arc::new(Threads),
                4,
                codec(),
                answers,
            ))
        }),
        way("mux::serve_on, offloaded", || {
            let serving = mux::serve_on(Arc::new(Threads), 4, codec(), answers);
            EventLoop::builder_on(Runner::Threads(2)).on_connection(serving)
        }),
    ]
}

/// Returns a request whose body ends with `last`.
fn request(last: u8) -> Vec<u8> {
    frame(&[0, 0, 0, 0, 0, 0, 0, 7, last])
}

/// Sends a request and receives the answer.
fn ask(peer: &mut Peer) {
    peer.send(&request(b'?'));
    assert_eq!(peer.receive(13).len(), 13);
}

/// Checks with each way of serving that `which` ends the connection of a peer that runs `triggers`,
/// and that a peer that runs `keeps` is always answered.
fn each(
    settings: fn(AnyBuilder) -> AnyBuilder,
    which: Timeout,
    triggers: fn(&mut Peer),
    keeps: fn(&mut Peer),
) {
    for (way, serve) in ways() {
        retry_if_late(SLACK, || {
            one(way, settings(serve()), which, triggers, keeps)
        });
    }
}

fn one(
    way: &str,
    builder: AnyBuilder,
    which: Timeout,
    triggers: fn(&mut Peer),
    keeps: fn(&mut Peer),
) {
    let server = Server::start_as_given(builder);
    keeps(&mut server.connect());
    let closed = server.ending();
    assert!(
        !matches!(closed, CloseReason::Timeout(_)),
        "{way}: {closed}"
    );
    let since = Instant::now();
    let mut peer = server.connect();
    triggers(&mut peer);
    assert_eq!(ended_for(&server, since, PATIENCE / 2), which, "{way}");
}

#[test]
fn first_byte_timeout_works_with_every_way_of_serving() {
    each(
        |builder| builder.first_byte_timeout(PATIENCE),
        Timeout::FirstByte,
        |_is_silent| {},
        |peer| {
            ask(peer);
            sleep(PATIENCE * 2);
            ask(peer);
        },
    );
}

#[test]
fn idle_timeout_works_with_every_way_of_serving() {
    each(
        |builder| builder.idle_timeout(PATIENCE),
        Timeout::Idle,
        ask,
        |peer| {
            for _ in 0..6 {
                sleep(PATIENCE / 3);
                ask(peer);
            }
        },
    );
}

#[test]
fn max_age_works_with_every_way_of_serving() {
    each(
        |builder| builder.max_age(PATIENCE),
        Timeout::MaxAge,
        ask,
        ask,
    );
}

#[test]
fn write_timeout_works_with_every_way_of_serving() {
    each(
        |builder| builder.write_timeout(PATIENCE),
        Timeout::Write,
        |peer| peer.send(&request(b'!').repeat(2)),
        |peer| {
            peer.send(&request(b'!').repeat(2));
            let both = 2 * (LARGE + 12);
            assert_eq!(peer.receive(both).len(), both);
        },
    );
}

#[test]
fn linger_limits_a_close_with_every_way_of_serving() {
    for (way, serve) in ways() {
        retry_if_late(SLACK, || check_linger(way, &serve));
    }
}

fn check_linger(way: &str, serve: impl Fn() -> AnyBuilder) {
    // A peer that closes its stream, too, ends the connection long before the linger time has
    // passed.
    let patient = serve().max_age(PATIENCE).linger(PATIENCE * 1000);
    let server = Server::start_as_given(patient);
    let mut peer = server.connect();
    ask(&mut peer);
    assert_eq!(peer.receive_all().expect("a FIN"), b"", "{way}");
    drop(peer);
    let closed = server.ending();
    assert!(
        matches!(closed, CloseReason::Timeout(Timeout::MaxAge)),
        "{way}: {closed}"
    );
    // A peer that does not close is awaited for the linger time, and no longer.
    let builder = serve().max_age(PATIENCE).linger(PATIENCE);
    let server = Server::start_as_given(builder);
    let mut peer = server.connect();
    ask(&mut peer);
    assert_eq!(peer.receive_all().expect("a FIN"), b"", "{way}");
    let since = Instant::now();
    let reason = ended_for(&server, since, PATIENCE / 2);
    assert_eq!(reason, Timeout::MaxAge, "{way}");
}
