// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a server starts and ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

use rustix::process::Signal;

use crate::lateness::retry_if_late;
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

/// Starts a server with `flags`, sends `bytes`, and returns the bytes received until it closes.
fn until_it_closes(flags: &str, bytes: &[u8]) -> Vec<u8> {
    let server = Server::start_as(flags);
    let mut stream = server.connect();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn each_given_timeout_limits_connections() {
    retry_if_late(Duration::from_millis(10), || {
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
    });
}

#[test]
fn max_frame_limits_frames() {
    let four = support::frame(b"four");
    assert_eq!(
        until_it_closes("rpc --max-frame 4", &[&four[..], &[0, 0, 0, 5]].concat()),
        four
    );
}

#[test]
fn a_signal_waits_for_a_drain_as_long_as_given() {
    let mut server = Server::start_as("rpc --drain 100ms --idle-timeout none");
    let mut stream = server.connect();
    // An incomplete frame keeps its handler waiting, and the handler keeps the server running.
    stream.write_all(&[0, 0, 0, 9, 1]).unwrap();
    let start = std::time::Instant::now();
    signal(&server.process, Signal::TERM);
    assert_eq!(support::wait(&mut server.process).code(), Some(0));
    assert!(
        start.elapsed() < support::LIMIT,
        "the server outlived its drain"
    );
}

#[test]
fn an_address_in_use_is_one_line_and_status_1() {
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
fn a_host_name_is_a_valid_address() {
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
fn an_unknown_host_name_is_one_line_and_status_1() {
    let unknown = run("serve reference --addr no-such-host.invalid:1");
    assert_eq!((unknown.status, unknown.stdout.as_str()), (1, ""));
    assert_eq!(unknown.stderr.lines().count(), 1, "{}", unknown.stderr);
    assert!(
        unknown.stderr.contains("no-such-host.invalid"),
        "{}",
        unknown.stderr
    );
}

/// Starts a server on a Unix address, drives it with a load, and ends it.
fn driven_over(kind: &str, addr: &str) {
    let mut server = netpoll(&format!("serve {kind} --addr {addr}"))
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(server.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, format!("listening on {addr}\n"));
    let flags = "--connections 120 --size 100 --duration 100ms --warm-up none --json";
    let load = run(&format!("load rpc --addr {addr} {flags}"));
    assert_eq!(load.status, 0, "{}", load.stderr);
    assert!(load.stderr.contains(addr), "{}", load.stderr);
    signal(&server, Signal::TERM);
    assert_eq!(support::wait(&mut server).code(), Some(0));
}

#[test]
fn a_unix_path_is_served_and_driven_and_removed_at_the_end() {
    for kind in ["rpc", "reference"] {
        let name = format!("netpoll-command-{}-{kind}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        driven_over(kind, &format!("unix:{}", path.display()));
        assert!(!path.exists(), "{kind}");
    }
}

#[test]
fn an_abstract_name_is_served_and_driven() {
    driven_over(
        "rpc",
        &format!("unix:@netpoll-command-{}", std::process::id()),
    );
}

#[test]
fn an_existing_file_at_a_unix_path_is_one_line_and_status_1_and_stays() {
    let name = format!("netpoll-command-{}.txt", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, "precious").unwrap();
    let taken = run(&format!("serve rpc --addr unix:{}", path.display()));
    assert_eq!((taken.status, taken.stdout.as_str()), (1, ""));
    assert_eq!(taken.stderr.lines().count(), 1, "{}", taken.stderr);
    assert!(taken.stderr.contains("is not a socket"), "{}", taken.stderr);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn more_connections_than_descriptors_is_one_warning() {
    let mut server = netpoll("serve rpc --max-connections 99999999999")
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(server.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("max_connections 99999999999"), "{line}");
    signal(&server, Signal::TERM);
    support::wait(&mut server);
}

#[test]
fn a_limit_of_the_address_space_limits_the_budget_and_is_logged() {
    let line = format!(
        "ulimit -v 3000000; exec {} serve rpc --pollers 1 --addr 127.0.0.1:0",
        env!("CARGO_BIN_EXE_netpoll")
    );
    let mut server = std::process::Command::new("sh")
        .args(["-c", &line])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut listening = String::new();
    let mut stdout = BufReader::new(server.stdout.take().unwrap());
    stdout.read_line(&mut listening).unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(server.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    let budget = 3_000_000_u64 * 1024 / 4;
    assert!(
        line.contains(&format!("budget limited to {budget} bytes")) && line.contains("RLIMIT_AS"),
        "{line}"
    );
    signal(&server, Signal::TERM);
    assert_eq!(support::wait(&mut server).code(), Some(0));
}
