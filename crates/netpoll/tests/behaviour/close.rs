// SPDX-License-Identifier: MIT OR Apache-2.0
//! Closes and aborts that this side requests.

use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use netpoll::error::{ErrorExt, Limit};
use netpoll::options::ConnOptions;
use netpoll::{CloseReason, Connection, Dialer};

use crate::support::{
    Kind, LIMIT, Server, Whole, block_on, bytes, eventually, pair, pair_with, rpc,
};

#[test]
fn close_in_a_handler_sends_the_output_and_then_a_fin() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        async |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            reader.skip(1).await?;
            writer.put_slice(&bytes(300_000, 4));
            conn.close();
            Ok(())
        },
    );
    let mut peer = server.connect();
    peer.send(b"?");
    assert!(peer.receive_all().unwrap() == bytes(300_000, 4));
    peer.finish();
    assert!(matches!(server.ending(), CloseReason::Local));
}

#[test]
fn a_slow_peer_gets_all_of_the_last_answer() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        async |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            reader.skip(1).await?;
            writer.put_slice(&bytes(7 << 20, 4));
            conn.close();
            Ok(())
        },
    );
    let (mut slow, mut other) = (server.connect(), server.connect());
    slow.send(b"?");
    // The kernel cannot hold it all, so the server has to continue to send while it closes.
    let first = slow.receive(100_000);
    other.send(b"?");
    assert!(other.receive_all().unwrap() == bytes(7 << 20, 4));
    let rest = slow.receive_all().unwrap();
    assert!([first, rest].concat() == bytes(7 << 20, 4));
}

#[test]
fn close_with_unread_input_does_not_destroy_the_answer() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        async |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            reader.skip(4).await?;
            writer.put_slice(&bytes(200_000, 8));
            conn.close();
            Ok(())
        },
    );
    for _ in 0..5 {
        let mut peer = server.connect();
        let sending = peer.send_aside(bytes(6 << 20, 1));
        assert!(sending.join().unwrap().is_ok(), "the server reads it all");
        assert!(peer.receive_all().unwrap() == bytes(200_000, 8));
        drop(peer);
        assert!(matches!(server.ending(), CloseReason::Local));
    }
}

#[test]
fn dropping_an_owned_connection_closes_it() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        Whole(async |mut conn: Connection| {
            conn.writer().put_str("bye");
            drop(conn);
            std::future::pending::<()>().await;
            Ok(())
        }),
    );
    let mut peer = server.connect();
    assert_eq!(peer.receive_all().unwrap(), b"bye");
}

#[test]
fn returning_from_a_connection_handler_closes_the_connection() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        Whole(async |mut conn: Connection| {
            conn.writer().put_str("bye");
            Ok(())
        }),
    );
    let mut peer = server.connect();
    assert_eq!(peer.receive_all().unwrap(), b"bye");
    peer.finish();
    assert!(matches!(server.ending(), CloseReason::Local));
}

#[test]
fn abort_resets_the_peer() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        async |conn: &mut Connection| {
            conn.writer().put_str("never mind");
            conn.abort();
            Ok(())
        },
    );
    let mut peer = server.connect();
    peer.send(b"?");
    peer.expect_reset();
    assert!(matches!(server.ending(), CloseReason::Local));
}

#[test]
fn an_abort_ends_a_close_that_waits_for_the_peer() {
    let (mut conn, mut peer) = pair();
    conn.writer().put_slice(&bytes(7 << 20, 1));
    conn.close();
    peer.receive(100);
    conn.abort();
    drop(conn);
    peer.expect_reset();
}

#[test]
fn close_and_abort_from_another_thread_take_effect() {
    let ends: [fn(&Connection); 2] = [Connection::close, Connection::abort];
    let resets = crate::support::kind() == Kind::Tcp;
    for (end, resets) in ends.into_iter().zip([false, resets]) {
        let (mut conn, mut peer) = pair();
        end(&conn);
        let error = block_on(conn.reader().wait(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        drop(conn);
        assert_eq!(peer.receive_all().is_err(), resets);
    }
}

#[test]
fn on_disconnect_runs_exactly_once_for_each_connection() {
    let mut server = Server::start(crate::support::builder().pollers(2), rpc);
    let mut expected = HashMap::new();
    for round in 0..200 {
        let mut peer = server.connect();
        *expected.entry(peer.addr()).or_insert(0) += 1;
        match round % 4 {
            0 => drop(peer),
            1 => peer.reset(),
            2 => {
                peer.call(b"one");
                peer.finish();
                assert_eq!(peer.receive_all().unwrap(), b"");
            }
            _ => {
                peer.send(&[0xff; 8]);
                assert_eq!(peer.receive_all().unwrap(), b"");
            }
        }
    }
    let endings = server.take_endings();
    assert_eq!(server.shut_down(LIMIT), 0);
    let mut reported = HashMap::new();
    for (peer, _) in endings.iter() {
        *reported.entry(peer).or_insert(0) += 1;
    }
    assert_eq!(reported, expected);
}

#[test]
fn repeated_close_and_abort_end_a_connection_once() {
    let handler = async |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        (0..3).for_each(|_| conn.close());
        (0..3).for_each(|_| conn.abort());
        (0..3).for_each(|_| conn.close());
        Ok(())
    };
    let mut server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    peer.expect_reset();
    assert!(matches!(server.ending(), CloseReason::Local));
    let endings = server.take_endings();
    server.shut_down(LIMIT);
    assert_eq!(endings.iter().count(), 0);
}

#[test]
fn a_handler_that_closed_is_not_called_for_the_remaining_input() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        async |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            writer.put_u8(reader.read_u8().await?);
            conn.close();
            Ok(())
        },
    );
    for _ in 0..20 {
        let mut peer = server.connect();
        peer.send(b"1234");
        assert_eq!(peer.receive_all().unwrap(), b"1");
        drop(peer);
        assert!(matches!(server.ending(), CloseReason::Local));
    }
}

#[test]
fn a_read_after_linger_has_passed_reports_the_first_close_reason() {
    let options = ConnOptions::default()
        .max_output(500_000)
        .linger(Duration::from_millis(1));
    let (mut conn, peer) = pair_with(&Dialer::new().options(options));
    conn.writer().put_slice(&bytes(1 << 20, 1));
    // Sending fails when the linger time has passed.
    eventually("the end", || (&peer.stream).write(b"x").is_err());
    let error = block_on(conn.reader().wait(1 << 20)).unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.limit(), Some(Limit::Output));
}

#[test]
fn a_peer_that_sends_without_end_after_our_fin_is_reset_before_linger_passes() {
    let builder = crate::support::builder().pollers(1).linger(3 * LIMIT);
    let builder = builder.max_frame(256 << 10);
    let server = Server::start(builder, async |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        conn.writer().put_str("bye");
        conn.close();
        Ok(())
    });
    let mut peer = server.connect();
    let part = vec![7; 64 << 10];
    let begun = std::time::Instant::now();
    let mut sent = 0;
    while begun.elapsed() < LIMIT && peer.stream.write_all(&part).is_ok() {
        sent += part.len();
    }
    // The kernel buffers a few megabytes besides.
    assert!(sent < 64 << 20, "{sent} bytes were read after the close");
    assert!(matches!(server.ending(), CloseReason::Local));
}

#[test]
fn a_peer_that_sends_a_frame_after_our_fin_is_not_reset() {
    let builder = crate::support::builder().pollers(1).max_frame(256 << 10);
    let server = Server::start(builder, async |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        conn.writer().put_str("bye");
        conn.close();
        Ok(())
    });
    let mut peer = server.connect();
    peer.send(b"?");
    assert_eq!(peer.receive(3), b"bye");
    peer.send(&bytes(200 << 10, 1));
    peer.finish();
    assert_eq!(peer.receive_all().unwrap(), b"");
    assert!(matches!(server.ending(), CloseReason::Local));
}
