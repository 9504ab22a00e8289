// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every write method, over a connection that is owned off its poller.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use netpoll::buffer::LinkBuffer;
use netpoll::error::{ErrorExt, ErrorKind as Reported, Limit};
use netpoll::{CloseReason, Connection, Dialer};

use crate::support::{Kind, Peer, RESET, block_on, bytes, eventually, pair, pair_with, poll_once};

/// A connection with a large output limit.
fn roomy() -> (Connection, Peer) {
    let options = netpoll::options::ConnOptions::default().max_output(1 << 30);
    pair_with(&Dialer::new().options(options))
}

#[test]
fn puts_arrive_in_order() {
    let (mut conn, mut peer) = pair();
    let mut writer = conn.writer();
    writer.put_u8(1);
    writer.put_u16(0x0203);
    writer.put_u16_le(0x0504);
    writer.put_u32(0x0607_0809);
    writer.put_u32_le(0x0d0c_0b0a);
    writer.put_u64(0x0e0f_1011_1213_1415);
    writer.put_u64_le(0x1d1c_1b1a_1918_1716);
    writer.put_str("str");
    writer.put_slice(b"slice");
    block_on(writer.flush()).unwrap();
    let numbers: Vec<u8> = (1..=0x1d).collect();
    assert_eq!(peer.receive(37), [&numbers[..], b"strslice"].concat());
}

#[test]
fn with_appends_its_output_as_a_whole() {
    let (mut conn, mut peer) = pair();
    let mut writer = conn.writer();
    let length = writer.with(|out| {
        out.put_str("built ");
        out.put_str("inside");
        out.len()
    });
    assert_eq!(length, 12);
    block_on(writer.flush()).unwrap();
    assert_eq!(peer.receive(12), b"built inside");
}

#[test]
fn put_slices_arrive_in_order_for_all_sizes() {
    let (mut conn, mut peer) = roomy();
    let sizes = [1, 0, 70, 4 << 10, 40 << 10, 3, 200 << 10, 2];
    let parts: Vec<Vec<u8>> = sizes.iter().map(|&size| bytes(size, 7)).collect();
    let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let all = parts.concat();
    let mut writer = conn.writer();
    writer.put_slices(&[]);
    writer.put_slices(&slices);
    writer.put_slices(&[b"and ", b"more"]);
    let sending = std::thread::spawn(move || block_on(conn.writer().flush()));
    assert_eq!(
        peer.receive(all.len() + 8),
        [&all[..], b"and more"].concat()
    );
    sending.join().unwrap().unwrap();
}

#[test]
fn put_slices_is_not_interleaved_with_pushes_of_another_thread() {
    const PUTS: usize = 20_000;
    let (mut conn, mut peer) = roomy();
    let handle = conn.handle();
    let other = std::thread::spawn(move || {
        for _ in 0..PUTS {
            handle.push(Bytes::from_static(b"|")).unwrap();
        }
    });
    for _ in 0..PUTS {
        conn.writer().put_slices(&[b"<", b"0123", b">"]);
    }
    other.join().unwrap();
    let sending = std::thread::spawn(move || block_on(conn.writer().flush()));
    let received = peer.receive(PUTS * 7);
    sending.join().unwrap().unwrap();
    let frames = received.split(|&byte| byte == b'|').collect::<Vec<_>>();
    assert_eq!(frames.len(), PUTS + 1);
    assert_eq!(frames.concat(), b"<0123>".repeat(PUTS));
    assert!(frames.iter().all(|frames| frames.len() % 6 == 0));
}

#[test]
fn put_slices_above_max_output_closes_the_connection_and_sends_none() {
    let options = netpoll::options::ConnOptions::default().max_output(100_000);
    let (mut conn, mut peer) = pair_with(&Dialer::new().options(options));
    conn.writer().put_slices(&[b"head", &[0; 100_000], b"tail"]);
    let error = block_on(conn.writer().flush()).unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.limit(), Some(Limit::Output), "{error:?}");
    assert_eq!(peer.receive_all().unwrap_or_default(), b"");
}

#[test]
fn pushed_memory_is_not_copied_and_lives_until_it_is_sent() {
    struct Owned(Vec<u8>, Arc<AtomicBool>);
    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Owned {
        fn drop(&mut self) {
            self.1.store(true, Ordering::SeqCst);
        }
    }
    let gone = Arc::new(AtomicBool::new(false));
    let (mut conn, mut peer) = roomy();
    let owned = Bytes::from_owner(Owned(bytes(24 << 20, 3), Arc::clone(&gone)));
    let mut writer = conn.writer();
    writer.push(owned);
    assert!(
        !gone.load(Ordering::SeqCst),
        "the memory was copied and dropped"
    );
    assert!(poll_once(pin!(writer.flush())).is_pending());
    assert!(peer.receive(24 << 20) == bytes(24 << 20, 3));
    block_on(writer.flush()).unwrap();
    eventually("the drop", || gone.load(Ordering::SeqCst));
}

#[test]
fn appended_buffers_arrive_whole() {
    let (mut conn, mut peer) = pair();
    let mut buffer = LinkBuffer::new();
    buffer.put_slice(&bytes(1000, 1));
    buffer.push(Bytes::from(bytes(100_000, 2)));
    let mut writer = conn.writer();
    writer.append(buffer);
    writer.append(LinkBuffer::new());
    writer.put_u8(9);
    block_on(writer.flush()).unwrap();
    let expected = [bytes(1000, 1), bytes(100_000, 2), vec![9]].concat();
    assert!(peer.receive(101_001) == expected);
}

#[test]
fn nothing_after_a_reservation_is_sent_before_its_commit() {
    let (mut conn, mut peer) = pair();
    let mut writer = conn.writer();
    writer.put_str("before ");
    let length = writer.reserve(4).unwrap();
    writer.put_str("body");
    assert_eq!(writer.uncommitted_len(), 8);
    block_on(writer.flush()).unwrap();
    assert_eq!(peer.receive(7), b"before ");
    writer.fill(&length, &4_u32.to_be_bytes()).unwrap();
    writer.commit_all();
    assert_eq!(writer.uncommitted_len(), 0);
    block_on(writer.flush()).unwrap();
    assert_eq!(peer.receive(8), b"\0\0\0\x04body");
}

#[test]
fn commit_keeps_the_first_bytes_and_drops_the_rest() {
    let (mut conn, mut peer) = pair();
    let mut writer = conn.writer();
    let room = writer.reserve(10).unwrap();
    writer.fill(&room, b"0123").unwrap();
    let error = writer.fill(&room, &[0; 11]).unwrap_err();
    assert!(matches!(
        error.netpoll_kind(),
        Some(Reported::OutOfRange { .. })
    ));
    assert!(writer.commit(11).is_err());
    writer.commit(4).unwrap();
    assert!(writer.fill(&room, b"late").is_err());
    writer.put_str("next");
    block_on(writer.flush()).unwrap();
    assert_eq!(peer.receive(8), b"0123next");
}

#[test]
fn insert_places_bytes_within_the_uncommitted_output() {
    let (mut conn, mut peer) = pair();
    let mut writer = conn.writer();
    let header = writer.reserve(4).unwrap();
    writer.put_str("tail");
    let body = Bytes::from(bytes(100_000, 3));
    writer.insert(4, body.clone()).unwrap();
    writer.insert(0, Bytes::from_static(b"first ")).unwrap();
    let uncommitted = 6 + 4 + body.len() + 4;
    let error = writer.insert(uncommitted + 1, body.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(matches!(
        error.netpoll_kind(),
        Some(Reported::OutOfRange { .. })
    ));
    assert_eq!(writer.uncommitted_len(), uncommitted);
    assert_eq!(writer.unsent(), 0, "no uncommitted byte is unsent output");
    writer.fill(&header, b"head").unwrap();
    writer.commit_all();
    block_on(writer.flush()).unwrap();
    let expected = [b"first head", &body[..], b"tail"].concat();
    assert!(peer.receive(expected.len()) == expected);
}

#[test]
fn insert_without_a_reservation_acts_as_a_push() {
    let (mut conn, mut peer) = pair();
    let mut writer = conn.writer();
    writer.put_str("abc");
    assert!(writer.insert(1, Bytes::from_static(b"no")).is_err());
    writer.insert(0, Bytes::from_static(b"def")).unwrap();
    block_on(writer.flush()).unwrap();
    assert_eq!(peer.receive(6), b"abcdef");
}

#[test]
fn flush_waits_until_the_kernel_has_the_last_byte() {
    let (mut conn, mut peer) = roomy();
    let mut writer = conn.writer();
    let size = 32 << 20;
    writer.push(Bytes::from(bytes(size, 6)));
    let mut flush = Box::pin(writer.flush());
    for _ in 0..100 {
        assert!(
            poll_once(flush.as_mut()).is_pending(),
            "the peer reads nothing"
        );
    }
    let reading = std::thread::spawn(move || {
        let all = peer.receive(size) == bytes(size, 6);
        (all, peer)
    });
    block_on(flush).unwrap();
    assert_eq!(writer.unsent(), 0);
    assert!(reading.join().unwrap().0);
}

#[test]
fn a_flush_without_output_completes_at_once() {
    let (mut conn, _peer) = pair();
    assert!(poll_once(pin!(conn.writer().flush())).is_ready());
}

#[test]
fn a_dropped_flush_still_sends() {
    let (mut conn, mut peer) = roomy();
    let size = 16 << 20;
    conn.writer().push(Bytes::from(bytes(size, 6)));
    drop(poll_once(pin!(conn.writer().flush())));
    assert!(peer.receive(size) == bytes(size, 6));
}

#[test]
fn output_is_sent_when_the_reader_awaits() {
    let (mut conn, mut peer) = pair();
    let (mut reader, mut writer) = conn.split();
    writer.put_str("ping");
    let mut answer = pin!(reader.next(4));
    assert!(poll_once(answer.as_mut()).is_pending());
    assert_eq!(peer.receive(4), b"ping");
    peer.send(b"pong");
    assert_eq!(block_on(answer).unwrap(), b"pong");
}

#[test]
fn output_above_the_write_mark_is_sent_without_a_flush() {
    let (mut conn, mut peer) = pair();
    conn.writer().put_slice(&bytes(64 << 10, 1));
    assert!(peer.receive(64 << 10) == bytes(64 << 10, 1));
}

#[test]
fn a_flush_on_a_reset_connection_returns_the_errno() {
    let (mut conn, peer) = roomy();
    let mut writer = conn.writer();
    writer.push(Bytes::from(bytes(32 << 20, 6)));
    let mut flush = Box::pin(writer.flush());
    assert!(poll_once(flush.as_mut()).is_pending());
    peer.reset();
    let errno = block_on(flush).unwrap_err().raw_os_error();
    // On a Unix socket a send to a closed peer fails with EPIPE.
    let is_broken_pipe = crate::support::kind() == Kind::Unix && errno == Some(32);
    assert!(errno == Some(RESET) || is_broken_pipe, "{errno:?}");
    writer.put_str("discarded");
    assert_eq!(writer.unsent(), 0);
    let error = block_on(writer.flush()).unwrap_err();
    assert_eq!(error.raw_os_error(), errno, "the second call too");
}

#[test]
fn every_writer_call_after_a_close_returns_the_reason_or_does_nothing() {
    let (mut conn, mut peer) = pair();
    conn.close();
    let (mut reader, mut writer) = conn.split();
    block_on(reader.wait(1)).unwrap_err();
    writer.put_str("discarded");
    writer.push(Bytes::from_static(b"discarded"));
    writer.append(LinkBuffer::from(Bytes::from_static(b"discarded")));
    writer.with(|out| out.put_str("discarded"));
    writer.commit_all();
    assert_eq!(writer.unsent(), 0);
    let errors = [
        writer.reserve(1).map(drop).unwrap_err(),
        writer.insert(0, Bytes::new()).unwrap_err(),
        writer.commit(0).unwrap_err(),
        block_on(writer.flush()).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        assert!(matches!(error.close_reason(), Some(CloseReason::Local)));
    }
    assert_eq!(peer.receive_all().unwrap(), b"");
}
