// SPDX-License-Identifier: MIT OR Apache-2.0
//! No connection takes more than its share of a poller.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use netpoll::{Connection, EventLoop};

use crate::support::{Gate, LIMIT, Server, eventually, frame, rpc};

#[test]
fn a_handler_that_awaits_in_the_middle_holds_up_nobody() {
    let gate = Gate::default();
    let at = gate.clone();
    let handler = async move |conn: &mut Connection| {
        let waits = conn.reader().peek(5).await?[4] == b'w';
        if waits {
            at.pass().await;
        }
        rpc(conn).await
    };
    let server = Server::start(EventLoop::builder().pollers(1).on_request(handler));
    let (mut waiting, mut other) = (server.connect(), server.connect());
    waiting.send(&frame(b"wait"));
    eventually("the wait", || gate.is_waited_at());
    (0..100).for_each(|_| other.call(b"no need to"));
    gate.open();
    assert_eq!(waiting.receive(8), frame(b"wait"));
}

#[test]
fn a_peer_that_pipelines_ten_thousand_requests_does_not_starve_another() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let log = Arc::new(Mutex::new(Vec::new()));
    let writes = Arc::clone(&log);
    let handler = async move |conn: &mut Connection| {
        let kind = conn.reader().peek(5).await?[4];
        writes.lock().unwrap().push(kind);
        if kind == b'h' {
            // Holds the poller, so that both others are ready when it looks again.
            released.lock().unwrap().recv()?;
        }
        rpc(conn).await
    };
    let server = Server::start(EventLoop::builder().pollers(1).on_request(handler));
    let (mut holder, mut greedy, mut modest) =
        (server.connect(), server.connect(), server.connect());
    for peer in [&mut holder, &mut greedy, &mut modest] {
        peer.call(b"x");
    }
    holder.send(&frame(b"h"));
    eventually("the hold", || log.lock().unwrap().last() == Some(&b'h'));
    let flood = frame(b"g").repeat(10_000);
    greedy.send(&flood);
    modest.send(&frame(b"m"));
    release.send(()).unwrap();
    modest.receive(5);
    modest.call(b"m");
    modest.call(b"m");
    assert!(greedy.receive(flood.len()) == flood);
    let log = log.lock().unwrap();
    let greedy_calls = log.iter().take_while(|&&kind| kind != b'm');
    let before_the_first = greedy_calls.filter(|&&kind| kind == b'g').count();
    assert!(
        before_the_first <= 200,
        "{before_the_first} calls came first"
    );
}

#[test]
fn a_handler_that_flushes_again_and_again_does_not_starve_another() {
    const FLUSHES: usize = 400;
    let (gate, flushed) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (at, count) = (gate.clone(), Arc::clone(&flushed));
    let (told, when) = channel();
    let told = Mutex::new(told);
    let handler = async move |conn: &mut Connection| {
        if conn.reader().read_u8().await? == b'w' {
            at.pass().await;
            told.lock().unwrap().send(count.load(Ordering::SeqCst))?;
            return Ok(());
        }
        for _ in 0..FLUSHES {
            at.open();
            conn.writer().put_u8(1);
            conn.writer().flush().await?;
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    };
    let server = Server::start(EventLoop::builder().pollers(1).on_request(handler));
    let (mut waiting, mut flushing) = (server.connect(), server.connect());
    waiting.send(b"w");
    eventually("the wait", || gate.is_waited_at());
    flushing.send(b"f");
    flushing.receive(FLUSHES);
    let when = when.recv_timeout(LIMIT).unwrap();
    assert!(when < FLUSHES / 2, "only after {when} flushes");
}
