// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every read method, over a connection that is owned off its poller.

use std::future::Future;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};

use netpoll::Dialer;
use netpoll::error::{ErrorExt, ErrorKind as Kind};

use crate::support::{Peer, block_on, bytes, pair, pair_with, poll_once};

/// Completes `read` with `parts` sent one after the other. `read` must be pending before each.
fn fed<F: Future>(mut read: Pin<&mut F>, peer: &mut Peer, parts: &[&[u8]]) -> F::Output {
    for part in parts {
        assert!(poll_once(read.as_mut()).is_pending(), "before {part:?}");
        peer.send(part);
    }
    block_on(read)
}

#[test]
fn peek_waits_for_all_bytes_and_consumes_none() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    let peeked = fed(pin!(reader.peek(6)), &mut peer, &[b"ab", b"cd", b"ef"]);
    assert_eq!(peeked.unwrap(), b"abcdef");
    assert_eq!(block_on(reader.peek(3)).unwrap(), b"abc");
    assert_eq!(reader.available(), 6);
}

#[test]
fn next_waits_for_all_bytes_and_consumes_them() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    let next = fed(pin!(reader.next(6)), &mut peer, &[b"ab", b"cd", b"efg"]);
    assert_eq!(next.unwrap(), b"abcdef");
    assert_eq!(reader.available(), 1);
    assert_eq!(block_on(reader.next(0)).unwrap(), b"");
    assert_eq!(block_on(reader.next(1)).unwrap(), b"g");
}

#[test]
fn skip_waits_for_all_bytes_and_consumes_them() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    fed(pin!(reader.skip(5)), &mut peer, &[b"abc", b"defg"]).unwrap();
    assert_eq!(block_on(reader.next(2)).unwrap(), b"fg");
}

#[test]
fn wait_and_available_consume_nothing() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    assert_eq!(reader.available(), 0);
    fed(pin!(reader.wait(4)), &mut peer, &[b"ab", b"cd"]).unwrap();
    assert_eq!(reader.available(), 4);
    block_on(reader.wait(1)).unwrap();
    assert_eq!(reader.available(), 4);
}

#[test]
fn until_finds_a_delimiter_that_arrives_later() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    let line = fed(
        pin!(reader.until(b'\n', 100)),
        &mut peer,
        &[b"one", b" li", b"ne\ntwo\n\n"],
    );
    assert_eq!(line.unwrap(), b"one line\n");
    assert_eq!(block_on(reader.until(b'\n', 4)).unwrap(), b"two\n");
    assert_eq!(block_on(reader.until(b'\n', 1)).unwrap(), b"\n");
}

#[test]
fn until_fails_at_its_limit_and_consumes_nothing() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    let line = fed(
        pin!(reader.until(b'\n', 8)),
        &mut peer,
        &[b"1234", b"567", b"89\n"],
    );
    let error = line.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(matches!(
        error.netpoll_kind(),
        Some(Kind::FrameTooLarge { .. })
    ));
    assert_eq!(block_on(reader.until(b'\n', 10)).unwrap(), b"123456789\n");
}

#[test]
fn until_fails_at_a_fin_before_its_delimiter_and_consumes_nothing() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    peer.send(b"whole\npart");
    peer.finish();
    assert_eq!(block_on(reader.until(b'\n', 100)).unwrap(), b"whole\n");
    let error = block_on(reader.until(b'\n', 100)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(block_on(reader.next(4)).unwrap(), b"part");
}

#[test]
fn a_slice_outlives_its_connection_on_another_thread() {
    for size in [10, 5000, 60_000, 300_000] {
        let (mut conn, peer) = pair();
        let sending = peer.send_aside(bytes(size, 5));
        let slice = block_on(conn.reader().slice(size)).unwrap();
        drop(conn);
        sending.join().unwrap().unwrap();
        drop(peer);
        let (mut other, filler) = pair();
        let sending = filler.send_aside(vec![0xee; 200_000]);
        block_on(other.reader().skip(200_000)).unwrap();
        sending.join().unwrap().unwrap();
        let same = std::thread::spawn(move || slice == bytes(size, 5));
        assert!(same.join().unwrap(), "{size} bytes were overwritten");
    }
}

#[test]
fn split_to_takes_exactly_the_requested_bytes() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    let part = fed(pin!(reader.split_to(5)), &mut peer, &[b"abc", b"defgh"]);
    assert_eq!(part.unwrap().read_vec(5).unwrap(), b"abcde");
    assert_eq!(reader.available(), 3);
}

#[test]
fn chunk_returns_available_bytes_and_none_at_the_end() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    let first = fed(pin!(reader.chunk()), &mut peer, &[b"abc"]);
    assert_eq!(first.unwrap().unwrap().read_vec(3).unwrap(), b"abc");
    peer.send(b"last");
    peer.finish();
    let mut rest = Vec::new();
    while let Some(mut chunk) = block_on(reader.chunk()).unwrap() {
        rest.extend(chunk.read_vec(chunk.len()).unwrap());
    }
    assert_eq!(rest, b"last");
    assert!(
        block_on(reader.chunk()).unwrap().is_none(),
        "the second call too"
    );
}

#[test]
fn read_exact_and_read_vec_wait_for_all_bytes() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    let mut target = [0; 5];
    fed(
        pin!(reader.read_exact(&mut target)),
        &mut peer,
        &[b"abc", b"de"],
    )
    .unwrap();
    assert_eq!(&target, b"abcde");
    let vec = fed(pin!(reader.read_vec(4)), &mut peer, &[b"fg", b"hij"]);
    assert_eq!(vec.unwrap(), b"fghi");
    assert_eq!(reader.available(), 1);
}

#[test]
fn read_string_does_not_consume_invalid_utf_8() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    let text = "größe".as_bytes();
    let read = fed(
        pin!(reader.read_string(7)),
        &mut peer,
        &[&text[..3], &text[3..]],
    );
    assert_eq!(read.unwrap(), "größe");
    peer.send(b"ab\xff");
    let error = block_on(reader.read_string(3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(block_on(reader.next(3)).unwrap(), b"ab\xff");
}

#[test]
fn integers_of_every_size_and_byte_order_are_read() {
    let (mut conn, mut peer) = pair();
    let sent = bytes(29, 200);
    peer.send(&sent);
    let mut reader = conn.reader();
    let at = |from: usize| sent[from..].iter().copied();
    let be = |from, size| {
        at(from)
            .take(size)
            .fold(0, |n, byte| n << 8 | u64::from(byte))
    };
    let le = |from, size| be(from, size).swap_bytes() >> (64 - 8 * size);
    block_on(async {
        assert_eq!(u64::from(reader.read_u8().await.unwrap()), be(0, 1));
        assert_eq!(u64::from(reader.read_u16().await.unwrap()), be(1, 2));
        assert_eq!(u64::from(reader.read_u16_le().await.unwrap()), le(3, 2));
        assert_eq!(u64::from(reader.read_u32().await.unwrap()), be(5, 4));
        assert_eq!(u64::from(reader.read_u32_le().await.unwrap()), le(9, 4));
        assert_eq!(reader.read_u64().await.unwrap(), be(13, 8));
        assert_eq!(reader.read_u64_le().await.unwrap(), le(21, 8));
    });
    let number = fed(pin!(reader.read_u32()), &mut peer, &[&[1], &[2, 3], &[4]]);
    assert_eq!(number.unwrap(), 0x0102_0304);
}

#[test]
fn a_read_above_max_frame_is_rejected_without_waiting() {
    let options = netpoll::options::ConnOptions::default().max_frame(100);
    let (mut conn, mut peer) = pair_with(&Dialer::new().options(options));
    let mut reader = conn.reader();
    let refused = match poll_once(pin!(reader.next(101))) {
        std::task::Poll::Ready(result) => result.map(<[u8]>::len),
        std::task::Poll::Pending => panic!("pending instead of rejected"),
    };
    let error = refused.unwrap_err();
    assert!(matches!(
        error.netpoll_kind(),
        Some(Kind::FrameTooLarge { .. })
    ));
    peer.send(&[1; 100]);
    assert_eq!(block_on(reader.next(100)).unwrap(), [1; 100]);
}

#[test]
fn unexpected_eof_reports_available_and_needed_bytes() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    peer.send(b"abc");
    peer.finish();
    for need in [4, 10] {
        let error = block_on(reader.next(need)).unwrap_err();
        let Some(Kind::UnexpectedEof {
            have,
            need: awaited,
            ..
        }) = error.netpoll_kind()
        else {
            panic!("{error:?}");
        };
        assert_eq!((have, awaited), (3, need));
    }
    assert_eq!(block_on(reader.next(3)).unwrap(), b"abc");
}

/// Completes `call` as [`fed`] does and polls it once more.
#[track_caller]
fn panics_when_polled_again<F: Future>(call: F, peer: &mut Peer, parts: &[&[u8]]) -> F::Output {
    let mut call = pin!(call);
    let output = fed(call.as_mut(), peer, parts);
    let polled = catch_unwind(AssertUnwindSafe(|| poll_once(call).is_ready()));
    let panicked = polled.expect_err("a panic");
    let why = panicked.downcast_ref::<&str>().copied().unwrap_or_default();
    assert!(why.contains("polled after completion"), "{why}");
    output
}

#[test]
fn a_read_polled_after_completion_panics_and_consumes_nothing() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    let waited = panics_when_polled_again(reader.read_u16(), &mut peer, &[b"a", b"bcd"]);
    assert_eq!(waited.unwrap(), 0x6162);
    let at_once = panics_when_polled_again(reader.read_u8(), &mut peer, &[]);
    assert_eq!(at_once.unwrap(), b'c');
    assert_eq!(block_on(reader.read_u8()).unwrap(), b'd');
}

#[test]
fn a_read_polled_after_failure_panics_and_consumes_nothing() {
    let options = netpoll::options::ConnOptions::default().max_frame(100);
    let (mut conn, mut peer) = pair_with(&Dialer::new().options(options));
    let mut reader = conn.reader();
    let too_large = panics_when_polled_again(reader.skip(101), &mut peer, &[]);
    assert_eq!(too_large.unwrap_err().kind(), ErrorKind::InvalidData);
    let parts: [&[u8]; 2] = [b"ab", b"\xff"];
    let no_text = panics_when_polled_again(reader.read_string(3), &mut peer, &parts);
    assert_eq!(no_text.unwrap_err().kind(), ErrorKind::InvalidData);
    peer.finish();
    let past_the_end = panics_when_polled_again(reader.read_u32(), &mut peer, &[]);
    assert_eq!(past_the_end.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(block_on(reader.next(3)).unwrap(), b"ab\xff");
}

#[test]
fn a_read_dropped_while_it_waits_loses_no_byte() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    let sent = bytes(40, 7);
    for (part, received) in sent.chunks(4).zip((0..).step_by(4)) {
        // Each dropped read keeps the received bytes, in the input buffer or in the reader.
        assert!(poll_once(pin!(reader.next(41))).is_pending());
        peer.send(part);
        assert!(poll_once(pin!(reader.read_vec(41))).is_pending());
        block_on(reader.wait(received + 4)).unwrap();
        assert!(poll_once(pin!(reader.split_to(41))).is_pending());
        let mut target = [0; 41];
        assert!(poll_once(pin!(reader.read_exact(&mut target))).is_pending());
        assert_eq!(target, [0; 41]);
    }
    assert_eq!(reader.available(), 40);
    assert_eq!(block_on(reader.next(40)).unwrap(), sent);
}
