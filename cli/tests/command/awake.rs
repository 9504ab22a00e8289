// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stays awake before it sleeps: seen by the processor time that it uses while nothing happens.

use std::time::Duration;

use crate::support::{self, Server, finish, frame, netpoll, processor_time, within_limit};

/// More than a process uses that sleeps and is asked now and then, less than one uses that stays awake
/// for a second each time, also where it has to share the processor.
const MUCH: Duration = Duration::from_millis(200);

/// How many looks lie between two requests: more than a second's.
const NOW_AND_THEN: u32 = 250;

#[test]
fn a_server_stays_awake_after_a_request_as_it_was_told() {
    for kind in ["rpc --pollers 1", "mux --pollers 1", "reference"] {
        let server = Server::start_as(&format!("{kind} --busy-poll 1s"));
        let (mut stream, mut looks) = (server.connect(), 0);
        let is_awake = || {
            if looks % NOW_AND_THEN == 0 {
                support::echoed(&mut stream, &frame(b"hello"));
            }
            looks += 1;
            processor_time(server.pid()) >= MUCH
        };
        assert!(within_limit(is_awake), "{kind}");
    }
}

#[test]
fn a_load_stays_awake_while_it_waits_as_it_was_told() {
    // Nobody accepts, and so nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    for pressure in ["--depth 1", "--churn"] {
        let line = format!("load rpc --addr {addr} --connections 1 {pressure} --busy-poll 1s");
        let mut load = netpoll(&line).spawn().unwrap();
        let is_awake = || processor_time(load.id()) >= MUCH;
        assert!(within_limit(is_awake), "{pressure}");
        load.kill().unwrap();
        load.wait().unwrap();
    }
}

#[test]
fn a_load_that_stays_awake_measures_a_server_that_does() {
    let server = Server::start_as("rpc --pollers 1 --busy-poll 50us");
    let line = format!(
        "load rpc --addr {} --connections 2 --duration 200ms --warm-up none --busy-poll 50us --json",
        server.addr
    );
    let finished = finish(netpoll(&line).spawn().unwrap());
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert!(
        finished.stdout.contains("\"errors\":0"),
        "{}",
        finished.stdout
    );
}
