// SPDX-License-Identifier: MIT OR Apache-2.0
//! When and how often handlers are called, and which connections continue meanwhile.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use netpoll::{CloseReason, Connection};

use crate::support::{Gate, Server, Whole, bytes, eventually, frame, poll_once, rpc};

/// Yields once.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn wakes_from_another_thread_are_not_lost() {
    let count = Arc::new(AtomicUsize::new(0));
    let waker = Arc::new(Mutex::new(None));
    let (taken, slot) = (Arc::clone(&count), Arc::clone(&waker));
    let handler = handler!([slot, taken], |conn| {
        conn.reader().skip(1).await?;
        for number in 1..=2000 {
            poll_fn(|context| {
                *slot.lock().unwrap() = Some(context.waker().clone());
                match taken.load(Ordering::SeqCst) {
                    count if count >= number => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            })
            .await;
        }
        conn.writer().put_u8(1);
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    for _ in 0..2000 {
        count.fetch_add(1, Ordering::SeqCst);
        let waker = waker.lock().unwrap().take();
        waker.into_iter().for_each(std::task::Waker::wake);
    }
    assert_eq!(peer.receive(1), [1]);
}

#[test]
fn output_of_a_handler_is_sent_while_it_waits() {
    let gate = Gate::default();
    let at = gate.clone();
    let handler = handler!([at], |conn| {
        conn.reader().skip(1).await?;
        conn.writer().put_str("before");
        at.pass().await;
        conn.writer().put_str("after");
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    assert_eq!(peer.receive(6), b"before");
    gate.open();
    assert_eq!(peer.receive(5), b"after");
}

#[test]
fn two_calls_of_one_connection_never_overlap() {
    let inside = Arc::new(AtomicUsize::new(0));
    let handler = handler!([inside], |conn| {
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
        yield_once().await;
        let called = rpc(conn).await;
        yield_once().await;
        inside.fetch_sub(1, Ordering::SeqCst);
        called
    });
    let server = Server::start(crate::support::builder().pollers(2), handler);
    let mut peer = server.connect();
    for _ in 0..20 {
        let requests: Vec<u8> = (0..50).flat_map(|n| frame(&bytes(n, 1))).collect();
        let sending = peer.send_aside(requests.clone());
        assert!(peer.receive(requests.len()) == requests);
        sending.join().unwrap().unwrap();
    }
}

#[test]
fn a_handler_that_consumed_nothing_is_called_for_new_input_and_once_at_the_fin() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let handler = handler!([count], |conn| {
        if conn.reader().peek(1).await?[0] != b's' {
            return rpc(conn).await;
        }
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let (mut stalled, mut other) = (server.connect(), server.connect());
    for sent in 1..=3 {
        stalled.send(b"s");
        eventually("the call", || calls.load(Ordering::SeqCst) == sent);
        (0..20).for_each(|_| other.call(b"other work"));
        assert_eq!(
            calls.load(Ordering::SeqCst),
            sent,
            "called without new input"
        );
    }
    stalled.finish();
    assert_eq!(stalled.receive_all().unwrap(), b"");
    assert!(matches!(server.ending(), CloseReason::PeerFin));
    assert_eq!(calls.load(Ordering::SeqCst), 4, "once more at the FIN");
}

#[test]
fn a_handler_that_leaves_part_of_the_input_is_called_again_for_it() {
    let handler = async |conn: &mut Connection| {
        let (mut reader, mut writer) = conn.split();
        writer.put_u8(reader.read_u8().await? + 1);
        Ok(())
    };
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    let sent: Vec<u8> = (0..5000_u32).map(|n| (n % 200) as u8).collect();
    peer.send(&sent);
    let answers: Vec<u8> = sent.iter().map(|byte| byte + 1).collect();
    assert!(peer.receive(5000) == answers);
}

#[test]
fn a_connection_handler_can_send_before_the_peer_does() {
    let handler = async |mut conn: Connection| {
        conn.writer().put_str("hello\n");
        let answer = conn.reader().until(b'\n', 100).await?.to_vec();
        conn.writer().put_slice(&answer);
        Ok(())
    };
    let server = Server::start(crate::support::builder().pollers(1), Whole(handler));
    let mut peer = server.connect();
    assert_eq!(peer.receive(6), b"hello\n");
    peer.send(b"you too\n");
    assert_eq!(peer.receive_all().unwrap(), b"you too\n");
}

#[test]
fn an_echo_by_chunks_returns_every_byte() {
    let handler = async |mut conn: Connection| {
        while let Some(chunk) = conn.reader().chunk().await? {
            conn.writer().append(chunk);
        }
        Ok(())
    };
    let server = Server::start(crate::support::builder().pollers(1), Whole(handler));
    let mut peer = server.connect();
    for size in [1, 2, 1000, 100_000, 1 << 20] {
        let sent = bytes(size, 11);
        let sending = peer.send_aside(sent.clone());
        assert!(peer.receive(size) == sent);
        sending.join().unwrap().unwrap();
    }
    peer.finish();
    assert_eq!(peer.receive_all().unwrap(), b"");
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn a_handler_that_drops_a_wait_is_called_again_only_for_new_input() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let handler = handler!([count], |conn| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut reader = conn.reader();
        // As a timeout or a select does that drops its read.
        if poll_once(pin!(reader.wait(4)).as_mut()).is_ready() {
            let word = reader.read_vec(4).await?;
            conn.writer().put_slice(&word);
        }
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let (mut peer, mut other) = (server.connect(), server.connect());
    for (byte, before) in b"word".iter().zip(0..) {
        eventually("the call", || calls.load(Ordering::SeqCst) >= before);
        for _ in 0..20 {
            other.send(b"turn");
            other.receive(4);
        }
        // One call for each byte that arrived, and one for each word of the other peer.
        assert!(calls.load(Ordering::SeqCst) <= before + 20 * (before + 1) * 4);
        peer.send(&[*byte]);
    }
    assert_eq!(peer.receive(4), b"word");
    let made = calls.load(Ordering::SeqCst);
    assert!(made <= 4 * 20 * 4 + 4, "{made} calls");
}
