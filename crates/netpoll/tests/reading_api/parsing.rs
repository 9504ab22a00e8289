// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parsers on the bytes that are there.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::pin;
use std::task::Poll;

use netpoll::error::ErrorKind;
use netpoll::options::ConnOptions;
use netpoll::{Dialer, ErrorExt, Reader};

use crate::{block_on, eventually, pair, pair_with, poll_once};

const HEAD: &[u8] = b"GET /index HTTP/1.1\r\nhost: here\r\naccept: */*\r\n\r\n";

/// Reads the head of a request, and returns its path and the number of its headers.
async fn read_head(reader: &mut Reader<'_>) -> io::Result<Option<(String, usize)>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(reader.buffered()).map_err(io::Error::other)?;
        if let httparse::Status::Complete(length) = parsed {
            let path = request.path.expect("a whole head has a path");
            let head = (path.to_owned(), request.headers.len());
            reader.consume(length)?;
            return Ok(Some(head));
        }
        if !reader.more().await? {
            return Ok(None);
        }
    }
}

#[test]
fn request_head_that_arrives_byte_by_byte_is_parsed() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    {
        let mut read = pin!(read_head(&mut reader));
        for byte in HEAD {
            assert!(poll_once(read.as_mut()).is_pending());
            peer.write_all(&[*byte]).unwrap();
        }
        peer.write_all(b"body").unwrap();
        assert_eq!(block_on(read).unwrap(), Some(("/index".to_owned(), 2)));
    }
    assert_eq!(block_on(reader.next(4)).unwrap(), b"body");
}

#[test]
fn pipelined_heads_are_parsed_one_by_one() {
    let (mut conn, mut peer) = pair();
    peer.write_all(&HEAD.repeat(3)).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let mut reader = conn.reader();
    for _ in 0..3 {
        assert_eq!(
            block_on(read_head(&mut reader)).unwrap().unwrap().0,
            "/index"
        );
    }
    assert_eq!(block_on(read_head(&mut reader)).unwrap(), None);
}

/// Sends `pieces` so that they lie apart in the receiver's memory: another connection of the same
/// poller receives in between.
fn send_apart<'a>(pieces: impl Iterator<Item = &'a [u8]>, peer: &mut TcpStream, to: &Reader<'_>) {
    let (mut other, mut other_peer) = pair();
    let other = other.reader();
    for (at, piece) in pieces.enumerate() {
        let before = to.available();
        peer.write_all(piece).expect("a receiver");
        eventually("a piece", || to.available() == before + piece.len());
        let sent = other_peer.write_all(b"between");
        sent.expect("a receiver");
        eventually("a piece", || other.available() == (at + 1) * 7);
    }
}

#[test]
fn more_lengthens_the_first_piece_with_bytes_that_are_there() {
    let (mut conn, mut peer) = pair();
    let sent: Vec<u8> = (0..50_000u32).map(|at| at as u8).collect();
    let mut reader = conn.reader();
    send_apart(sent.chunks(10_000), &mut peer, &reader);
    let mut lengths = Vec::new();
    while reader.buffered().len() < sent.len() {
        assert!(matches!(
            poll_once(pin!(reader.more())),
            Poll::Ready(Ok(true))
        ));
        let buffered = reader.buffered();
        assert!(buffered == &sent[..buffered.len()]);
        assert_eq!(reader.available(), sent.len());
        lengths.push(buffered.len());
    }
    assert!(lengths.len() > 1, "the input arrived in one piece");
    assert!(lengths.is_sorted_by(|before, after| before < after));
    assert!(poll_once(pin!(reader.more())).is_pending());
    assert!(reader.buffered() == sent);
}

#[test]
fn more_returns_false_at_the_end_and_keeps_the_rest() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    peer.write_all(b"GET /ind").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(block_on(read_head(&mut reader)).unwrap(), None);
    assert_eq!(reader.buffered(), b"GET /ind");
    assert!(!block_on(reader.more()).unwrap());
    reader.consume(8).unwrap();
    assert_eq!(reader.buffered(), b"");
    assert!(!block_on(reader.more()).unwrap());
}

#[test]
fn dropped_wait_for_more_keeps_what_was_buffered() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    peer.write_all(b"ab").unwrap();
    while reader.buffered() != b"ab" {
        assert!(block_on(reader.more()).unwrap());
    }
    assert!(poll_once(pin!(reader.more())).is_pending());
    assert_eq!(reader.buffered(), b"ab");
    reader.consume(1).unwrap();
    peer.write_all(b"c").unwrap();
    assert!(block_on(reader.more()).unwrap());
    assert_eq!(reader.buffered(), b"bc");
}

#[test]
fn consume_of_more_than_is_buffered_is_rejected_and_consumes_nothing() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    peer.write_all(b"a").unwrap();
    assert!(block_on(reader.more()).unwrap());
    let error = reader.consume(2).unwrap_err();
    assert!(matches!(
        error.netpoll_kind(),
        Some(ErrorKind::NotEnoughData { .. })
    ));
    assert_eq!(reader.buffered(), b"a");
}

#[test]
fn more_rejects_input_above_max_frame_at_once() {
    let options = ConnOptions::default().max_frame(100);
    let (mut conn, mut peer) = pair_with(&Dialer::new().options(options));
    let mut reader = conn.reader();
    peer.write_all(&[7; 100]).unwrap();
    eventually("all input", || reader.available() == 100);
    assert!(block_on(reader.more()).unwrap());
    let Poll::Ready(Err(error)) = poll_once(pin!(reader.more())) else {
        panic!("the limit applies before a wait");
    };
    assert!(matches!(
        error.netpoll_kind(),
        Some(ErrorKind::FrameTooLarge { .. })
    ));
    assert_eq!(reader.buffered(), [7; 100]);
}

#[test]
fn available_counts_received_and_held_bytes_of_a_shared_reader() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    peer.write_all(b"abcdef").unwrap();
    let shared = &reader;
    eventually("the input", || shared.available() == 6);
    assert_eq!(shared.buffered(), b"");
    assert_eq!(block_on(reader.next(2)).unwrap(), b"ab");
    peer.write_all(b"gh").unwrap();
    eventually("more input", || reader.available() == 6);
    assert_eq!(block_on(reader.next(6)).unwrap(), b"cdefgh");
}

#[test]
fn chunk_up_to_returns_at_most_n_bytes_and_none_at_the_end() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    assert!(poll_once(pin!(reader.chunk_up_to(4))).is_pending());
    assert!(poll_once(pin!(reader.chunk_up_to(0))).is_ready());
    peer.write_all(b"abcdef").unwrap();
    eventually("the input", || reader.available() == 6);
    assert_eq!(block_on(reader.chunk_up_to(0)).unwrap(), Some(&b""[..]));
    assert_eq!(block_on(reader.chunk_up_to(4)).unwrap(), Some(&b"abcd"[..]));
    assert_eq!(block_on(reader.chunk_up_to(4)).unwrap(), Some(&b"ef"[..]));
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(block_on(reader.chunk_up_to(4)).unwrap(), None);
}
