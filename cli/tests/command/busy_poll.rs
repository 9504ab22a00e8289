// SPDX-License-Identifier: MIT OR Apache-2.0
//! Busy polling, observed by the processor time that a process uses while it waits.

use std::time::Duration;

use crate::support::{self, Server, finish, frame, netpoll, processor_time, within_limit};

/// More than a sleeping process with an occasional request uses, and less than a process uses that
/// busy-polls for a second each time, even on a shared processor.
const BUSY_TIME: Duration = Duration::from_millis(200);

/// Checks between two requests: more than a second's worth.
const CHECKS_PER_REQUEST: u32 = 250;

#[test]
fn a_server_busy_polls_after_a_request() {
    for kind in ["rpc --pollers 1", "mux --pollers 1", "reference"] {
        let server = Server::start_as(&format!("{kind} --busy-poll 1s"));
        let (mut stream, mut checks) = (server.connect(), 0);
        let is_busy = || {
            if checks % CHECKS_PER_REQUEST == 0 {
                support::echoed(&mut stream, &frame(b"hello"));
            }
            checks += 1;
            processor_time(server.pid()) >= BUSY_TIME
        };
        assert!(within_limit(is_busy), "{kind}");
    }
}

#[test]
fn a_load_busy_polls_while_it_waits() {
    // The listener never accepts, so no request is answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    for mode in ["--depth 1", "--churn"] {
        let line = format!("load rpc --addr {addr} --connections 1 {mode} --busy-poll 1s");
        let mut load = netpoll(&line).spawn().unwrap();
        let is_busy = || processor_time(load.id()) >= BUSY_TIME;
        assert!(within_limit(is_busy), "{mode}");
        load.kill().unwrap();
        load.wait().unwrap();
    }
}

#[test]
fn a_busy_polling_load_measures_a_busy_polling_server() {
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
