// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dropped wait has no further effect: it ends no connection, keeps no waker, and changes no
//! later read.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use netpoll::buffer::LinkBuffer;
use netpoll::codec::LengthField;
use netpoll::mux::{Client, Message};
use netpoll::time::{sleep, timeout};
use netpoll::{Dialer, Reader};

use crate::mux::codec;
use crate::support::{
    Host, Server, block_on, bytes, eventually, pair, poll_once, retry_if_late, tight_listener,
};
use crate::timeout_builders::one_poller;
use crate::timeouts::SHORT;

/// Several times each timeout of these tests.
const LONG: Duration = SHORT.saturating_mul(9);

/// Drops one of the waits of a reader after it has waited without input.
async fn each_wait(reader: &mut Reader<'_>, which: usize) {
    let long = Duration::from_millis(20);
    let elapsed = match which {
        0 => timeout(long, reader.wait(9)).await.is_err(),
        1 => timeout(long, reader.next(9)).await.is_err(),
        2 => timeout(long, reader.peek(9)).await.is_err(),
        3 => timeout(long, reader.until(b'\n', 99)).await.is_err(),
        4 => timeout(long, reader.frame(&LengthField::new()))
            .await
            .is_err(),
        5 => timeout(long, reader.chunk()).await.is_err(),
        _ => timeout(long, reader.read_u64()).await.is_err(),
    };
    assert!(elapsed, "nothing was sent");
}

#[test]
fn a_handler_that_dropped_a_wait_and_works_is_not_idle() {
    retry_if_late(SHORT / 4, || {
        for which in 0..7 {
            let server = Server::start(
                one_poller().idle_timeout(SHORT * 2),
                whole!([], |mut conn| {
                    each_wait(&mut conn.reader(), which).await;
                    sleep(LONG).await;
                    conn.writer().put_str("done");
                    Ok(())
                }),
            );
            assert_eq!(server.connect().receive_all().expect("an end"), b"done");
        }
    });
}

#[test]
fn the_deadline_of_a_dropped_read_has_no_effect() {
    retry_if_late(SHORT / 4, || {
        let server = Server::start(
            one_poller().read_timeout(SHORT * 2),
            whole!([], |mut conn| {
                let soon = Instant::now() + SHORT;
                let given_up = timeout(SHORT / 2, conn.reader().with_deadline(soon).wait(9)).await;
                assert!(given_up.is_err());
                sleep(LONG).await;
                timeout(LONG, conn.reader().wait(1)).await??;
                Ok(())
            }),
        );
        let mut peer = server.connect();
        sleep_here(LONG + SHORT);
        peer.send(b"x");
        let reason = server.ending();
        assert!(matches!(reason, netpoll::CloseReason::Local), "{reason}");
    });
}

fn sleep_here(time: Duration) {
    std::thread::sleep(time);
}

/// Writes more than the peer takes, drops the wait, and continues when the peer has read it all.
fn drops_a_wait_for_output(awaits_writable: bool) {
    let server = Server::start_on(
        tight_listener(),
        one_poller().write_timeout(LONG * 20),
        whole!([], |mut conn| {
            let mut writer = conn.writer().with_deadline(Instant::now() + LONG);
            writer.push(bytes(4 << 20, 1).into());
            let given_up = match awaits_writable {
                true => timeout(SHORT / 5, writer.writable()).await.is_err(),
                false => timeout(SHORT / 5, writer.flush()).await.is_err(),
            };
            assert!(given_up, "the peer does not read yet");
            conn.reader().read_u8().await?;
            conn.writer().put_str("done");
            Ok(())
        }),
    );
    let mut peer = server.connect();
    sleep_here(LONG * 2);
    assert!(peer.receive(4 << 20) == bytes(4 << 20, 1));
    peer.send(b"x");
    assert_eq!(peer.receive_all().expect("an end"), b"done");
}

#[test]
fn the_deadline_of_a_dropped_flush_has_no_effect() {
    drops_a_wait_for_output(false);
}

#[test]
fn the_deadline_of_a_dropped_writable_has_no_effect() {
    drops_a_wait_for_output(true);
}

/// A waker without effect, whose clones can be counted.
struct Counted;

impl Wake for Counted {
    fn wake(self: Arc<Self>) {}
}

/// Fails unless a future that has waited leaves no waker behind when it is dropped.
#[track_caller]
fn leaves_no_waker(what: &str, wait: impl Future) {
    let counted = Arc::new(Counted);
    let waker = Waker::from(Arc::clone(&counted));
    {
        let mut wait = pin!(wait);
        let polled = wait.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending(), "{what} waits");
        assert!(Arc::strong_count(&counted) > 2, "{what} keeps its waker");
    }
    drop(waker);
    // A poller may hold it for a moment.
    eventually(what, || Arc::strong_count(&counted) == 1);
}

#[test]
fn a_dropped_wait_keeps_no_waker() {
    let (mut conn, _peer) = pair();
    let reader = &mut conn.reader();
    leaves_no_waker("wait", reader.wait(1));
    leaves_no_waker("next", reader.next(1));
    leaves_no_waker("until", reader.until(b'x', 9));
    leaves_no_waker("chunk", reader.chunk());
    leaves_no_waker("frame", reader.frame(&LengthField::new()));
    leaves_no_waker("closed", conn.closed());
    let (mut reader, mut writer) = conn.into_split();
    leaves_no_waker("a half", async { reader.wait(1).await });
    writer.push(bytes(8 << 20, 1).into());
    leaves_no_waker("flush", async { writer.flush().await });
    leaves_no_waker("writable", async { writer.writable().await });
    let queue = writer.handle().write_queue();
    let message = || LinkBuffer::from(bytes::Bytes::from_static(b"a message"));
    leaves_no_waker("send", queue.send(message()));
    leaves_no_waker("flush of a queue", queue.flush());
    let conn = reader.reunite(writer).expect("one connection");
    leaves_no_waker("into_fd", conn.into_fd());
    leaves_no_waker("sleep", sleep(LONG * 100));
    let host = Host::new();
    let client = Client::new(
        block_on(Dialer::new().dial(host.addr)).expect("a host"),
        codec(),
    );
    leaves_no_waker("call", client.call(Message::new(b"hello")));
    let options = netpoll::pool::ConnPoolOptions::default().max_connections(1);
    let pool = netpoll::pool::ConnPool::with_options(Dialer::new(), options).expect("a pool");
    let _one = block_on(pool.get(host.addr)).expect("a connection");
    leaves_no_waker("get", pool.get(host.addr));
}

#[test]
fn input_after_a_dropped_large_read_is_limited_as_without_a_reader() {
    let (mut conn, peer) = pair();
    let handle = conn.handle();
    {
        let mut reader = conn.reader();
        let mut wait = pin!(reader.wait(4 << 20));
        assert!(poll_once(wait.as_mut()).is_pending());
    }
    let sending = peer.send_aside(bytes(8 << 20, 1));
    let waiting = || handle.stats().map_or(0, |stats| stats.waiting);
    eventually("some input", || waiting() >= 64 << 10);
    sleep_here(SHORT);
    assert!(waiting() < 1 << 20, "{}", waiting());
    for half in bytes(8 << 20, 1).chunks(4 << 20) {
        let read = block_on(async { conn.reader().read_vec(4 << 20).await });
        assert!(read.expect("all of it") == half);
    }
    sending.join().expect("no panic").expect("a reader");
}
