// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments that are too large, empty or too late, and concurrent calls.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use netpoll::buffer::LinkBuffer;
use netpoll::error::{ErrorExt, ErrorKind as Kind, Timeout};
use netpoll::{Builder, CloseReason, Connection, EventLoop, Listener};

use crate::support::{block_on, bytes, eventually, invalid_option, pair, poll_once};

#[test]
fn too_many_pollers_or_threads_are_rejected_with_the_field_name() {
    let build = |given: fn(Builder) -> Builder| {
        let builder = EventLoop::builder().on_request(async |_: &mut Connection| Ok(()));
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        given(builder).listen(listener).build().unwrap_err()
    };
    let pollers = build(|builder| builder.pollers(100_000));
    let threads = build(|builder| builder.handler_threads(100_000));
    for (error, field) in [(pollers, "pollers"), (threads, "handler_threads")] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(invalid_option(&error).unwrap().0, field);
    }
}

#[test]
fn a_read_of_zero_bytes_completes_at_once() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    let empty: [u8; 0] = [];
    for _ in 0..2 {
        assert_eq!(block_on(reader.peek(0)).unwrap(), empty);
        assert_eq!(block_on(reader.next(0)).unwrap(), empty);
        block_on(reader.skip(0)).unwrap();
        block_on(reader.wait(0)).unwrap();
        assert!(block_on(reader.slice(0)).unwrap().is_empty());
        assert!(block_on(reader.split_to(0)).unwrap().is_empty());
        block_on(reader.read_exact(&mut [])).unwrap();
        assert_eq!(block_on(reader.read_vec(0)).unwrap(), empty);
        assert_eq!(block_on(reader.read_string(0)).unwrap(), "");
        // One round without input, one with input, which stays.
        peer.send(b"it");
        block_on(reader.wait(2)).unwrap();
    }
    block_on(reader.wait(4)).unwrap();
    assert_eq!(block_on(reader.next(4)).unwrap(), b"itit");
}

#[test]
fn a_read_of_usize_max_is_rejected_by_every_call() {
    let (mut conn, mut peer) = pair();
    peer.send(b"four");
    let mut reader = conn.reader();
    block_on(reader.wait(4)).unwrap();
    for n in [usize::MAX, isize::MAX as usize + 1, isize::MAX as usize] {
        let errors = [
            block_on(reader.peek(n)).map(drop).unwrap_err(),
            block_on(reader.next(n)).map(drop).unwrap_err(),
            block_on(reader.skip(n)).unwrap_err(),
            block_on(reader.wait(n)).unwrap_err(),
            block_on(reader.slice(n)).map(drop).unwrap_err(),
            block_on(reader.split_to(n)).map(drop).unwrap_err(),
            block_on(reader.read_vec(n)).map(drop).unwrap_err(),
            block_on(reader.read_string(n)).map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            let kind = error.netpoll_kind();
            assert!(
                matches!(kind, Some(Kind::FrameTooLarge { .. })),
                "{error:?}"
            );
        }
    }
    assert_eq!(block_on(reader.next(4)).unwrap(), b"four");
}

#[test]
fn empty_puts_send_nothing() {
    let (mut conn, mut peer) = pair();
    let mut writer = conn.writer();
    writer.append(LinkBuffer::new());
    writer.push(Bytes::new());
    writer.put_slice(b"");
    writer.put_slices(&[b"", b""]);
    writer.put_str("");
    writer.with(|_| ());
    assert_eq!(writer.unsent(), 0);
    assert!(poll_once(std::pin::pin!(writer.flush())).is_ready());
    conn.handle().push(Bytes::new()).unwrap();
    conn.writer().put_str("something");
    block_on(conn.writer().flush()).unwrap();
    assert_eq!(peer.receive(9), b"something");
}

#[test]
fn a_read_with_a_past_deadline_fails_at_once_and_consumes_nothing() {
    let (mut conn, mut peer) = pair();
    peer.send(b"ab");
    block_on(conn.reader().wait(2)).unwrap();
    let past = Instant::now() - Duration::from_secs(1);
    let error = {
        let mut reader = conn.reader().with_deadline(past);
        match poll_once(std::pin::pin!(reader.next(3))) {
            Poll::Ready(read) => read.map(<[u8]>::to_vec).unwrap_err(),
            Poll::Pending => panic!("pending"),
        }
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(matches!(
        error.netpoll_kind(),
        Some(Kind::TimedOut {
            timeout: Timeout::Read,
            ..
        })
    ));
    // Received bytes need no wait, and the next reader has no deadline.
    let read = block_on(conn.reader().with_deadline(past).next(2)).map(<[u8]>::to_vec);
    assert_eq!(read.unwrap(), b"ab");
    peer.send(b"c");
    assert_eq!(block_on(conn.reader().read_u8()).unwrap(), b'c');
}

#[test]
fn maximum_timeouts_can_be_set_on_an_open_connection() {
    let (mut conn, mut peer) = pair();
    let longest = Duration::MAX;
    let timeouts = conn.timeouts().read(longest).write(longest);
    let timeouts = timeouts.idle(longest).linger(longest);
    conn.set_timeouts(timeouts).unwrap();
    {
        let mut reader = conn.reader();
        let mut answer = std::pin::pin!(reader.next(4));
        assert!(poll_once(answer.as_mut()).is_pending());
    }
    peer.send(b"here");
    assert_eq!(block_on(conn.reader().next(4)).unwrap(), b"here");
    conn.writer().put_str("there");
    block_on(conn.writer().flush()).unwrap();
    assert_eq!(peer.receive(5), b"there");
}

#[test]
fn concurrent_closes_by_many_threads_close_the_connection_once() {
    for round in 0..50 {
        let (mut conn, mut peer) = pair();
        let ends = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ends);
        conn.on_close(move |reason| {
            assert!(matches!(reason, CloseReason::Local));
            count.fetch_add(1, Ordering::SeqCst);
        });
        let start = Barrier::new(8);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (handle, start) = (conn.handle(), &start);
                scope.spawn(move || {
                    start.wait();
                    match (round + thread) % 4 {
                        0 => handle.abort(),
                        _ => handle.close(),
                    }
                });
            }
        });
        let error = block_on(conn.reader().wait(1)).unwrap_err();
        let reason = error.close_reason().unwrap();
        assert!(matches!(reason, CloseReason::Local));
        drop(conn);
        // The FIN of a close may arrive before the reset of an abort.
        assert_eq!(peer.receive_all().unwrap_or_default(), b"");
        eventually("the close", || ends.load(Ordering::SeqCst) > 0);
        assert_eq!(ends.load(Ordering::SeqCst), 1);
    }
}

/// Flushes `size` bytes on a thread that returns the connection and the result.
fn flushing(
    mut conn: Connection,
    size: usize,
) -> std::thread::JoinHandle<(Connection, std::io::Result<()>)> {
    let handle = conn.handle();
    conn.writer().push(Bytes::from(bytes(size, 5)));
    let flushing = std::thread::spawn(move || {
        let flushed = block_on(conn.writer().flush());
        (conn, flushed)
    });
    // Some bytes are sent and the rest cannot be: the flush is pending, or is about to be.
    let unsent = || handle.stats().is_some_and(|stats| stats.sent > 0);
    eventually("a pending flush", unsent);
    flushing
}

#[test]
fn a_close_during_a_pending_flush_sends_all_output() {
    let (conn, mut peer) = pair();
    let handle = conn.handle();
    let size = 7 << 20;
    let flushing = flushing(conn, size);
    handle.close();
    assert!(peer.receive_all().unwrap() == bytes(size, 5));
    peer.finish();
    let (mut conn, _flushed) = flushing.join().unwrap();
    let error = block_on(conn.writer().flush()).unwrap_err();
    assert!(error.close_reason().is_some());
}

#[test]
fn an_abort_during_a_pending_flush_fails_it_with_the_reason() {
    let (conn, mut peer) = pair();
    let handle = conn.handle();
    let flushing = flushing(conn, 7 << 20);
    handle.abort();
    let (conn, flushed) = flushing.join().unwrap();
    let error = flushed.unwrap_err();
    let reason = error.close_reason().unwrap();
    assert!(matches!(reason, CloseReason::Local));
    drop(conn);
    peer.expect_reset();
}

#[test]
fn filling_a_reservation_after_the_close_has_no_effect() {
    let (mut conn, mut peer) = pair();
    let handle = conn.handle();
    let mut writer = conn.writer();
    let reservation = writer.reserve(4).unwrap();
    handle.close();
    block_on(handle.closed());
    // `fill` may succeed or fail, and must not panic.
    let _filled = writer.fill(&reservation, b"1234").is_ok();
    writer.commit_all();
    writer.put_u32(1);
    writer.put_u64_le(1);
    let errors = [
        block_on(writer.writable()).unwrap_err(),
        block_on(writer.flush()).unwrap_err(),
        handle.push(Bytes::from_static(b"late")).unwrap_err(),
    ];
    for error in errors {
        assert!(error.close_reason().is_some(), "{error:?}");
    }
    conn.writer().shutdown();
    assert_eq!(conn.writer().unsent(), 0);
    drop(conn);
    assert!(handle.push(Bytes::from_static(b"later")).is_err());
    assert_eq!(peer.receive_all().unwrap(), b"");
}
