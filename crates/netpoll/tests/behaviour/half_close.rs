// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FIN of the peer ends the input, not the connection.

use std::io::ErrorKind;
use std::sync::mpsc::channel;
use std::time::Duration;

use netpoll::error::{ErrorExt, ErrorKind as Kind};
use netpoll::{CloseReason, Connection};

use crate::support::{LIMIT, Server, Whole, bytes, frame};

#[test]
fn a_request_and_a_fin_in_one_segment_get_the_whole_answer() {
    let server = Server::rpc();
    for size in [0, 1, 2, 100, 1024, 10_000] {
        let mut peer = server.connect();
        let request = frame(&bytes(size, 3));
        peer.cork();
        peer.send(&request);
        peer.finish();
        assert!(peer.receive_all().unwrap() == request, "{size} bytes");
        assert!(matches!(server.ending(), CloseReason::PeerFin));
    }
}

#[test]
fn large_requests_followed_by_a_fin_get_the_whole_answer() {
    let server = Server::rpc();
    for size in [65_536, 100_000, 300_000, 1 << 20] {
        let mut peer = server.connect();
        let request = frame(&bytes(size, 3));
        peer.send(&request);
        peer.finish();
        assert!(peer.receive_all().unwrap() == request, "{size} bytes");
        assert!(matches!(server.ending(), CloseReason::PeerFin));
    }
}

#[test]
fn many_requests_followed_by_a_fin_are_all_answered() {
    let server = Server::rpc();
    let mut peer = server.connect();
    let requests: Vec<u8> = (0..2000).flat_map(|n| frame(&bytes(n % 50, 9))).collect();
    let sending = peer.send_aside(requests.clone());
    sending.join().unwrap().unwrap();
    peer.finish();
    assert!(peer.receive_all().unwrap() == requests);
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn a_fin_alone_ends_the_connection_once_with_peer_fin() {
    let mut server = Server::rpc();
    for _ in 0..20 {
        let mut peer = server.connect();
        peer.finish();
        assert_eq!(peer.receive_all().unwrap(), b"");
        assert!(matches!(server.ending(), CloseReason::PeerFin));
    }
    let endings = server.take_endings();
    assert_eq!(server.shut_down(LIMIT), 0);
    assert_eq!(endings.iter().count(), 0, "each end is reported once");
}

#[test]
fn a_frame_cut_short_by_a_fin_is_an_unexpected_eof_and_ends_with_peer_fin() {
    let (seen, saw) = channel();
    let handler = handler!([seen], |conn| {
        let mut reader = conn.reader();
        let len = reader.read_u32().await?;
        let cut = reader.next(len as usize).await.map(<[u8]>::len);
        let error = cut.expect_err("a frame that is cut short");
        seen.send((error.kind(), error.netpoll_kind())).unwrap();
        Err(error.into())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    for have in 0..10 {
        let mut peer = server.connect();
        peer.send(&frame(&bytes(10, 1))[..4 + have]);
        peer.finish();
        let (kind, eof) = saw.recv_timeout(LIMIT).unwrap();
        let Some(Kind::UnexpectedEof {
            have: there, need, ..
        }) = eof
        else {
            panic!("{eof:?}");
        };
        assert_eq!((kind, there, need), (ErrorKind::UnexpectedEof, have, 10));
        assert!(matches!(server.ending(), CloseReason::PeerFin));
        assert_eq!(peer.receive_all().unwrap(), b"");
    }
}

#[test]
fn input_received_before_a_fin_can_be_read_after_it() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        async |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            reader.wait(100).await.expect_err("a stream of 7 bytes");
            assert_eq!(reader.available(), 7);
            writer.put_slice(reader.next(7).await?);
            Ok(())
        },
    );
    let mut peer = server.connect();
    peer.send(b"seven b");
    peer.finish();
    assert_eq!(peer.receive_all().unwrap(), b"seven b");
}

#[test]
fn an_answer_that_begins_after_the_fin_was_read_is_sent_whole() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        Whole(async |mut conn: Connection| {
            let (mut reader, mut writer) = conn.split();
            assert!(reader.chunk().await?.is_some());
            assert!(reader.chunk().await?.is_none(), "the FIN has been read");
            for part in 0..16 {
                writer.put_slice(&bytes(64 << 10, part));
                writer.flush().await?;
            }
            Ok(())
        }),
    );
    let mut peer = server.connect();
    peer.send(b"?");
    peer.finish();
    let answer: Vec<u8> = (0..16).flat_map(|part| bytes(64 << 10, part)).collect();
    assert!(peer.receive_all().unwrap() == answer);
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn a_shutdown_does_not_wait_for_a_connection_that_ended_by_fin() {
    let server = Server::rpc();
    let mut peer = server.connect();
    peer.call(b"one");
    peer.finish();
    assert_eq!(peer.receive_all().unwrap(), b"");
    assert_eq!(server.shut_down(Duration::from_secs(60)), 0);
}
