// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server answers alike on all runners.

use std::fs;

use rustix::process::Signal;

use crate::support::{self, Server, run, signal};

/// Returns the names of a server's threads.
fn threads(server: &Server) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap();
    tasks
        .map(|task| name(task.unwrap()).trim_end().to_owned())
        .collect()
}

/// Serves with `runner` and returns the names of the threads.
fn served_by(kind: &str, runner: &str) -> Vec<String> {
    let mut server = Server::start_as(&format!("{kind} --pollers 1 --runner {runner}"));
    let mut streams = [server.connect(), server.connect(), server.connect()];
    for stream in &mut streams {
        support::echoed(stream, &support::frame(&support::payload(100)));
        support::echoed(stream, &support::frame(&support::payload(100_000)));
    }
    drop(streams);
    let threads = threads(&server);
    signal(&server.process, Signal::TERM);
    assert_eq!(
        support::wait(&mut server.process).code(),
        Some(0),
        "{runner}"
    );
    threads
}

#[test]
fn every_runner_serves_on_the_given_number_of_threads() {
    for (runner, name, count) in [
        ("inline", "netpoll-run", 0),
        ("threads:3", "netpoll-run", 3),
        ("tokio:3", "tokio", 3),
    ] {
        for kind in ["rpc", "echo", "heavy"] {
            let threads = served_by(kind, runner);
            let found = threads.iter().filter(|thread| thread.starts_with(name));
            assert_eq!(found.count(), count, "{runner}: {threads:?}");
        }
    }
}

#[test]
fn a_runner_without_a_number_has_a_default_number_of_threads() {
    for (runner, name) in [("threads", "netpoll-run"), ("tokio", "tokio")] {
        let threads = served_by("rpc", runner);
        assert!(
            threads.iter().any(|thread| thread.starts_with(name)),
            "{threads:?}"
        );
    }
}

#[test]
fn reuse_port_gives_each_poller_a_listening_socket() {
    let server = Server::start_as("rpc --pollers 2 --reuse-port");
    for _ in 0..8 {
        support::echoed(&mut server.connect(), &support::frame(b"x"));
    }
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X} 00000000:0000 0A", server.addr.port());
    assert_eq!(sockets.matches(&port).count(), 2, "{sockets}");
}

#[test]
fn reuse_port_on_a_unix_socket_is_an_error() {
    let failed = run("serve rpc --reuse-port --addr unix:@netpoll-command-reuse");
    assert_eq!((failed.status, failed.stdout.as_str()), (1, ""));
    assert_eq!(failed.stderr.lines().count(), 1, "{}", failed.stderr);
}
