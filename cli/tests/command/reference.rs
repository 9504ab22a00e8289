// SPDX-License-Identifier: MIT OR Apache-2.0
//! The responses of the reference server.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use crate::support::{Server, echoed, frame, payload, within_limit};

#[test]
fn frames_split_at_every_byte_are_answered_by_the_reference() {
    let server = Server::start();
    let mut stream = server.connect();
    let bytes = [frame(b"first"), frame(b""), frame(b"second")].concat();
    for cut in 0..=bytes.len() {
        stream.write_all(&bytes[..cut]).unwrap();
        // Responses to complete frames are read before the rest is sent, so the bytes arrive in two
        // parts.
        let answered = [9, 13, 23]
            .into_iter()
            .filter(|&end| end <= cut)
            .max()
            .unwrap_or(0);
        let mut answer = vec![0; bytes.len()];
        stream.read_exact(&mut answer[..answered]).unwrap();
        stream.write_all(&bytes[cut..]).unwrap();
        stream.read_exact(&mut answer[answered..]).unwrap();
        assert_eq!(answer, bytes, "cut at {cut}");
    }
}

#[test]
fn many_frames_in_one_write_are_answered_in_order() {
    let server = Server::start();
    let bytes: Vec<u8> = (0..1000)
        .flat_map(|size| frame(&payload(size % 97)))
        .collect();
    echoed(&mut server.connect(), &bytes);
}

#[test]
fn an_empty_frame_is_answered() {
    let server = Server::start();
    echoed(&mut server.connect(), &[0; 4]);
}

#[test]
fn frames_of_every_size_class_come_back_unchanged() {
    let server = Server::start();
    let mut stream = server.connect();
    for size in [
        1,
        16 << 10,
        64 << 10,
        128 << 10,
        256 << 10,
        1 << 20,
        3,
        1 << 20,
        200 << 10,
    ] {
        let bytes = frame(&payload(size));
        let mut writer = stream.try_clone().unwrap();
        let sent = bytes.clone();
        let writing = thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut answer = vec![0; bytes.len()];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer == bytes, "{size}");
        writing.join().unwrap();
    }
}

#[test]
fn large_and_small_frames_in_one_stream_keep_their_order() {
    let server = Server::start();
    let mut stream = server.connect();
    let sizes = [
        5, 300_000, 0, 140_000, 140_000, 1, 131_068, 131_069, 700_000, 9,
    ];
    let bytes: Vec<u8> = sizes
        .iter()
        .flat_map(|&size| frame(&payload(size)))
        .collect();
    let mut writer = stream.try_clone().unwrap();
    let sent = bytes.clone();
    let writing = thread::spawn(move || {
        for piece in sent.chunks(100_003) {
            writer.write_all(piece).unwrap();
        }
    });
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer == bytes);
    writing.join().unwrap();
}

#[test]
fn the_longest_payload_is_answered() {
    let server = Server::start();
    let mut stream = server.connect();
    let bytes = frame(&payload(4 << 20));
    let mut writer = stream.try_clone().unwrap();
    let sent = bytes.clone();
    let writing = thread::spawn(move || writer.write_all(&sent).unwrap());
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer == bytes);
    writing.join().unwrap();
}

#[test]
fn a_length_above_the_limit_closes_after_earlier_responses() {
    let server = Server::start();
    let mut stream = server.connect();
    let mut bytes = frame(b"fine");
    bytes.extend_from_slice(&((4u32 << 20) + 1).to_be_bytes());
    stream.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, frame(b"fine"));
}

#[test]
fn a_half_closed_peer_receives_its_response() {
    let server = Server::start();
    let mut stream = server.connect();
    stream.write_all(&frame(b"last words")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, frame(b"last words"));
}

#[test]
fn a_peer_that_reads_late_receives_all_responses() {
    let server = Server::start();
    let mut stream = server.connect();
    // More than both socket buffers hold, so that the server has to wait.
    let one = frame(&payload(50_000));
    let count = 400;
    let mut writer = stream.try_clone().unwrap();
    let request = one.clone();
    let writing = thread::spawn(move || {
        for _ in 0..count {
            writer.write_all(&request).unwrap();
        }
    });
    // The server is idle before the first byte is read.
    let mut last = 0;
    within_limit(|| {
        let now = processor_time(server.pid());
        let is_idle = now == last;
        last = now;
        thread::sleep(std::time::Duration::from_millis(50));
        is_idle
    });
    let mut answer = vec![0; one.len()];
    for index in 0..count {
        stream.read_exact(&mut answer).unwrap();
        assert!(answer == one, "{index}");
    }
    writing.join().unwrap();
}

#[test]
fn closed_connections_release_their_descriptors() {
    let server = Server::start();
    let before = server.descriptors();
    for _ in 0..5 {
        let mut streams: Vec<_> = (0..100).map(|_| server.connect()).collect();
        for stream in &mut streams {
            echoed(stream, &frame(b"x"));
        }
        assert_eq!(server.descriptors(), before + 100);
        drop(streams);
        assert!(within_limit(|| server.descriptors() == before));
    }
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    let server = Server::start();
    let bytes = frame(&payload(200 << 10));
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut stream = server.connect();
        echoed(&mut stream, &bytes);
        streams.push(stream);
    }
    let before = server.resident();
    for _ in 0..200 {
        let mut stream = server.connect();
        echoed(&mut stream, &bytes);
        streams.push(stream);
    }
    // With a buffer each, they would hold 40 MiB.
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes");
}

/// Returns the processor time of a process in nanoseconds.
fn processor_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    stat.split_ascii_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}
