// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes of another implementation, by number: for each a test, or the reason why it is
//! impossible here.
//!
//! * B1 to B4, of the buffer: `crates/netpoll-buffer/tests/link_buffer/hazards.rs`.
//! * B5, out of descriptors for the second time: `exhaustion.rs`, which runs out of them twice.
//! * B6, one descriptor closed twice: the drop of an `OwnedFd` closes it, and `Listener::into_fd`
//!   consumes the listener. This crate has no `unsafe`, so it cannot close a bare number.
//! * B7, an index of a queue that overflows: the mailbox of a poller is a `Vec`, taken as a whole
//!   and in order (`src/poll/mailbox.rs`); connections have no queue of writers.
//! * B8 to B11, B15: below.
//! * B12, pollers that are removed under their connections: the builder sets the number of pollers,
//!   and a running loop has no method to change it.
//! * B13, a peer that is gone before `on_connect`: `on_connect.rs`.
//! * B14, a handler that is called in a loop for input that it does not consume: `calls.rs`,
//!   `a_handler_that_consumed_nothing_is_called_for_new_input_and_once_at_the_fin`. A loop
//!   has one handler for its whole life, so no handler can be out of date.
//! * B16, callbacks for the end that are lost when two are added concurrently: the builder takes
//!   `on_disconnect`; for `on_close` see `notices.rs`.
//! * B17, an interrupted send that ends the connection: `crates/netpoll-sys/tests/interrupted.rs`,
//!   over every call.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use netpoll::error::{ErrorExt, ErrorKind as Reported, Timeout};
use netpoll::{Addr, CloseReason, Connection, Dialer};

use crate::support::{
    Kind, LIMIT, Peer, Server, block_on, bytes, call, eventually, frame, pair, rpc, tight_listener,
};

#[test]
fn hazard_b08_a_read_that_times_out_on_a_connection_without_a_name_is_an_error() {
    let (mut conn, peer) = pair();
    let near = conn.peer_addr();
    assert_eq!(
        crate::support::kind() == Kind::Unix,
        !matches!(near, Addr::Tcp(_)),
        "{near}"
    );
    let soon = Instant::now() + Duration::from_millis(20);
    let error = block_on(conn.reader().with_deadline(soon).next(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(matches!(
        error.netpoll_kind(),
        Some(Reported::TimedOut {
            timeout: Timeout::Read,
            ..
        })
    ));
    assert!(!format!("{error} {conn:?} {}", peer.addr()).is_empty());
}

#[test]
fn hazard_b09_calls_on_an_ended_connection_affect_no_other() {
    let server = Server::rpc();
    let mut ended = Vec::new();
    for round in 0..50 {
        let mut conn = block_on(Dialer::new().dial(server.addr)).unwrap();
        block_on(call(&mut conn, b"one")).unwrap();
        conn.close();
        block_on(conn.reader().wait(1)).unwrap_err();
        ended.push(conn);
        // Another connection has its slot at the poller now.
        let mut other = block_on(Dialer::new().dial(server.addr)).unwrap();
        for conn in &mut ended {
            let (mut reader, mut writer) = conn.split();
            assert_eq!(reader.available(), 0);
            block_on(reader.wait(1)).unwrap_err();
            writer.put_slice(&bytes(100, round));
            assert_eq!(writer.unsent(), 0);
            block_on(writer.flush()).unwrap_err();
            conn.abort();
        }
        block_on(call(&mut other, &bytes(1000, round))).unwrap();
    }
}

#[test]
fn hazard_b10_netpoll_412_408_355_a_writer_never_panics_at_the_end_of_its_connection() {
    for round in 0..60 {
        let (mut conn, mut peer) = pair();
        let handle = conn.handle();
        let writing = std::thread::spawn(move || {
            for part in 0..200 {
                let mut writer = conn.writer();
                writer.put_slice(&bytes(5000, part));
                if let Ok(room) = writer.reserve(4) {
                    // The connection may end between any two of these calls.
                    let _filled = writer.fill(&room, b"tail").is_ok();
                }
                writer.commit_all();
                if block_on(writer.flush()).is_err() {
                    break;
                }
            }
            conn
        });
        peer.receive(1000);
        match round % 3 {
            0 => peer.reset(),
            1 => drop(peer),
            _ => {
                handle.timeouts().unwrap();
                peer.finish();
                drop(peer);
            }
        }
        let mut conn = writing.join().expect("no panic");
        // The kernel may have buffered all of it before the peer closed.
        eventually("the end", || {
            conn.writer().put_u8(0);
            block_on(conn.writer().flush()).is_err()
        });
    }
}

#[test]
fn hazard_b11_after_a_timed_out_flush_nothing_is_sent_twice_or_out_of_order() {
    let (sender, errors) = channel();
    let handler = handler!([sender], |conn| {
        let (mut reader, writer) = conn.split();
        reader.skip(1).await?;
        let soon = Instant::now() + Duration::from_millis(50);
        let mut writer = writer.with_deadline(soon);
        for seed in 0..3 {
            writer.push(Bytes::from(bytes(1 << 20, seed)));
            sender.send(writer.flush().await.map_err(|error| error.kind()))?;
        }
        Ok(())
    });
    let builder = crate::support::builder()
        .pollers(1)
        .linger(Duration::from_millis(1));
    let server = Server::start_on(tight_listener(), builder, handler);
    let mut peer = server.connect();
    peer.send(b"?");
    for _ in 0..3 {
        let flushed = errors.recv_timeout(LIMIT).unwrap();
        assert_eq!(flushed, Err(ErrorKind::TimedOut));
    }
    let received = peer.receive_all().unwrap_or_default();
    assert!(bytes(1 << 20, 0).starts_with(&received));
    assert!(matches!(
        server.ending(),
        CloseReason::Timeout(Timeout::Write)
    ));
}

#[test]
fn hazard_b15_on_disconnect_runs_after_the_last_call_with_the_descriptor_open() {
    let busy = Arc::new(AtomicBool::new(false));
    let (works, idle) = (Arc::clone(&busy), Arc::clone(&busy));
    let handler = handler!([works], |conn| {
        works.store(true, Ordering::SeqCst);
        let called = rpc(conn).await;
        works.store(false, Ordering::SeqCst);
        called
    });
    let (sender, seen) = channel();
    let observer = move |conn: &mut Connection, _: &CloseReason| {
        let socket = socket2::SockRef::from(&*conn);
        let open = socket.domain().is_ok() && socket.as_raw_fd() >= 0;
        let alone = !idle.load(Ordering::SeqCst);
        sender.send((open, alone)).expect("a test that waits");
    };
    let server = Server::start_observed(crate::support::builder().pollers(1), handler, observer);
    for round in 0..40 {
        let mut peer = server.connect();
        let whole = frame(b"whole");
        peer.send(&whole[..1 + round % whole.len()]);
        match round % 2 {
            0 => drop(peer),
            _ => peer.reset(),
        }
        assert_eq!(seen.recv_timeout(LIMIT).unwrap(), (true, true));
    }
}

#[test]
fn netpoll_304_a_peer_that_closes_as_its_handler_returns_leaves_no_connection() {
    let mut server = Server::start(crate::support::builder().pollers(2), rpc);
    for round in 0..300 {
        let mut peer = server.connect();
        peer.send(&frame(b"one"));
        match round % 3 {
            0 => drop(peer),
            1 => peer.reset(),
            // When the answer arrives, the handler is about to return.
            _ => drop(peer.receive(7)),
        }
    }
    eventually("all connections accepted", || {
        server.handle.accept_stats().accepted == 300
    });
    eventually("no connection", || server.handle.connections() == 0);
    let endings = server.take_endings();
    server.shut_down(LIMIT);
    assert_eq!(endings.iter().count(), 300);
}

#[test]
fn netpoll_041_062_bytes_that_arrive_as_a_read_begins_to_wait_wake_it() {
    let server = Server::rpc();
    let mut conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    for round in 0..3000_u32 {
        block_on(call(&mut conn, &round.to_be_bytes())).unwrap();
    }
}

#[test]
fn netpoll_296_a_failed_read_leaves_no_deadline_to_the_next() {
    let (mut conn, mut peer) = pair();
    for _ in 0..20 {
        let soon = Instant::now() + Duration::from_millis(2);
        let error = block_on(conn.reader().with_deadline(soon).next(4)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let sending = peer.send_aside(b"four".to_vec());
        assert_eq!(block_on(conn.reader().next(4)).unwrap(), b"four");
        sending.join().unwrap().unwrap();
        // A read above the largest frame fails, and leaves no deadline either.
        block_on(conn.reader().next(usize::MAX)).unwrap_err();
        peer.send(b"last");
        assert_eq!(block_on(conn.reader().next(4)).unwrap(), b"last");
    }
}

#[test]
fn netpoll_363_289_a_dial_succeeds_when_the_server_closes_at_once() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        crate::support::Whole(async |conn: Connection| {
            drop(conn);
            Ok(())
        }),
    );
    for _ in 0..100 {
        let mut conn = block_on(Dialer::new().dial(server.addr)).unwrap();
        assert!(block_on(conn.reader().chunk()).unwrap().is_none());
    }
}

#[test]
fn netpoll_179_196_more_segments_than_one_call_takes_arrive_in_order() {
    let parts = Arc::new(Mutex::new(Vec::new()));
    let (mut conn, mut peer) = pair();
    let mut writer = conn.writer();
    for part in 0..1500_usize {
        let bytes = Bytes::from(bytes(part % 7 + 1, part as u8));
        parts.lock().unwrap().extend_from_slice(&bytes);
        writer.push(bytes);
    }
    let all = parts.lock().unwrap().clone();
    block_on(writer.flush()).unwrap();
    assert!(peer.receive(all.len()) == all);
}

#[test]
fn kitex_427_output_after_a_failed_flush_holds_no_memory() {
    let (mut conn, peer) = pair();
    peer.reset();
    let mut writer = conn.writer();
    eventually("a failure", || {
        writer.put_u8(1);
        block_on(writer.flush()).is_err()
    });
    for part in 0..100 {
        writer.put_slice(&bytes(1 << 20, part));
        assert_eq!((writer.unsent(), writer.uncommitted_len()), (0, 0));
    }
    block_on(writer.flush()).unwrap_err();
}

#[test]
fn netpoll_238_a_panic_of_a_handler_leaves_no_connection_open() {
    let handler = async |_: &mut Connection| panic!("requested by the test");
    let server = Server::start(crate::support::builder().pollers(2), handler);
    let mut peers: Vec<Peer> = (0..20).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(b"?");
        assert_eq!(peer.receive_all().unwrap(), b"");
        peer.finish();
        assert!(matches!(server.ending(), CloseReason::HandlerPanic));
    }
    eventually("no connection", || server.handle.connections() == 0);
}
