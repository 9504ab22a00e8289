// SPDX-License-Identifier: MIT OR Apache-2.0
//! A write shutdown ends the output of this side, and input continues.

use std::io::ErrorKind;
use std::sync::mpsc::channel;
use std::time::Duration;

use netpoll::error::{ErrorExt, ErrorKind as Kind};
use netpoll::{CloseReason, Connection, EventLoop};

use crate::support::{Gate, LIMIT, Server, block_on, bytes, eventually, pair};

/// Returns whether the error is that of output after a write shutdown.
fn is_after_shutdown(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe
        && matches!(error.netpoll_kind(), Some(Kind::WriteAfterShutdown))
}

#[test]
fn a_write_shutdown_sends_the_output_then_the_fin_and_reads_continue() {
    let (mut conn, mut peer) = pair();
    let all = bytes(3 << 20, 5);
    let (mut reader, mut writer) = conn.split();
    writer.put_slice(&all);
    writer.shutdown();
    writer.shutdown();
    let receiving = std::thread::spawn(move || {
        let received = peer.receive_all().unwrap();
        (received, peer)
    });
    block_on(writer.flush()).unwrap();
    let (received, mut peer) = receiving.join().unwrap();
    assert!(received == all);
    for word in [b"one", b"two"] {
        peer.send(word);
        assert_eq!(block_on(reader.next(3)).unwrap(), word);
    }
    assert!(conn.is_active(), "the stream of the peer is open");
}

#[test]
fn output_after_a_write_shutdown_is_discarded_and_the_flush_fails() {
    let (mut conn, mut peer) = pair();
    let handle = conn.handle();
    let mut writer = conn.writer();
    writer.put_str("sent");
    let _reserved = writer.reserve(8).unwrap();
    writer.shutdown();
    assert_eq!(writer.uncommitted_len(), 0);
    block_on(writer.flush()).unwrap();
    writer.put_str("not sent");
    assert!(is_after_shutdown(&block_on(writer.flush()).unwrap_err()));
    assert!(is_after_shutdown(&writer.reserve(8).unwrap_err()));
    assert!(is_after_shutdown(
        &handle.push("nor this".into()).unwrap_err()
    ));
    assert_eq!(peer.receive_all().unwrap(), b"sent");
}

#[test]
fn a_connection_ends_when_both_streams_have_and_its_input_stays_readable() {
    let (mut conn, mut peer) = pair();
    let (sender, receiver) = channel();
    conn.on_close(move |reason| sender.send(reason.clone()).unwrap());
    conn.writer().put_str("ours");
    conn.writer().shutdown();
    assert_eq!(peer.receive_all().unwrap(), b"ours");
    assert!(receiver.try_recv().is_err(), "one stream is not both");
    peer.send(b"theirs");
    peer.finish();
    let reason = receiver.recv_timeout(LIMIT).unwrap();
    assert!(matches!(reason, CloseReason::PeerFin), "{reason}");
    assert_eq!(block_on(conn.reader().next(6)).unwrap(), b"theirs");
    let error = block_on(conn.reader().next(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    block_on(conn.writer().flush()).expect("all output was sent");
}

#[test]
fn a_write_shutdown_after_the_fin_of_the_peer_ends_the_connection() {
    let (mut conn, mut peer) = pair();
    peer.finish();
    assert!(block_on(conn.reader().chunk()).unwrap().is_none());
    let (sender, receiver) = channel();
    conn.on_close(move |reason| sender.send(reason.clone()).unwrap());
    conn.writer().put_str("the answer");
    conn.writer().shutdown();
    assert_eq!(peer.receive_all().unwrap(), b"the answer");
    assert!(matches!(
        receiver.recv_timeout(LIMIT).unwrap(),
        CloseReason::PeerFin
    ));
}

#[test]
fn a_handler_that_shut_down_its_output_is_called_for_later_input() {
    let (sender, receiver) = channel();
    let sender = std::sync::Mutex::new(sender);
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            let byte = reader.read_u8().await?;
            writer.put_u8(byte);
            writer.shutdown();
            sender.lock().unwrap().send(byte)?;
            Ok(())
        },
    ));
    let mut peer = server.connect();
    peer.send(b"a");
    assert_eq!(peer.receive_all().unwrap(), b"a");
    peer.send(b"b");
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap(), b'a');
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap(), b'b');
    peer.send(b"c");
    peer.finish();
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap(), b'c');
    assert!(matches!(server.ending(), CloseReason::PeerFin));
    assert_eq!(server.shut_down(Duration::from_secs(60)), 0);
}

#[test]
fn a_fin_is_sent_after_all_unsent_output() {
    let gate = Gate::default();
    let at = gate.clone();
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_connection(
        async move |mut conn: Connection| {
            conn.writer().put_slice(&bytes(4 << 20, 3));
            conn.writer().shutdown();
            at.pass().await;
            // Once the peer has ended its stream, the drop has nothing to wait for.
            while conn.reader().chunk().await?.is_some() {}
            Ok(())
        },
    ));
    let mut peer = server.connect();
    eventually("the handler", || gate.is_waited_at());
    peer.send(b"unread");
    gate.open();
    assert!(peer.receive_all().unwrap() == bytes(4 << 20, 3));
    peer.finish();
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn a_flush_after_a_write_shutdown_fails_when_the_peer_is_gone() {
    let (mut conn, peer) = pair();
    let mut writer = conn.writer();
    writer.put_slice(&bytes(8 << 20, 1));
    writer.shutdown();
    let flushing = writer.flush();
    drop(peer);
    let error = block_on(flushing).unwrap_err();
    assert!(!is_after_shutdown(&error), "{error}");
}

#[test]
fn a_writing_half_can_shut_down_and_be_dropped() {
    let (conn, mut peer) = pair();
    let (mut reader, mut writer) = conn.into_split();
    writer.put_str("asked");
    writer.shutdown();
    drop(writer);
    assert_eq!(peer.receive_all().unwrap(), b"asked");
    peer.send(b"answered");
    assert_eq!(block_on(reader.next(8)).unwrap(), b"answered");
}

#[test]
fn a_drop_after_a_write_shutdown_closes_the_connection() {
    let (mut conn, mut peer) = pair();
    conn.writer().put_str("last");
    conn.writer().shutdown();
    assert_eq!(peer.receive_all().unwrap(), b"last");
    let handle = conn.handle();
    drop(conn);
    peer.finish();
    eventually("the end", || handle.timeouts().is_none());
}
