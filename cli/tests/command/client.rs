// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads through netpoll's own client, and the mux server.

use serde_json::Value;

use crate::support::{Finished, Server, run};

/// Runs a short load on `server`.
fn load(server: &Server, line: &str) -> Finished {
    let addr = server.addr;
    run(&format!(
        "load {line} --addr {addr} --duration 200ms --warm-up none --json"
    ))
}

#[track_caller]
fn assert_answered(finished: &Finished) {
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let figures: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(figures["errors"], 0, "{figures}");
    assert!(figures["requests"].as_u64().unwrap() > 0, "{figures}");
}

#[test]
fn a_mux_answers_frames_with_ids_and_without() {
    for runner in ["inline", "threads:2", "tokio:2"] {
        let server = Server::start_as(&format!("mux --runner {runner}"));
        for flags in [
            "--connections 4 --depth 25",
            "--connections 4 --depth 25 --ids",
            "--connections 1 --depth 300 --ids --size 8",
            "--connections 2 --depth 3 --ids --size 1048576",
            "--connections 3 --rate 5000",
        ] {
            assert_answered(&load(&server, &format!("mux {flags}")));
        }
    }
}

#[test]
fn callers_share_the_connections_of_a_pool() {
    let server = Server::start_as("rpc");
    for flags in [
        "--connections 20 --pool 4",
        "--connections 3 --pool 100 --size 0",
    ] {
        assert_answered(&load(&server, &format!("rpc {flags}")));
    }
}

#[test]
fn an_unreachable_server_is_one_line_and_status_1() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for flags in ["mux --ids", "rpc --pool 3"] {
        let finished = run(&format!("load {flags} --addr {gone} --duration 1s"));
        assert_eq!(finished.status, 1, "{flags}");
        let last = finished.stderr.lines().last().unwrap();
        assert!(last.contains("efused"), "{last}");
    }
}
