// SPDX-License-Identifier: MIT OR Apache-2.0
//! Input that arrives byte by byte, in bulk, and after its reader has stopped waiting.

use std::pin::pin;

use netpoll::Connection;

use crate::support::{Gate, Server, block_on, bytes, eventually, frame, pair, poll_once, rpc};

/// Bytes that depend on their position in the stream.
fn positions(from: usize, length: usize) -> Vec<u8> {
    (from..from + length)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

#[test]
fn a_dropped_read_loses_no_bytes() {
    let (mut conn, mut peer) = pair();
    let mut reader = conn.reader();
    for round in 0..50 {
        assert!(poll_once(pin!(reader.next(100))).is_pending());
        peer.send(&positions(round, 1));
        assert!(poll_once(pin!(reader.read_vec(99))).is_pending());
        assert!(poll_once(pin!(reader.until(0xff, 4096))).is_pending());
    }
    assert_eq!(block_on(reader.next(50)).unwrap(), positions(0, 50));
}

#[test]
fn a_large_read_dropped_midway_loses_no_bytes() {
    let (mut conn, peer) = pair();
    let mut reader = conn.reader();
    let sending = peer.send_aside(positions(0, 2 << 20));
    for need in [10, 100_000, 1 << 20] {
        // From here on bytes arrive in the memory of the wait, which is dropped at once.
        let _was_ready = poll_once(pin!(reader.wait(2 << 20))).is_ready();
        block_on(reader.wait(need)).unwrap();
    }
    assert!(block_on(reader.next(2 << 20)).unwrap() == positions(0, 2 << 20));
    sending.join().unwrap().unwrap();
}

#[test]
fn a_handler_that_drops_a_read_finds_the_bytes_in_its_next_call() {
    let handler = async |conn: &mut Connection| {
        let (mut reader, mut writer) = conn.split();
        if poll_once(pin!(reader.wait(6))).is_ready() {
            writer.put_slice(reader.next(6).await?);
        }
        Ok(())
    };
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    for _ in 0..20 {
        for byte in b"sixsix" {
            peer.send(&[*byte]);
        }
        assert_eq!(peer.receive(6), b"sixsix");
    }
}

#[test]
fn frames_that_arrive_byte_by_byte_are_answered_whole() {
    let server = Server::rpc();
    let mut peers: Vec<_> = (0..5).map(|_| server.connect()).collect();
    let request = frame(&positions(0, 600));
    for byte in &request {
        for peer in &mut peers {
            peer.send(&[*byte]);
        }
    }
    for peer in &mut peers {
        assert_eq!(peer.receive(request.len()), request);
    }
}

fn repeat_calls(size: usize) {
    let server = Server::rpc();
    let mut peer = server.connect();
    for round in 0..20 {
        peer.call_aside(&positions(round * size, size));
    }
}

#[test]
fn repeated_frames_of_64_kib_stay_whole() {
    repeat_calls(64 << 10);
}

#[test]
fn repeated_frames_of_1_mib_stay_whole() {
    repeat_calls(1 << 20);
}

#[test]
fn large_and_small_frames_in_one_stream_stay_whole() {
    let server = Server::rpc();
    let mut peer = server.connect();
    let sizes = [
        1 << 20,
        3,
        70_000,
        0,
        40_000,
        40_000,
        1,
        300_000,
        31,
        33_000,
        12,
    ];
    let requests: Vec<u8> = sizes
        .iter()
        .cycle()
        .take(44)
        .enumerate()
        .flat_map(|(index, &size)| frame(&positions(index * 7919, size)))
        .collect();
    let sending = peer.send_aside(requests.clone());
    assert!(peer.receive(requests.len()) == requests);
    sending.join().unwrap().unwrap();
}

#[test]
fn bytes_that_one_connection_holds_are_not_overwritten_by_input_of_others() {
    let gate = Gate::default();
    let at = gate.clone();
    let handler = handler!([at], |conn| {
        if conn.reader().peek(5).await?[4] != b'h' {
            return rpc(conn).await;
        }
        let (mut reader, mut writer) = conn.split();
        let held = reader.split_to(3000).await?;
        at.pass().await;
        writer.append(held);
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut holders: Vec<_> = (0..40).map(|_| server.connect()).collect();
    let held = |index: usize| [b"....h", &positions(index, 2995)[..]].concat();
    for (index, peer) in holders.iter_mut().enumerate() {
        peer.send(&held(index));
    }
    eventually("a handler that holds its input", || gate.is_waited_at());
    let mut other = server.connect();
    (0..60).for_each(|n| other.call(&bytes(60_000, n)));
    gate.open();
    for (index, peer) in holders.iter_mut().enumerate() {
        assert!(peer.receive(3000) == held(index), "holder {index}");
    }
}
