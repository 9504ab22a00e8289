// SPDX-License-Identifier: MIT OR Apache-2.0
//! The futures that wait for input and for a connection's end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use netpoll::codec::LengthField;
use netpoll::connection::ConnectionHandle;
use netpoll::{CloseReason, Connection};

use crate::hostile::{Scene, survives};
use crate::support::{Peer, frame, pair};

/// Calls every method of a handle that does not end the connection.
pub(crate) fn ask(handle: &ConnectionHandle) {
    let _alive = handle.liveness();
    let _pushed = handle.push(Bytes::new()).is_ok();
    let _times = handle.timeouts();
    let queue = handle.write_queue();
    drop(queue.try_send(netpoll::buffer::LinkBuffer::new()));
    drop(handle.closed());
    handle.on_close(|_reason| ());
    handle.pause_reads();
    handle.resume_reads();
}

fn scene<F, T: 'static>(
    waits: impl FnOnce(Connection) -> F,
    happens: impl FnOnce(Peer) -> T + Send + 'static,
) -> Scene
where
    F: Future<Output = ()> + Send + 'static,
{
    let (conn, peer) = pair();
    let handle = conn.handle();
    Scene::new(waits(conn), move || ask(&handle), move || happens(peer))
}

fn sends(bytes: &[u8]) -> impl FnOnce(Peer) -> Peer + Send + use<> {
    let bytes = bytes.to_vec();
    move |mut peer: Peer| {
        peer.send(&bytes);
        peer
    }
}

#[test]
fn wait_for_a_byte_survives_hostile_wakers() {
    survives("wait", || {
        let waits =
            |mut conn: Connection| async move { conn.reader().wait(1).await.expect("a byte") };
        scene(waits, sends(b"a"))
    });
}

#[test]
fn frame_until_and_chunk_survive_hostile_wakers() {
    survives("frame", || {
        let waits = |mut conn: Connection| async move {
            let read = conn.reader().frame(&LengthField::new()).await;
            assert!(read.expect("a frame").is_some());
        };
        scene(waits, sends(&frame(b"body")))
    });
    survives("until", || {
        let waits = |mut conn: Connection| async move {
            let mut reader = conn.reader();
            assert_eq!(reader.until(b'\n', 100).await.expect("a line"), b"ab\n");
        };
        scene(waits, sends(b"ab\n"))
    });
    survives("chunk", || {
        let waits = |mut conn: Connection| async move {
            let chunk = conn.reader().chunk().await.expect("a chunk");
            assert_eq!(chunk.map(|chunk| chunk.len()), Some(2));
        };
        scene(waits, sends(b"ab"))
    });
}

#[test]
fn read_deadline_survives_hostile_wakers() {
    survives("with_deadline", || {
        let waits = |mut conn: Connection| async move {
            let deadline = Instant::now() + Duration::from_millis(30);
            let mut reader = conn.reader().with_deadline(deadline);
            reader.wait(1).await.expect_err("nothing comes");
        };
        scene(waits, |peer| peer)
    });
}

#[test]
fn read_ended_by_a_fin_or_a_reset_survives_hostile_wakers() {
    for resets in [false, true] {
        survives("the peer ends", || {
            let waits = |mut conn: Connection| async move {
                conn.reader().wait(1).await.expect_err("the end");
            };
            scene(waits, move |peer: Peer| match resets {
                true => peer.reset(),
                false => drop(peer),
            })
        });
    }
}

#[test]
fn read_ended_by_this_side_survives_hostile_wakers() {
    for aborts in [false, true] {
        survives("this side ends", || {
            let (mut conn, peer) = pair();
            let (handle, ends) = (conn.handle(), conn.handle());
            let waits = async move {
                conn.reader().wait(1).await.expect_err("the end");
            };
            Scene::new(
                waits,
                move || ask(&handle),
                move || {
                    match aborts {
                        true => ends.abort(),
                        false => ends.close(),
                    }
                    drop(peer);
                },
            )
        });
    }
}

#[test]
fn owned_reader_survives_hostile_wakers() {
    survives("OwnedReader", || {
        let waits = |conn: Connection| async move {
            let (mut reader, _writer) = conn.into_split();
            reader.wait(1).await.expect("a byte");
        };
        scene(waits, sends(b"a"))
    });
}

#[test]
fn closed_future_survives_hostile_wakers() {
    survives("closed", || {
        let waits = |conn: Connection| async move {
            assert!(matches!(conn.closed().await, CloseReason::PeerFin));
        };
        scene(waits, drop)
    });
}

#[test]
fn on_close_callback_may_panic_and_call_handles() {
    crate::hostile::watched("on_close", || {
        let (conn, peer) = pair();
        let handle = conn.handle();
        let (over, ended) = std::sync::mpsc::channel();
        conn.on_close(move |_reason| over.send(()).expect("a test that waits"));
        conn.on_close(move |_reason| ask(&handle));
        conn.on_close(|_reason| panic!("on_close"));
        drop(peer);
        drop(conn);
        ended
            .recv_timeout(crate::support::LIMIT)
            .expect("every callback runs");
    });
}
