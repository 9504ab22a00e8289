// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that never complete a frame. The timeout of a frame runs from its first byte until it is
//! consumed, however the server's reads come and go.

use std::io::Write;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netpoll::codec::LengthField;
use netpoll::error::{ErrorExt, ErrorKind as Kind, Timeout};
use netpoll::mux::{self, Message};
use netpoll::options::MinRate;
use netpoll::time::timeout;
use netpoll::{BoxError, Connection, EventLoop, Runner};

use crate::mux::codec;
#[cfg(feature = "tokio")]
use crate::support::Runs::Tokio;
use crate::support::{AnyBuilder, Peer, Server, block_on, bytes, frame, retry_if_late};
use crate::timeout_builders::{Way, one_poller, way};
use crate::timeouts::{SHORT, ended_for};

/// The timeout of a frame.
const FRAME_TIMEOUT: Duration = SHORT.saturating_mul(3);

/// The timeout of one read, after which the server starts another.
const READ_TIMEOUT: Duration = Duration::from_millis(20);

/// The length prefix of a frame of 1000 bytes.
const HEAD: [u8; 4] = 1000_u32.to_be_bytes();

/// Sends `begin` and then single bytes at intervals until the server closes the connection.
fn drips(peer: &Peer, begin: &[u8]) -> JoinHandle<()> {
    let mut stream = peer.stream.try_clone().expect("a descriptor");
    let begin = begin.to_vec();
    std::thread::spawn(move || {
        let mut sent = stream.write_all(&begin);
        while sent.is_ok() {
            std::thread::sleep(READ_TIMEOUT);
            sent = stream.write_all(b"x");
        }
    })
}

/// All ways to serve.
fn ways() -> impl Iterator<Item = Way> {
    mux_servers()
        .into_iter()
        .chain(loops())
        .chain(requests())
        .chain(tokio_ways())
}

/// Handlers as tasks of a tokio runtime, with the feature `tokio`.
fn tokio_ways() -> impl Iterator<Item = Way> {
    #[cfg(feature = "tokio")]
    let ways: [Way; 3] = [
        way("mux::serve_on, tokio", || {
            let serving = mux::serve_on(Arc::new(Threads), 4, codec(), async |request| Ok(request));
            EventLoop::builder_on(Tokio.runner()).on_connection(serving)
        }),
        way("a loop of next, tokio", || {
            EventLoop::builder_on(Tokio.runner()).on_connection(next_loop)
        }),
        way("incomplete requests, tokio", || {
            EventLoop::builder_on(Tokio.runner()).on_request(skip_if_complete)
        }),
    ];
    #[cfg(not(feature = "tokio"))]
    let ways: [Way; 0] = [];
    ways.into_iter()
}

fn mux_servers() -> Vec<Way> {
    vec![
        way("mux::serve", || {
            EventLoop::builder()
                .on_connection(mux::serve(codec(), async |request: Message| Ok(request)))
        }),
        way("mux::serve_on", || {
            EventLoop::builder().on_connection(mux::serve_on(
                Arc::new(Threads),
                4,
                codec(),
                async |request: Message| Ok(request),
            ))
        }),
        way("mux::serve_on, offloaded", || {
            let serving = mux::serve_on(Arc::new(Threads), 4, codec(), async |request| Ok(request));
            EventLoop::builder_on(Runner::Threads(2)).on_connection(serving)
        }),
    ]
}

fn loops() -> Vec<Way> {
    vec![
        way("a loop of next", || {
            EventLoop::builder().on_connection(next_loop)
        }),
        way("a loop of next, offloaded", || {
            EventLoop::builder_on(Runner::Threads(2)).on_connection(next_loop)
        }),
        way("a loop that ignores errors", || {
            EventLoop::builder().on_connection(async |mut conn: Connection| {
                loop {
                    let _nothing = timeout(READ_TIMEOUT, conn.reader().next(1004)).await;
                    if !conn.is_active() {
                        return Ok(());
                    }
                }
            })
        }),
        way("a loop of peek and until", || {
            EventLoop::builder().on_connection(async |mut conn: Connection| {
                loop {
                    let mut reader = conn.reader();
                    if let Ok(peeked) = timeout(READ_TIMEOUT, reader.peek(1004)).await {
                        peeked?;
                    }
                    if let Ok(line) = timeout(READ_TIMEOUT, reader.until(b'\n', 2000)).await {
                        line?;
                    }
                }
            })
        }),
        way("a loop of frames", || {
            EventLoop::builder().on_connection(async |mut conn: Connection| {
                loop {
                    let mut reader = conn.reader().with_deadline(Instant::now() + READ_TIMEOUT);
                    match reader.frame(&LengthField::new()).await {
                        Err(error) if !is_read_timeout(&error) => return Err(error.into()),
                        _ => {}
                    }
                }
            })
        }),
        way("halves", || {
            EventLoop::builder().on_connection(async |conn: Connection| {
                let (mut reader, _writer) = conn.into_split();
                loop {
                    if let Ok(next) = timeout(READ_TIMEOUT, reader.next(1004)).await {
                        next?;
                    }
                }
            })
        }),
    ]
}

fn requests() -> Vec<Way> {
    vec![
        way("requests with a timeout", || {
            EventLoop::builder().on_request(async |conn: &mut Connection| {
                if let Ok(next) = timeout(READ_TIMEOUT, conn.reader().next(1004)).await {
                    next?;
                }
                Ok(())
            })
        }),
        way("incomplete requests", || {
            EventLoop::builder()
                .on_request(async |conn: &mut Connection| skip_if_complete(conn).await)
        }),
        way("incomplete requests, offloaded", || {
            EventLoop::builder()
                .handler_threads(2)
                .on_request(async |conn: &mut Connection| skip_if_complete(conn).await)
        }),
    ]
}

async fn skip_if_complete(conn: &mut Connection) -> Result<(), BoxError> {
    let mut reader = conn.reader();
    if reader.available() >= 1004 {
        reader.skip(1004).await?;
    }
    Ok(())
}

/// Whether the read's own deadline passed, not a timeout of the connection.
fn is_read_timeout(error: &std::io::Error) -> bool {
    matches!(error.netpoll_kind(), Some(Kind::TimedOut { .. }))
}

async fn next_loop(mut conn: Connection) -> Result<(), BoxError> {
    loop {
        if let Ok(next) = timeout(READ_TIMEOUT, conn.reader().next(1004)).await {
            let frame = next?.to_vec();
            conn.writer().put_slice(&frame);
        }
    }
}

/// Runs each task on a thread of its own.
struct Threads;

impl netpoll::runner::Spawn for Threads {
    fn spawn(&self, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {
        std::thread::spawn(move || block_on(task));
    }
}

/// Fails unless a dripping peer hits the timeout `which` in each way of serving.
fn check_each_way(settings: fn(AnyBuilder) -> AnyBuilder, time: Duration, which: Timeout) {
    for (way, serve) in ways() {
        let server = Server::start_as_given(settings(serve()));
        let since = Instant::now();
        let peer = server.connect();
        let dripping = drips(&peer, &HEAD);
        assert_eq!(ended_for(&server, since, time), which, "{way}");
        drop(peer);
        dripping.join().expect("no panic");
    }
}

#[test]
fn a_dripping_peer_hits_the_read_timeout_in_every_way_of_serving() {
    check_each_way(
        |builder| builder.read_timeout(FRAME_TIMEOUT),
        FRAME_TIMEOUT,
        Timeout::Read,
    );
}

#[test]
fn a_dripping_peer_hits_the_minimum_rate_in_every_way_of_serving() {
    check_each_way(
        |builder| builder.min_rate(MinRate::new(2000, FRAME_TIMEOUT)),
        FRAME_TIMEOUT,
        Timeout::MinRate,
    );
}

#[test]
fn a_dripping_peer_hits_the_idle_timeout_in_every_way_of_serving() {
    check_each_way(
        |builder| builder.idle_timeout(FRAME_TIMEOUT),
        FRAME_TIMEOUT,
        Timeout::Idle,
    );
}

#[test]
fn a_peer_that_stops_within_a_header_hits_the_read_timeout() {
    for (way, serve) in ways() {
        let server = Server::start_as_given(serve().read_timeout(FRAME_TIMEOUT));
        let since = Instant::now();
        let mut peer = server.connect();
        peer.send(&HEAD[..2]);
        assert_eq!(
            ended_for(&server, since, FRAME_TIMEOUT),
            Timeout::Read,
            "{way}"
        );
    }
}

#[test]
fn a_mux_server_waits_for_the_next_request_without_a_timeout() {
    for (way, serve) in mux_servers() {
        let server = Server::start_as_given(serve().read_timeout(SHORT));
        let mut peer = server.connect();
        for _ in 0..2 {
            std::thread::sleep(SHORT * 5);
            let mut message = 7_u64.to_be_bytes().to_vec();
            message.extend_from_slice(b"hello");
            let message = frame(&message);
            peer.send(&message);
            assert!(peer.receive(message.len()) == message, "{way}");
        }
    }
}

#[test]
fn a_slow_and_steady_upload_hits_no_timeout() {
    retry_if_late(READ_TIMEOUT, || {
        for (way, serve) in loops().into_iter().take(2) {
            let builder = serve()
                .idle_timeout(FRAME_TIMEOUT)
                .min_rate(MinRate::new(50, FRAME_TIMEOUT));
            let server = Server::start_as_given(builder);
            let mut peer = server.connect();
            let body = bytes(1004, 3);
            for part in body.chunks(20) {
                peer.send(part);
                std::thread::sleep(READ_TIMEOUT * 2);
            }
            assert!(peer.receive(1004) == body, "{way}");
        }
    });
}

#[test]
fn no_timeout_runs_against_the_peer_while_the_handler_is_busy() {
    retry_if_late(READ_TIMEOUT, || {
        let server = Server::start(
            one_poller()
                .read_timeout(FRAME_TIMEOUT)
                .min_rate(MinRate::new(100_000, FRAME_TIMEOUT)),
            whole!([], |mut conn| {
                conn.reader().peek(2).await?;
                netpoll::time::sleep(FRAME_TIMEOUT * 4).await;
                let body = conn.reader().next(40).await?.to_vec();
                conn.writer().put_slice(&body);
                Ok(())
            }),
        );
        let mut peer = server.connect();
        let body = bytes(40, 5);
        let since = Instant::now();
        for part in body.chunks(2) {
            peer.send(part);
            std::thread::sleep(FRAME_TIMEOUT / 8);
        }
        assert!(peer.receive_all().expect("the end of the stream") == body);
        assert!(since.elapsed() >= FRAME_TIMEOUT * 2);
    });
}
