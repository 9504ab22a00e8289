// SPDX-License-Identifier: MIT OR Apache-2.0
//! The futures that wait for output to be sent, and for room.

use std::future::{Future, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use netpoll::buffer::LinkBuffer;
use netpoll::connection::ConnectionHandle;
use netpoll::{Connection, EventLoop};

use crate::hostile::{Scene, survives, watched};
use crate::reading::ask;
use crate::support::{LIMIT, Peer, Server, eventually, pair};

/// More than the kernel's buffers hold.
const MUCH: usize = 8 << 20;

fn much() -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    buffer.push(vec![7; MUCH].into());
    buffer
}

/// A future that waits while [`MUCH`] is unsent, until the peer reads or ends.
fn scene<F>(
    waits: impl FnOnce(Connection) -> F,
    happens: impl FnOnce(Peer) + Send + 'static,
) -> Scene
where
    F: Future<Output = ()> + Send + 'static,
{
    let (mut conn, peer) = pair();
    conn.writer().append(much());
    let handle: ConnectionHandle = conn.handle();
    Scene::new(waits(conn), move || ask(&handle), move || happens(peer))
}

/// Reads to the end, on a thread of its own.
fn reads(mut peer: Peer) {
    std::thread::spawn(move || drop(peer.receive_all()));
}

#[test]
fn flush_survives_hostile_wakers() {
    survives("flush", || {
        let waits =
            |mut conn: Connection| async move { conn.writer().flush().await.expect("all sent") };
        scene(waits, reads)
    });
    survives("OwnedWriter", || {
        let waits = |conn: Connection| async move {
            let (_reader, mut writer) = conn.into_split();
            writer.flush().await.expect("all sent");
        };
        scene(waits, reads)
    });
}

#[test]
fn flush_that_fails_survives_hostile_wakers() {
    survives("flush that fails", || {
        let waits = |mut conn: Connection| async move {
            conn.writer().flush().await.expect_err("a reset");
        };
        scene(waits, Peer::reset)
    });
}

#[test]
fn writable_survives_hostile_wakers() {
    survives("room", || {
        let waits =
            |mut conn: Connection| async move { conn.writer().writable().await.expect("room") };
        scene(waits, reads)
    });
}

#[test]
fn write_queue_send_and_flush_survive_hostile_wakers() {
    survives("send", || {
        let waits = |conn: Connection| async move {
            let mut buffer = LinkBuffer::new();
            buffer.put_str("more");
            conn.write_queue().send(buffer).await.expect("room");
        };
        scene(waits, reads)
    });
    survives("flush of a write queue", || {
        let waits =
            |conn: Connection| async move { conn.write_queue().flush().await.expect("all sent") };
        scene(waits, reads)
    });
    survives("send that fails", || {
        let waits = |conn: Connection| async move {
            let mut buffer = LinkBuffer::new();
            buffer.put_str("more");
            let sent = conn.write_queue().send(buffer).await;
            sent.expect_err("a reset");
        };
        scene(waits, Peer::reset)
    });
}

#[test]
fn into_fd_survives_hostile_wakers() {
    survives("into_fd", || {
        let waits = |conn: Connection| async move {
            let _taken = conn.into_fd().await.expect("a socket");
        };
        scene(waits, reads)
    });
}

/// A waker that aborts its connection.
struct Aborts(ConnectionHandle);

impl Wake for Aborts {
    fn wake(self: Arc<Self>) {
        self.0.abort();
    }
}

#[test]
fn abort_by_a_waker_during_a_close_resets_the_peer() {
    for unsent in [0, MUCH] {
        watched("abort", || {
            let (mut conn, peer) = pair();
            conn.writer().push(vec![7; unsent].into());
            let handle = conn.handle();
            let waker = Waker::from(Arc::new(Aborts(conn.handle())));
            let mut closed = Box::pin(conn.closed());
            let polled = closed.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            handle.close();
            // The peer reads nothing, so nothing else moves the connection.
            eventually("a reset", || {
                peer.stream.take_error().expect("a socket").is_some()
            });
        });
    }
}

#[test]
fn abort_by_a_waker_during_a_drain_resets_the_peer() {
    watched("abort", || {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let waits = Arc::clone(&kept);
        let builder = EventLoop::builder()
            .pollers(1)
            .on_connect(move |conn: &mut Connection| {
                let waker = Waker::from(Arc::new(Aborts(conn.handle())));
                let mut closed = Box::pin(conn.closed());
                let polled = closed.as_mut().poll(&mut Context::from_waker(&waker));
                waits.lock().unwrap().push((closed, polled.is_pending()));
                ready(Ok(()))
            })
            .on_request(async |conn: &mut Connection| {
                conn.reader().skip(1).await.map_err(Into::into)
            });
        let server = Server::start_unobserved(builder);
        let peer = Peer::connect(server.addr);
        eventually("a connection", || !kept.lock().unwrap().is_empty());
        let over = server.handle.shutdown(LIMIT);
        eventually("a reset", || {
            peer.stream.take_error().expect("a socket").is_some()
        });
        drop(over);
    });
}
