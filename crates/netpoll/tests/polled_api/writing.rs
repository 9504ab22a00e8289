// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing by a task that runs on no poller.

use std::io::{ErrorKind, IoSlice, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use netpoll::Connection;
use netpoll::options::ConnOptions;

use crate::{FlushMode, OwnedWriter, bytes, eventually, once, pair, pair_with, wait};

/// Options with low watermarks.
fn low_watermarks() -> ConnOptions {
    ConnOptions::for_dialing()
        .write_high(32 << 10)
        .write_low(8 << 10)
}

/// Writes until neither the kernel nor the connection takes more, and returns how many bytes they
/// took.
fn fill(writer: &mut OwnedWriter, part: &[u8], high: usize) -> usize {
    let (mut taken, mut before) = (0, None);
    while before != Some(taken) {
        before = Some(taken);
        while let Poll::Ready(count) = once(|context| writer.poll_write(context, part)) {
            taken += count.expect("an open connection");
            assert!(writer.unsent() <= high);
        }
        // The kernel may make room a little later.
        std::thread::sleep(Duration::from_millis(20));
    }
    taken
}

fn receive(peer: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut received = vec![0; count];
    peer.read_exact(&mut received).expect("output");
    received
}

fn flush(conn: &mut Connection) {
    wait(|context| conn.poll_flush(context, FlushMode::Kernel)).expect("a peer that reads");
    assert_eq!(conn.writer().unsent(), 0);
}

#[test]
fn write_leaves_without_a_flush() {
    let (mut conn, mut peer) = pair();
    assert_eq!(
        wait(|context| conn.poll_write(context, b"hello")).unwrap(),
        5
    );
    assert_eq!(receive(&mut peer, 5), b"hello");
    // Also behind output that only waits for a flush.
    conn.writer().put_slice(b"put, ");
    assert_eq!(
        wait(|context| conn.poll_write(context, b"written")).unwrap(),
        7
    );
    assert_eq!(receive(&mut peer, 12), b"put, written");
    assert_eq!(wait(|context| conn.poll_write(context, b"")).unwrap(), 0);
}

#[test]
fn vectored_write_sends_its_parts_in_order() {
    let (mut conn, mut peer) = pair();
    let parts = [&b""[..], b"ab", b"", b"c", b"def"].map(IoSlice::new);
    assert_eq!(
        wait(|context| conn.poll_write_vectored(context, &parts)).unwrap(),
        6
    );
    assert_eq!(receive(&mut peer, 6), b"abcdef");
    assert_eq!(
        wait(|context| conn.poll_write_vectored(context, &[])).unwrap(),
        0
    );
    let mut hidden = vec![IoSlice::new(b""); 100];
    hidden.push(IoSlice::new(b"z"));
    assert_eq!(
        wait(|context| conn.poll_write_vectored(context, &hidden)).unwrap(),
        1
    );
    assert_eq!(receive(&mut peer, 1), b"z");
    let many = vec![IoSlice::new(b"xy"); 200];
    let taken = wait(|context| conn.poll_write_vectored(context, &many)).unwrap();
    assert!(taken >= 128, "{taken}");
    assert_eq!(receive(&mut peer, taken), b"xy".repeat(taken / 2));
}

#[test]
fn written_bytes_are_taken_from_the_front() {
    let (mut conn, mut peer) = pair();
    for length in [100, 50_000] {
        let whole = Bytes::from(bytes(length));
        let mut rest = whole.clone();
        while !rest.is_empty() {
            let before = rest.len();
            let taken = wait(|context| conn.poll_write_bytes(context, &mut rest)).unwrap();
            assert_eq!(before - taken, rest.len());
        }
        assert_eq!(receive(&mut peer, length), whole);
        flush(&mut conn);
    }
}

#[test]
fn write_takes_at_most_the_room_and_waits_for_the_low_watermark() {
    let (conn, mut peer) = pair_with(low_watermarks().write_high(2 << 20));
    let (_reader, mut writer) = conn.into_split();
    let taken = fill(&mut writer, &bytes(20_000), 2 << 20);
    let mut received = 0;
    // However often it is polled meanwhile, there is no room until few bytes are left.
    let room = loop {
        match once(|context| writer.poll_write_ready(context)) {
            Poll::Ready(room) => break room.unwrap(),
            Poll::Pending => received += receive(&mut peer, 1000).len(),
        }
        assert!(received <= taken);
    };
    assert!(received > 0 && writer.unsent() <= 8 << 10);
    assert!(room >= (2 << 20) - (8 << 10), "{room}");
}

#[test]
fn twenty_mebibytes_arrive_whole_at_a_peer_that_stops() {
    let (mut conn, mut peer) = pair();
    let sent = bytes(20 << 20);
    let expected = sent.clone();
    let receiver = std::thread::spawn(move || {
        let first = receive(&mut peer, 1 << 20);
        std::thread::sleep(Duration::from_millis(50));
        let rest = receive(&mut peer, (20 << 20) - first.len());
        assert!([first, rest].concat() == expected);
    });
    let mut rest = &sent[..];
    while !rest.is_empty() {
        let taken = wait(|context| conn.poll_write(context, rest)).unwrap();
        assert!(conn.writer().unsent() <= 64 << 10);
        rest = &rest[taken..];
    }
    flush(&mut conn);
    receiver.join().unwrap();
}

#[test]
fn puts_of_others_keep_their_order_beside_direct_sends() {
    const TOTAL: usize = 4 << 20;
    let (conn, mut peer) = pair();
    let (handle, done) = (conn.handle(), AtomicBool::new(false));
    let (_reader, mut writer) = conn.into_split();
    std::thread::scope(|scope| {
        // The owner sends even bytes, and the other thread odd ones.
        scope.spawn(|| {
            let mut number = 0_u8;
            while !done.load(Ordering::SeqCst) {
                let next: Vec<u8> = (0..9)
                    .map(|_| {
                        number = number.wrapping_add(2);
                        number | 1
                    })
                    .collect();
                if handle.push(Bytes::from(next)).is_err() {
                    assert!(done.load(Ordering::SeqCst));
                }
                std::thread::yield_now();
            }
        });
        let receiver = scope.spawn(move || {
            let (mut even, mut odd, mut owned) = (0_u8, 0_u8, 0);
            let mut target = vec![0; 1 << 16];
            while owned < TOTAL {
                let count = peer.read(&mut target).unwrap();
                assert!(count > 0);
                for &byte in &target[..count] {
                    let known = match byte % 2 {
                        0 => {
                            owned += 1;
                            &mut even
                        }
                        _ => &mut odd,
                    };
                    *known = known.wrapping_add(2);
                    assert_eq!(byte & !1, *known);
                }
            }
            std::io::copy(&mut peer, &mut std::io::sink()).unwrap();
        });
        let all: Vec<u8> = (0..TOTAL)
            .map(|index| (index as u8).wrapping_mul(2).wrapping_add(2))
            .collect();
        let mut rest = &all[..];
        for size in [1, 100, 5000, 40_000, 200_000].into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let part = &rest[..size.min(rest.len())];
            let taken = wait(|context| writer.poll_write(context, part)).unwrap();
            rest = &rest[taken..];
        }
        done.store(true, Ordering::SeqCst);
        wait(|context| writer.poll_shutdown(context)).unwrap();
        receiver.join().unwrap();
    });
}

#[test]
fn write_timeout_measures_the_operation_and_ends_the_connection() {
    let (conn, _peer) = pair_with(low_watermarks());
    let timeouts = conn.timeouts().write(Duration::from_millis(300));
    conn.set_timeouts(timeouts).unwrap();
    let (_reader, mut writer) = conn.into_split();
    fill(&mut writer, &[7; 50_000], 32 << 10);
    let mut late = None;
    eventually("a timeout", || {
        match once(|context| writer.poll_write(context, b"more")) {
            Poll::Ready(result) => late = Some(result.unwrap_err().kind()),
            Poll::Pending => std::thread::sleep(Duration::from_millis(10)),
        }
        late.is_some()
    });
    assert_eq!(late, Some(ErrorKind::TimedOut));
}

#[test]
fn flush_of_the_kernel_waits_until_all_is_sent() {
    let (conn, mut peer) = pair_with(low_watermarks());
    let (_reader, mut writer) = conn.into_split();
    let taken = fill(&mut writer, &[7; 50_000], 32 << 10);
    for mode in [FlushMode::Kernel, FlushMode::EndOfPoll] {
        assert!(once(|context| writer.poll_flush(context, mode)).is_pending());
    }
    receive(&mut peer, taken);
    wait(|context| writer.poll_flush(context, FlushMode::EndOfPoll)).unwrap();
    assert_eq!(writer.unsent(), 0);
}

#[test]
fn shutdown_sends_fin_behind_all_output_and_ends_the_writes() {
    let (mut conn, mut peer) = pair();
    let mut sent = 0;
    while let Poll::Ready(taken) = once(|context| conn.poll_write(context, &[7; 50_000])) {
        sent += taken.unwrap();
    }
    // The rest of the output is on its way.
    let begun = once(|context| conn.poll_shutdown(context));
    assert!(!matches!(begun, Poll::Ready(Err(_))));
    let receiver = std::thread::spawn(move || {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        (peer, received.len())
    });
    wait(|context| conn.poll_shutdown(context)).unwrap();
    let (mut peer, received) = receiver.join().unwrap();
    assert_eq!(received, sent);
    for _ in 0..2 {
        let refused = wait(|context| conn.poll_write(context, b"more")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
        let refused =
            wait(|context| conn.poll_write_bytes(context, &mut Bytes::from_static(&[1; 9000])))
                .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
        wait(|context| conn.poll_shutdown(context)).unwrap();
        wait(|context| conn.poll_flush(context, FlushMode::Kernel)).unwrap();
    }
    std::io::Write::write_all(&mut peer, b"still read").unwrap();
    wait(|context| conn.poll_wait(context, 10)).unwrap();
}
