// SPDX-License-Identifier: MIT OR Apache-2.0
//! A storm of signals: 16,000 a second, sent to each thread of a server in turn. Their handler does
//! not restart system calls, so the server's waits fail with `EINTR` again and again. Clients call
//! it meanwhile. Every response must be correct, no connection may end, and SIGTERM must still end
//! the server gracefully.
//!
//! `storm.c` sends the signals. It is compiled with the C compiler that Rust links with, and loaded
//! into the released server binary.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::scene::Scene;
use crate::support::{Server, finish, frame, netpoll, payload, signal, wait};

/// Signals per second over all threads of a server.
const RATE: u32 = 16_000;

/// Minimum signals per second for a valid measurement on a busy machine.
const FEWEST: u32 = 1000;

/// Duration of the storm for each server.
const LASTS: Duration = Duration::from_secs(3);

const CLIENTS: usize = 8;

/// Payload sizes in turn.
const SIZES: [usize; 5] = [1, 100, 1000, 20_000, 300_000];

/// Calls per connection.
const CALLS: usize = 25;

/// The servers: every way to run handlers. The proxy also dials its upstream during the storm.
const SERVERS: [&str; 5] = [
    "rpc",
    "rpc --runner threads:2",
    "rpc --runner tokio:2",
    "proxy",
    "mux",
];

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn storm() {
    let scene = Scene::begin(
        "a storm of signals",
        "every answer right, no connection ended, status 0",
    );
    let library = compiled();
    let (mut answers, mut signals, mut slowest) = (0, 0, u32::MAX);
    for kind in SERVERS {
        let (answered, handled) = serve_in_storm(kind, &library);
        let rate = (handled as f64 / LASTS.as_secs_f64()) as u32;
        scene.progress(format!("{kind}: {answered} answers, {rate} signals/s"));
        answers += answered;
        signals += handled;
        slowest = slowest.min(rate);
    }
    let measured = format!("{answers} answers through {signals} signals, {slowest}/s at least");
    scene.judge(measured, answers > 0 && slowest >= FEWEST);
}

/// Compiles the library that sends the signals.
fn compiled() -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/storm.c");
    let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("storm.so");
    let flags = ["-O2", "-shared", "-fPIC", "-pthread", source, "-o"];
    let status = Command::new("cc").args(flags).arg(&library).status();
    assert!(status.expect("a C compiler").success());
    library
}

/// Runs a server in the storm. Returns the numbers of responses and of handled signals.
fn serve_in_storm(kind: &str, library: &Path) -> (usize, u64) {
    let report = library.with_extension("report");
    // Removes the report of an earlier run.
    fs::remove_file(&report).ok();
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("STORM_REPORT", report.to_str().unwrap()),
        ("STORM_RATE", &RATE.to_string()),
    ];
    let behind = (kind == "proxy").then(|| Server::start_as("rpc"));
    let to = behind
        .as_ref()
        .map(|server| format!(" --to {}", server.addr));
    let line = format!("{kind} --pollers 2{}", to.unwrap_or_default());
    let mut server = Server::start_in(&line, &environment);
    let answered = match kind {
        "mux" => muxed(&server),
        _ => called(server.addr),
    };
    signal(&server.process, Signal::TERM);
    assert_eq!(wait(&mut server.process).code(), Some(0), "{kind}");
    let handled = fs::read_to_string(&report).unwrap();
    (answered, handled.trim().parse().unwrap())
}

/// Calls a server from several threads and checks every response.
fn called(addr: SocketAddr) -> usize {
    let until = Instant::now() + LASTS;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| thread::spawn(move || call_until(addr, index, until)))
        .collect();
    let answered = clients.into_iter().map(|client| client.join().unwrap());
    answered.sum()
}

fn call_until(addr: SocketAddr, index: usize, until: Instant) -> usize {
    let mut calls = index;
    while Instant::now() < until {
        let mut stream = crate::victim::narrow(addr, 64 << 10).unwrap();
        for _ in 0..CALLS {
            let request = frame(&payload(SIZES[calls % SIZES.len()] + calls % 7));
            let mut answer = vec![0; request.len()];
            stream.write_all(&request).unwrap();
            stream.read_exact(&mut answer).unwrap();
            assert!(answer == request, "the response differs from the request");
            calls += 1;
        }
    }
    calls - index
}

/// Drives a mux server with the load generator.
fn muxed(server: &Server) -> usize {
    let line = format!(
        "load mux --addr {} --connections 4 --depth 16 --warm-up 100ms --duration {LASTS:?} --json",
        server.addr
    );
    let finished = finish(netpoll(&line).spawn().unwrap());
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(report["errors"], 0, "{}", finished.stdout);
    report["requests"].as_u64().unwrap() as usize
}
