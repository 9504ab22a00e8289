// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server whose outputs nobody reads, or whose readers have gone, serves on and ends when told to.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{self, LIMIT, netpoll, signal};

/// A pipe that takes nothing more until it is read. What fills it is a line of dots.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    // Holds as much as it takes, and this writes on when there is room: a pipe is full until it has
    // taken all of that.
    thread::spawn(move || filler.write_all(&[b'.'; 256 << 10]).ok());
    (reader, writer)
}

/// A port that nobody listens on.
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

/// Calls again and again for a while, each time on a connection of its own.
fn is_served(addr: SocketAddr) {
    for _ in 0..200 {
        support::echoed(&mut connect(addr), &support::frame(b"hello"));
    }
}

fn ends(mut server: Child) {
    signal(&server, Signal::TERM);
    assert_eq!(support::wait(&mut server).code(), Some(0));
}

/// A server with an event or a statistic each millisecond.
fn talkative(kind: &str, addr: SocketAddr) -> std::process::Command {
    let flags = match kind {
        "reference" => "",
        _ => "--stats 10us --max-connections 1 --pollers 1",
    };
    netpoll(&format!("serve {kind} --addr {addr} {flags}"))
}

#[test]
fn a_server_whose_stderr_is_a_full_pipe_serves_on_and_ends_on_a_signal() {
    for kind in ["rpc", "reference"] {
        let (_unread, stderr) = full_pipe();
        let addr = free_addr();
        let server = talkative(kind, addr).stderr(stderr).spawn().unwrap();
        is_served(addr);
        ends(server);
    }
}

#[test]
fn a_server_whose_stdout_is_a_full_pipe_serves_on_and_ends_on_a_signal() {
    for kind in ["rpc", "reference"] {
        let (_unread, stdout) = full_pipe();
        let addr = free_addr();
        let server = talkative(kind, addr).stdout(stdout).spawn().unwrap();
        is_served(addr);
        ends(server);
    }
}

#[test]
fn a_server_whose_readers_have_gone_serves_on_and_ends_on_a_signal() {
    for kind in ["rpc", "reference"] {
        let (_, stdout) = pipe().unwrap();
        let (_, stderr) = pipe().unwrap();
        let addr = free_addr();
        let mut command = talkative(kind, addr);
        let server = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        drop(command);
        is_served(addr);
        ends(server);
    }
}

#[test]
fn a_server_whose_outputs_are_a_full_device_serves_on_and_ends_on_a_signal() {
    let addr = free_addr();
    let full = || {
        Stdio::from(
            std::fs::File::options()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        )
    };
    let server = talkative("rpc", addr)
        .stdout(full())
        .stderr(full())
        .spawn()
        .unwrap();
    is_served(addr);
    ends(server);
}

#[test]
fn a_server_whose_outputs_are_closed_serves_on_and_ends_on_a_signal() {
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
fn lines_that_a_full_pipe_cost_are_counted_once_it_is_read_again() {
    let (reader, stderr) = full_pipe();
    let addr = free_addr();
    let server = talkative("rpc", addr).stderr(stderr).spawn().unwrap();
    // More than a pipe and a queue hold, at a line each millisecond.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        is_served(addr);
    }
    // What the pipe and the queue hold is fewer lines than that by far.
    let mut lines = BufReader::new(reader).lines().take(100_000);
    let mut says = |what: &str| {
        let said = lines.any(|line| line.unwrap().contains(what));
        assert!(said, "no line with {what}");
    };
    says(" lines dropped: the log was not read");
    says(", log lines dropped ");
    ends(server);
}
