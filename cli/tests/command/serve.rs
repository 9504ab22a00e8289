// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a server begins and ends.

use std::io::{Read, Write};

use rustix::process::Signal;

use crate::support::{self, Server, netpoll, run, signal};

fn stopped_by(stop: Signal) -> String {
    let mut server = Server::start();
    signal(&server.process, stop);
    assert_eq!(support::wait(&mut server.process).code(), Some(0));
    let mut rest = String::new();
    server.stdout.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn serve_prints_the_bound_address_and_nothing_else() {
    let mut server = Server::start();
    assert_ne!(server.addr.port(), 0);
    let mut stream = server.connect();
    support::echoed(&mut stream, &support::frame(b"hello"));
    signal(&server.process, Signal::TERM);
    support::wait(&mut server.process);
    let mut rest = String::new();
    server.stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn sigterm_ends_a_server_with_status_0() {
    assert_eq!(stopped_by(Signal::TERM), "");
}

#[test]
fn sigint_ends_a_server_with_status_0() {
    assert_eq!(stopped_by(Signal::INT), "");
}

#[test]
fn a_signal_ends_a_server_in_spite_of_open_connections() {
    let mut server = Server::start();
    let mut stream = server.connect();
    support::echoed(&mut stream, &support::frame(b"x"));
    signal(&server.process, Signal::TERM);
    assert_eq!(support::wait(&mut server.process).code(), Some(0));
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
}

/// Starts a server with `flags`, sends it `bytes`, and says what comes back until it closes.
fn until_it_closes(flags: &str, bytes: &[u8]) -> Vec<u8> {
    let server = Server::start_as(flags);
    let mut stream = server.connect();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn each_time_that_is_given_bounds_its_connections() {
    let frame = support::frame(b"hello");
    let off = "--first-byte-timeout none --idle-timeout none";
    assert_eq!(
        until_it_closes("rpc --first-byte-timeout 50ms --idle-timeout none", b""),
        b""
    );
    assert_eq!(
        until_it_closes("rpc --first-byte-timeout none --idle-timeout 50ms", &frame),
        frame
    );
    assert_eq!(
        until_it_closes(&format!("rpc --read-timeout 50ms {off}"), b"ab"),
        b""
    );
    assert_eq!(
        until_it_closes(&format!("rpc --max-age 200ms {off}"), &frame),
        frame
    );
}

#[test]
fn the_frame_that_is_given_is_the_most() {
    let four = support::frame(b"four");
    assert_eq!(
        until_it_closes("rpc --max-frame 4", &[&four[..], &[0, 0, 0, 5]].concat()),
        four
    );
}

#[test]
fn a_signal_waits_for_a_drain_as_long_as_was_given() {
    let mut server = Server::start_as("rpc --drain 100ms --idle-timeout none");
    let mut stream = server.connect();
    // A frame that never ends keeps its handler waiting, and the handler keeps the server.
    stream.write_all(&[0, 0, 0, 9, 1]).unwrap();
    let start = std::time::Instant::now();
    signal(&server.process, Signal::TERM);
    assert_eq!(support::wait(&mut server.process).code(), Some(0));
    assert!(start.elapsed() < support::LIMIT, "no longer than a drain");
}

#[test]
fn an_address_that_is_taken_is_one_line_and_status_1() {
    let server = Server::start();
    let taken = run(&format!("serve reference --addr {}", server.addr));
    assert_eq!((taken.status, taken.stdout.as_str()), (1, ""));
    assert_eq!(taken.stderr.lines().count(), 1, "{}", taken.stderr);
    assert!(
        taken.stderr.starts_with("netpoll: cannot listen on "),
        "{}",
        taken.stderr
    );
}

#[test]
fn a_name_is_an_address_too() {
    let mut child = netpoll("serve reference --addr localhost:0")
        .spawn()
        .unwrap();
    let mut first = [0; 13];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    assert_eq!(&first, b"listening on ");
    signal(&child, Signal::TERM);
    assert_eq!(support::wait(&mut child).code(), Some(0));
}

#[test]
fn a_name_that_nobody_knows_is_one_line_and_status_1() {
    let unknown = run("serve reference --addr no-such-host.invalid:1");
    assert_eq!((unknown.status, unknown.stdout.as_str()), (1, ""));
    assert_eq!(unknown.stderr.lines().count(), 1, "{}", unknown.stderr);
    assert!(
        unknown.stderr.contains("no-such-host.invalid"),
        "{}",
        unknown.stderr
    );
}
