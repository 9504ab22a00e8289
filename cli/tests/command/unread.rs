// SPDX-License-Identifier: MIT OR Apache-2.0
//! Servers whose outputs are not read, or whose readers are gone: they continue to serve and end on
//! a signal.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{self, LIMIT, netpoll, signal};

/// Returns a pipe that is full until it is read. Its content is a line of dots.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    // The thread fills the pipe and continues when there is space, until it has written everything.
    thread::spawn(move || filler.write_all(&[b'.'; 256 << 10]).ok());
    (reader, writer)
}

/// Returns a port without a listener.
fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Connects as soon as the server listens.
fn connect(addr: SocketAddr) -> TcpStream {
    let mut stream = None;
    assert!(support::within_limit(|| {
        stream = TcpStream::connect(addr).ok();
        stream.is_some()
    }));
    let stream = stream.unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Calls 200 times, each time on a new connection.
fn is_served(addr: SocketAddr) {
    for _ in 0..200 {
        support::echoed(&mut connect(addr), &support::frame(b"hello"));
    }
}

fn ends(mut server: Child) {
    signal(&server, Signal::TERM);
    assert_eq!(support::wait(&mut server).code(), Some(0));
}

/// Returns a server that logs as much as possible: statistics every 10 us, and events at a limit of
/// one connection. The reference logs nothing.
fn verbose_server(kind: &str, addr: SocketAddr) -> std::process::Command {
    let flags = match kind {
        "reference" => "",
        _ => "--stats 10us --max-connections 1 --pollers 1",
    };
    netpoll(&format!("serve {kind} --addr {addr} {flags}"))
}

#[test]
fn a_server_with_a_full_stderr_pipe_serves_and_ends_on_a_signal() {
    for kind in ["rpc", "reference"] {
        let (_unread, stderr) = full_pipe();
        let addr = free_addr();
        let server = verbose_server(kind, addr).stderr(stderr).spawn().unwrap();
        is_served(addr);
        ends(server);
    }
}

#[test]
fn a_server_with_a_full_stdout_pipe_serves_and_ends_on_a_signal() {
    for kind in ["rpc", "reference"] {
        let (_unread, stdout) = full_pipe();
        let addr = free_addr();
        let server = verbose_server(kind, addr).stdout(stdout).spawn().unwrap();
        is_served(addr);
        ends(server);
    }
}

#[test]
fn a_server_without_readers_serves_and_ends_on_a_signal() {
    for kind in ["rpc", "reference"] {
        let (_, stdout) = pipe().unwrap();
        let (_, stderr) = pipe().unwrap();
        let addr = free_addr();
        let mut command = verbose_server(kind, addr);
        let server = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        drop(command);
        is_served(addr);
        ends(server);
    }
}

#[test]
fn a_server_with_outputs_on_a_full_device_serves_and_ends_on_a_signal() {
    let addr = free_addr();
    let full = || {
        Stdio::from(
            std::fs::File::options()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        )
    };
    let server = verbose_server("rpc", addr)
        .stdout(full())
        .stderr(full())
        .spawn()
        .unwrap();
    is_served(addr);
    ends(server);
}

#[test]
fn a_server_with_closed_outputs_serves_and_ends_on_a_signal() {
    let addr = free_addr();
    let line = format!(
        "exec {} serve rpc --addr {addr} --stats 1ms >&- 2>&-",
        env!("CARGO_BIN_EXE_netpoll")
    );
    let server = std::process::Command::new("sh")
        .args(["-c", &line])
        .spawn()
        .unwrap();
    is_served(addr);
    ends(server);
}

#[test]
fn lines_dropped_at_a_full_pipe_are_reported_once_it_is_read() {
    let (reader, stderr) = full_pipe();
    let addr = free_addr();
    let server = verbose_server("rpc", addr).stderr(stderr).spawn().unwrap();
    // More lines than a pipe and the log's queue hold.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        is_served(addr);
    }
    // The pipe and the queue hold far fewer lines than this limit.
    let mut lines = BufReader::new(reader).lines().take(100_000);
    let mut expect = |what: &str| {
        let found = lines.any(|line| line.unwrap().contains(what));
        assert!(found, "no line with {what}");
    };
    expect(" lines dropped: the log was not read");
    expect(", log lines dropped ");
    ends(server);
}
