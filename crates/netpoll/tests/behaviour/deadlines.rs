// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timeouts that are set, changed and rejected, on a live connection and for a single call.

use std::sync::mpsc::channel;
use std::thread::sleep;
use std::time::{Duration, Instant};

use netpoll::error::Timeout;

use crate::support::{Server, block_on, free_listener, invalid_option, pair, poll_once, rpc};
use crate::timeout_builders::one_poller;
use crate::timeouts::{SHORT, ended_for, timed_out};

#[test]
fn a_changed_timeout_applies_to_a_pending_read() {
    let (sender, receiver) = channel();
    let server = Server::start(
        one_poller(),
        handler!([sender], |conn| {
            sender.send(conn.handle())?;
            conn.reader().next(100).await?;
            Ok(())
        }),
    );
    let mut peer = server.connect();
    let since = Instant::now();
    peer.send(b"a");
    let handle = receiver.recv().unwrap();
    let timeouts = handle.timeouts().unwrap();
    assert_eq!(timeouts, timeouts.read(None));
    handle.set_timeouts(timeouts.read(SHORT)).unwrap();
    assert_eq!(ended_for(&server, since, SHORT), Timeout::Read);
}

#[test]
fn a_changed_timeout_applies_to_an_idle_connection() {
    let (sender, receiver) = channel();
    let server = Server::start(
        one_poller(),
        handler!([sender], |conn| {
            let timeouts = conn.timeouts().idle(SHORT);
            conn.reader().read_u8().await?;
            conn.set_timeouts(timeouts)?;
            sender.send(())?;
            Ok(())
        }),
    );
    let mut peer = server.connect();
    let since = Instant::now();
    peer.send(b"a");
    receiver.recv().unwrap();
    assert_eq!(ended_for(&server, since, SHORT), Timeout::Idle);
}

#[test]
fn a_deadline_applies_only_to_its_reader() {
    let (mut conn, mut peer) = pair();
    let passed = Instant::now();
    peer.send(b"ab");
    block_on(conn.reader().wait(2)).unwrap();
    let mut reader = conn.reader().with_deadline(passed);
    assert_eq!(
        block_on(reader.next(2)).unwrap(),
        b"ab",
        "the bytes have arrived"
    );
    let error = block_on(reader.next(1)).expect_err("the deadline has passed");
    assert_eq!(timed_out(&error), Some(Timeout::Read));
    let began = Instant::now();
    let mut reader = conn.reader().with_deadline(began + SHORT);
    let error = block_on(reader.until(b'\n', 100)).expect_err("no input arrives");
    assert_eq!(timed_out(&error), Some(Timeout::Read));
    let took = began.elapsed();
    assert!(took >= SHORT, "{took:?}");
    peer.send(b"cd");
    assert_eq!(block_on(conn.reader().next(2)).unwrap(), b"cd");
}

#[test]
fn a_dropped_wait_leaves_no_timeout_to_the_next() {
    let (mut conn, peer) = pair();
    let timeouts = conn.timeouts().read(SHORT / 2);
    conn.set_timeouts(timeouts).unwrap();
    {
        let mut reader = conn.reader();
        let mut wait = std::pin::pin!(reader.wait(1));
        assert!(poll_once(wait.as_mut()).is_pending());
        sleep(SHORT);
    }
    conn.set_timeouts(timeouts.read(None)).unwrap();
    let sending = peer.send_aside(b"a".to_vec());
    assert_eq!(block_on(conn.reader().read_u8()).unwrap(), b'a');
    sending.join().unwrap().unwrap();
}

#[test]
fn a_dialed_connection_has_no_first_byte_idle_or_read_timeout_by_default() {
    let (conn, _peer) = pair();
    let timeouts = conn.timeouts();
    assert_eq!(timeouts, timeouts.first_byte(None).idle(None).read(None));
}

#[test]
fn a_zero_timeout_is_rejected_everywhere_and_changes_nothing() {
    let (conn, _peer) = pair();
    let before = conn.timeouts();
    let zero = before.write(Duration::ZERO);
    let field = |error: std::io::Error| Some(invalid_option(&error)?.0);
    assert_eq!(field(conn.set_timeouts(zero).unwrap_err()), Some("write"));
    let handle = conn.handle();
    assert_eq!(field(handle.set_timeouts(zero).unwrap_err()), Some("write"));
    assert_eq!(conn.timeouts(), before);
    let listener = free_listener();
    let built = one_poller()
        .on_request(rpc)
        .idle_timeout(Duration::ZERO)
        .listen(listener);
    assert_eq!(field(built.build().unwrap_err()), Some("idle"));
}

#[test]
fn a_timeout_of_duration_max_never_expires() {
    let server = Server::start(
        one_poller()
            .read_timeout(Duration::MAX)
            .idle_timeout(Duration::MAX)
            .max_age(Duration::MAX),
        rpc,
    );
    server.connect().call(b"hello");
}
