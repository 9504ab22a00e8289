// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results and the errors of a load.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use rustix::process::Signal;
use serde_json::Value;

use crate::lateness::retry_if_late;
use crate::support::{Finished, Server, fake_server, finish, netpoll, run, signal, within_limit};

const FIELDS: [&str; 9] = [
    "requests",
    "errors",
    "seconds",
    "requests_per_second",
    "p50_us",
    "p90_us",
    "p99_us",
    "p999_us",
    "server_cpu_us_per_request",
];

fn load(protocol: &str, addr: SocketAddr, flags: &str) -> Finished {
    run(&format!(
        "load {protocol} --addr {addr} --duration 200ms --warm-up 20ms --json {flags}"
    ))
}

/// Returns the figures of a successful load.
fn figures(finished: &Finished) -> Value {
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).unwrap()
}

fn number(figures: &Value, field: &str) -> f64 {
    figures[field]
        .as_f64()
        .unwrap_or_else(|| panic!("{field} in {figures}"))
}

/// Returns an address without a listener while the socket exists.
fn silent_address() -> (OwnedFd, SocketAddr) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let addr = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, addr)
}

#[test]
fn the_json_of_a_load_is_one_object_with_the_documented_fields() {
    let server = Server::start();
    let finished = load("rpc", server.addr, "--connections 4 --size 100 --depth 8");
    let figures = figures(&finished);
    assert_eq!(finished.stdout.lines().count(), 1);
    for field in FIELDS {
        assert!(figures.get(field).is_some(), "{field} in {figures}");
    }
    assert!(number(&figures, "requests") > 0.0);
    assert_eq!(number(&figures, "errors"), 0.0);
    assert!((number(&figures, "seconds") - 0.2).abs() < 0.001);
    let rate = number(&figures, "requests") / number(&figures, "seconds");
    assert!((number(&figures, "requests_per_second") - rate).abs() < 1.0);
    assert!(figures["server_cpu_us_per_request"].is_null());
}

#[test]
fn the_json_of_a_load_says_what_was_run() {
    let server = Server::start();
    let finished = load("rpc", server.addr, "-c 4 -s 1k --depth 8");
    let run = &figures(&finished)["run"];
    assert_eq!(run["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(run["address"], server.addr.to_string());
    assert_eq!(
        (&run["protocol"], &run["mode"]),
        (&"rpc".into(), &"closed".into())
    );
    for (field, value) in [
        ("connections", 4),
        ("payload_bytes", 1024),
        ("in_flight_per_connection", 8),
        ("threads", 1),
    ] {
        assert_eq!(run[field], value, "{field} in {run}");
    }
    assert_eq!(
        (&run["duration_seconds"], &run["requests"]),
        (&0.2.into(), &Value::Null)
    );
    let command = run["command"].as_array().unwrap();
    assert!(command.iter().any(|word| word == "--depth"), "{run}");
    assert!(run["machine"]["processors"].as_u64() > Some(0), "{run}");
}

#[test]
fn a_load_of_a_number_of_requests_ends_when_all_are_answered() {
    let server = Server::start();
    for (protocol, flags) in [
        ("rpc", "-c 7 -n 1000 --depth 3"),
        ("rpc", "-c 7 -n 1000 --threads 3"),
        ("rpc", "-c 7 -n 3"),
        ("rpc", "-c 2 -n 1000 --rate 20000"),
        ("rpc", "-c 2 -n 100 --churn"),
        ("rpc", "-c 8 -n 1000 --pool 2"),
    ] {
        let line = format!("load {protocol} --addr {} --json {flags}", server.addr);
        let finished = run(&line);
        let figures = figures(&finished);
        let requests: f64 = flags
            .split(' ')
            .nth(3)
            .and_then(|number| number.parse().ok())
            .unwrap();
        assert_eq!(number(&figures, "requests"), requests, "{flags}");
        assert_eq!(number(&figures, "errors"), 0.0, "{flags}");
        assert_eq!(number(&figures["run"], "requests"), requests, "{flags}");
        assert_eq!(figures["run"]["duration_seconds"], Value::Null, "{flags}");
    }
}

#[test]
fn a_number_of_requests_and_a_duration_end_with_the_first() {
    let server = Server::start();
    let line = "-n 1000000000 -d 200ms -c 1 --rate 100 --json";
    let figures = figures(&run(&format!("load rpc --addr {} {line}", server.addr)));
    assert!(number(&figures, "requests") < 1000.0, "{figures}");
}

#[test]
fn percentiles_are_ascending() {
    let server = Server::start();
    let figures = figures(&load("rpc", server.addr, "--connections 10"));
    let rising = ["p50_us", "p90_us", "p99_us", "p999_us"].map(|field| number(&figures, field));
    assert!(rising[0] > 0.0 && rising.is_sorted(), "{rising:?}");
}

#[test]
fn a_load_without_json_prints_a_table() {
    let server = Server::start();
    let finished = run(&format!("load rpc --addr {} --duration 50ms", server.addr));
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    for word in ["requests/s", "p99.9", "errors", "100 connections"] {
        assert!(finished.stdout.contains(word), "{}", finished.stdout);
    }
}

#[test]
fn every_size_and_depth_is_answered_without_an_error() {
    retry_if_late(Duration::from_millis(10), || {
        let server = Server::start();
        for flags in [
            "--size 0 --depth 3 --connections 2",
            "--size 1 --depth 1000 --connections 3",
            "--size 65536 --depth 4 --connections 3",
            "--size 1048576 --depth 3 --connections 2",
            "--size 4194304 --depth 1 --connections 1",
        ] {
            let figures = figures(&load("rpc", server.addr, flags));
            assert_eq!(number(&figures, "errors"), 0.0, "{flags}");
            assert!(number(&figures, "requests") > 0.0, "{flags}");
        }
    });
}

#[test]
fn an_open_loop_keeps_its_rate() {
    retry_if_late(Duration::from_millis(10), || {
        let server = Server::start();
        let figures = figures(&load(
            "rpc",
            server.addr,
            "--rate 5000 --connections 7 --size 10",
        ));
        let rate = number(&figures, "requests_per_second");
        assert!((3500.0..=6000.0).contains(&rate), "{rate}");
    });
}

#[test]
fn several_threads_share_the_connections_and_the_rate() {
    retry_if_late(Duration::from_millis(10), || {
        let server = Server::start();
        let closed = figures(&load("rpc", server.addr, "--threads 3 --connections 10"));
        assert_eq!(number(&closed, "errors"), 0.0);
        let open = figures(&load(
            "rpc",
            server.addr,
            "--threads 3 --connections 10 --rate 3000",
        ));
        let rate = number(&open, "requests_per_second");
        assert!((2100.0..=3600.0).contains(&rate), "{rate}");
    });
}

#[test]
fn more_threads_than_connections_are_not_an_error() {
    let server = Server::start();
    let figures = figures(&load("rpc", server.addr, "--threads 8 --connections 2"));
    assert!(number(&figures, "requests") > 0.0);
}

#[test]
fn the_processor_time_of_the_server_is_reported() {
    let server = Server::start();
    let flags = format!("--server-pid {} --depth 16", server.pid());
    let figures = figures(&load("rpc", server.addr, &flags));
    let micros = number(&figures, "server_cpu_us_per_request");
    assert!(micros > 0.0 && micros < 1_000.0, "{micros}");
    let busy = number(&figures, "server_busy");
    assert!(busy > 0.0 && busy < 1.5, "{busy}");
}

#[test]
fn a_missing_server_process_is_one_line_and_status_1() {
    let server = Server::start();
    let finished = load("rpc", server.addr, "--server-pid 4194999");
    assert_eq!((finished.status, finished.stdout.as_str()), (1, ""));
    assert!(finished.stderr.contains("4194999"), "{}", finished.stderr);
}

#[test]
fn an_unreachable_server_is_one_line_and_status_1() {
    // Bound without listening: no other process can take the port, and no server answers on it.
    let (_bound, addr) = silent_address();
    let finished = load("rpc", addr, "");
    assert_eq!((finished.status, finished.stdout.as_str()), (1, ""));
    let last = finished.stderr.lines().last().unwrap();
    assert!(
        last.starts_with("netpoll: cannot open 100 connections"),
        "{last}"
    );
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

#[test]
fn a_server_that_dies_during_a_load_is_reported_with_status_1() {
    let mut server = Server::start();
    let line = format!(
        "load rpc --addr {} --duration 200s --warm-up none --json",
        server.addr
    );
    let before = server.descriptors();
    let child = netpoll(&line).spawn().unwrap();
    // All connections are open, so the failure is not one of connecting.
    assert!(within_limit(|| server.descriptors() >= before + 100));
    server.process.kill().unwrap();
    let finished = finish(child);
    assert_eq!(finished.status, 1);
    let figures: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert!(number(&figures, "errors") >= 1.0, "{figures}");
    assert!(number(&figures, "seconds") < 200.0, "{figures}");
    assert!(
        finished.stderr.contains("requests failed"),
        "{}",
        finished.stderr
    );
}

#[test]
fn an_interrupt_ends_a_load_with_status_1() {
    let server = Server::start();
    let line = format!("load rpc --addr {} --duration 200s --json", server.addr);
    let before = server.descriptors();
    let child = netpoll(&line).spawn().unwrap();
    assert!(within_limit(|| server.descriptors() >= before + 100));
    signal(&child, Signal::INT);
    let finished = finish(child);
    assert_eq!(finished.status, 1);
    assert!(
        finished.stderr.contains("interrupted"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_response_of_another_length_is_an_error() {
    let addr = fake_server(|mut stream| {
        stream.read_exact(&mut [0; 14])?;
        stream.write_all(&[0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9])?;
        // Stays open until the load has seen it and closed.
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    let finished = load("rpc", addr, "--connections 1 --size 10");
    assert_eq!(finished.status, 1);
    assert!(
        finished.stderr.contains("another length"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_response_without_a_request_is_an_error() {
    let addr = fake_server(|mut stream| {
        let mut request = [0; 14];
        stream.read_exact(&mut request)?;
        stream.write_all(&[request, request].concat())?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    let finished = load("rpc", addr, "--connections 1 --size 10");
    assert_eq!(finished.status, 1);
    assert!(
        finished.stderr.contains("response without a request"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_server_that_never_answers_is_reported_with_status_1() {
    let addr = fake_server(|mut stream| stream.read_to_end(&mut Vec::new()).map(drop));
    let finished = load("rpc", addr, "--connections 1");
    assert_eq!(finished.status, 1);
    assert!(
        finished.stderr.contains("no response from"),
        "{}",
        finished.stderr
    );
    let figures: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert!(figures["p50_us"].is_null(), "{figures}");
}

#[test]
fn echo_responses_are_counted_by_their_size() {
    let addr = fake_server(|stream| {
        let (mut from, mut to) = (stream.try_clone()?, stream);
        thread::spawn(move || std::io::copy(&mut from, &mut to));
        Ok(())
    });
    let figures = figures(&load("echo", addr, "--connections 3 --size 100 --depth 4"));
    assert_eq!(number(&figures, "errors"), 0.0);
    assert!(number(&figures, "requests") > 0.0);
}

#[test]
fn an_open_loop_shows_the_stall_of_a_server() {
    // The server stalls for a quarter of the run. A load that waited for it would send nothing
    // meanwhile and record one slow request only.
    let addr = fake_server(|stream| {
        let (mut from, mut to) = (stream.try_clone()?, stream);
        let mut first = [0; 100];
        from.read_exact(&mut first)?;
        thread::sleep(Duration::from_millis(200));
        to.write_all(&first)?;
        std::io::copy(&mut from, &mut to).map(drop)
    });
    let finished = run(&format!(
        "load echo --addr {addr} --connections 1 --size 100 --rate 1000 --duration 800ms \
         --warm-up none --json"
    ));
    let figures = figures(&finished);
    assert!(number(&figures, "p90_us") > 50_000.0, "{figures}");
}

#[test]
fn progress_without_a_terminal_is_plain_lines_on_stderr() {
    let server = Server::start();
    let finished = load("rpc", server.addr, "--connections 1");
    assert!(
        finished.stderr.starts_with("rpc to 127.0.0.1:"),
        "{}",
        finished.stderr
    );
    assert!(!finished.stderr.contains('\u{1b}'), "{}", finished.stderr);
}
