// SPDX-License-Identifier: MIT OR Apache-2.0
//! No connection takes more than its share of a poller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use netpoll::EventLoop;

use crate::support::{Gate, LIMIT, Server, eventually, frame, rpc};

#[test]
fn a_handler_that_awaits_in_the_middle_holds_up_nobody() {
    let gate = Gate::default();
    let at = gate.clone();
    let handler = handler!([at], |conn| {
        let waits = conn.reader().peek(5).await?[4] == b'w';
        if waits {
            at.pass().await;
        }
        rpc(conn).await
    });
    let server = Server::start(EventLoop::builder().pollers(1), handler);
    let (mut waiting, mut other) = (server.connect(), server.connect());
    waiting.send(&frame(b"wait"));
    eventually("the wait", || gate.is_waited_at());
    (0..100).for_each(|_| other.call(b"no need to"));
    gate.open();
    assert_eq!(waiting.receive(8), frame(b"wait"));
}

#[test]
fn a_handler_that_flushes_again_and_again_does_not_starve_another() {
    const FLUSHES: usize = 400;
    let (gate, flushed) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (at, count) = (gate.clone(), Arc::clone(&flushed));
    let (told, when) = channel();
    let handler = handler!([at, count, told], |conn| {
        if conn.reader().read_u8().await? == b'w' {
            at.pass().await;
            told.send(count.load(Ordering::SeqCst))?;
            return Ok(());
        }
        for _ in 0..FLUSHES {
            at.open();
            conn.writer().put_u8(1);
            conn.writer().flush().await?;
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let server = Server::start(EventLoop::builder().pollers(1), handler);
    let (mut waiting, mut flushing) = (server.connect(), server.connect());
    waiting.send(b"w");
    eventually("the wait", || gate.is_waited_at());
    flushing.send(b"f");
    flushing.receive(FLUSHES);
    let when = when.recv_timeout(LIMIT).unwrap();
    assert!(when < FLUSHES / 2, "only after {when} flushes");
}
