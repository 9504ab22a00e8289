// SPDX-License-Identifier: MIT OR Apache-2.0
//! The texts of errors about a limit of a connection: what, how much, which option, which peer.

use std::io::Write as _;

use netpoll::codec::{Delimiter, FixedSize, LengthField};
use netpoll::error::{ErrorExt, ErrorKind};
use netpoll::{Connection, Dialer};

use crate::{block_on, eventually, pair_with};

/// Checks the text of `error`, with the peer of `conn` at its end, and its field.
fn check(conn: &Connection, error: &std::io::Error, text: &str) {
    let peer = conn.peer_addr();
    assert_eq!(error.to_string(), format!("{text} of {peer}"));
    let Some(ErrorKind::FrameTooLarge { peer: named, .. }) = error.netpoll_kind() else {
        panic!("{error:?}");
    };
    assert_eq!(named.as_deref(), Some(&peer));
}

#[test]
fn limit_errors_name_the_size_the_option_and_the_peer() {
    let (mut conn, mut peer) = pair_with(&Dialer::new().max_frame(100).max_output(70_000));
    peer.write_all(&[7; 100]).unwrap();
    eventually("all input", || conn.reader().available() == 100);
    let error = block_on(conn.reader().next(1101)).map(drop).unwrap_err();
    let above = "exceeds max_frame (100 bytes)";
    check(&conn, &error, &format!("frame of 1,101 bytes {above}"));
    let error = block_on(conn.reader().frame(&FixedSize::new(101))).unwrap_err();
    check(&conn, &error, &format!("frame of 101 bytes {above}"));
    assert!(block_on(conn.reader().more()).unwrap());
    let error = block_on(conn.reader().more()).unwrap_err();
    check(&conn, &error, &format!("frame of 101 bytes {above}"));
    let error = block_on(conn.reader().until(b'\n', 9)).map(drop);
    let text = "frame of 10 bytes exceeds max (9 bytes)";
    check(&conn, &error.unwrap_err(), text);
    let codec = Delimiter::new(b"\n").maximum(9);
    let error = block_on(conn.reader().frame(&codec)).unwrap_err();
    let text = "frame of 10 bytes exceeds maximum (9 bytes)";
    check(&conn, &error, text);
    let queued = conn.write_queue().try_send(vec![0; 10_000].into());
    let text = "frame of 10,000 bytes exceeds max_output (4,464 bytes)";
    check(&conn, &queued.unwrap_err().error, text);
    assert_eq!(conn.reader().available(), 100, "nothing was consumed");
}

#[test]
fn codec_without_a_connection_names_no_peer() {
    let codec = LengthField::new().maximum(9);
    let error = netpoll::codec::Codec::measure(&codec, &vec![0, 0, 0, 6].into()).unwrap_err();
    let text = "frame of 10 bytes exceeds maximum (9 bytes)";
    assert_eq!(error.to_string(), text);
}
