// SPDX-License-Identifier: MIT OR Apache-2.0
//! Log lines and statistics of a server on stderr.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::Signal;

use crate::support::{self, LIMIT, Server, signal};

/// Returns the lines of a server's stderr as they arrive.
fn log_lines(server: &mut Server) -> Receiver<String> {
    let (send, lines) = channel();
    let stderr = BufReader::new(server.process.stderr.take().unwrap());
    thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Waits for a line that contains all of `parts`.
fn expect(lines: &Receiver<String>, parts: &[&str]) {
    loop {
        let line = lines.recv_timeout(LIMIT).expect("no line with all parts");
        if parts.iter().all(|part| line.contains(part)) {
            return;
        }
    }
}

#[test]
fn statistics_are_one_line_per_interval() {
    let mut server = Server::start_as("rpc --pollers 1 --stats 50ms");
    let lines = log_lines(&mut server);
    expect(
        &lines,
        &["connections 0, requests/s 0, in 0 B/s, out 0 B/s"],
    );
    let mut stream = server.connect();
    support::echoed(&mut stream, &support::frame(b"hello"));
    expect(&lines, &["connections 1,"]);
    drop(stream);
    expect(&lines, &["connections 0,", "closed peer_fin 1"]);
    let mut late = server.connect();
    late.write_all(&u32::MAX.to_be_bytes()).unwrap();
    expect(&lines, &["closed frame_limit 1"]);
    signal(&server.process, Signal::TERM);
    assert_eq!(support::wait(&mut server.process).code(), Some(0));
    let mut rest = String::new();
    server.stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "statistics are not on stdout");
}

#[test]
fn a_line_counts_the_requests_and_bytes_of_its_interval() {
    let mut server = Server::start_as("rpc --pollers 2 --stats 100ms");
    let lines = log_lines(&mut server);
    let mut streams = [server.connect(), server.connect()];
    let frame = support::frame(&[7; 10_000]);
    let busy = || {
        for stream in &mut streams {
            support::echoed(stream, &frame);
        }
        lines.try_iter().any(|line| {
            line.contains("kB/s, out") && line.contains("pollers ") || line.contains("MB/s, out")
        })
    };
    assert!(support::within_limit(busy));
}

#[test]
fn notable_events_are_logged() {
    let mut server = Server::start_as("rpc --max-connections 1 --pollers 1");
    let lines = log_lines(&mut server);
    let mut first = server.connect();
    support::echoed(&mut first, &support::frame(b"x"));
    let mut second = server.connect();
    expect(&lines, &["netpoll: accepting paused"]);
    drop(first);
    support::echoed(&mut second, &support::frame(b"x"));
    expect(&lines, &["netpoll: accepting resumed"]);
}

#[test]
fn a_shutdown_logs_how_many_connections_it_aborted() {
    let mut server = Server::start_as("rpc --drain 50ms --idle-timeout none");
    let lines = log_lines(&mut server);
    let mut stream = server.connect();
    stream.write_all(&[0, 0, 0, 9, 1]).unwrap();
    // This later request is answered, so the handler has read the incomplete frame.
    support::echoed(&mut server.connect(), &support::frame(b"x"));
    signal(&server.process, Signal::TERM);
    assert_eq!(support::wait(&mut server.process).code(), Some(0));
    expect(&lines, &["shutdown deadline passed: 1 connections aborted"]);
}
