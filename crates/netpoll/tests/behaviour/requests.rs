// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests and their answers.

use crate::support::{Server, bytes, frame};

#[test]
fn a_request_is_answered() {
    Server::rpc().connect().call(b"hello");
}

#[test]
fn an_empty_frame_is_answered() {
    Server::rpc().connect().call(b"");
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let server = Server::rpc();
    let mut peer = server.connect();
    for size in [1, 100, 1024, 65_536, 3, 70_000, 0, 9] {
        peer.call(&bytes(size, 7));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::rpc();
    let mut peer = server.connect();
    let requests: Vec<u8> = (0..500).flat_map(|n| frame(&bytes(n, n as u8))).collect();
    let mut writer = peer.stream.try_clone().unwrap();
    let sent = requests.clone();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &sent));
    assert!(peer.receive(requests.len()) == requests);
    sending.join().unwrap().unwrap();
}

#[test]
fn frames_split_at_every_byte_are_answered() {
    let server = Server::rpc();
    let mut peer = server.connect();
    let frame = frame(&bytes(40, 1));
    for cut in 1..frame.len() {
        peer.send(&frame[..cut]);
        peer.send(&frame[cut..]);
        assert_eq!(peer.receive(frame.len()), frame);
    }
    for byte in &frame {
        peer.send(&[*byte]);
    }
    assert_eq!(peer.receive(frame.len()), frame);
}

#[test]
fn a_frame_that_spans_many_blocks_is_answered() {
    let server = Server::rpc();
    let mut peer = server.connect();
    let body = bytes(3 << 20, 5);
    for _ in 0..3 {
        let mut writer = peer.stream.try_clone().unwrap();
        let request = frame(&body);
        let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &request));
        let answer = peer.receive(body.len() + 4);
        assert!(answer == frame(&body));
        sending.join().unwrap().unwrap();
    }
}

#[test]
fn the_first_request_is_answered_while_the_second_is_incomplete() {
    let server = Server::rpc();
    let mut peer = server.connect();
    let (first, second) = (frame(b"first"), frame(b"second"));
    peer.send(&[&first[..], &second[..5]].concat());
    assert_eq!(peer.receive(first.len()), first);
    peer.send(&second[5..]);
    assert_eq!(peer.receive(second.len()), second);
}
