// SPDX-License-Identifier: MIT OR Apache-2.0
//! A load with a connection for each request.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lateness::retry_if_late;
use crate::support::{LIMIT, Server, fake_server, frame, run};

fn churn(addr: impl std::fmt::Display, flags: &str) -> crate::support::Finished {
    run(&format!(
        "load rpc --churn --addr {addr} --duration 200ms --warm-up 20ms --size 100 {flags} --json"
    ))
}

#[test]
fn a_churn_load_reports_latencies_and_the_server_time() {
    retry_if_late(Duration::from_millis(10), || {
        for kind in ["reference", "rpc --pollers 1 --stats 20ms"] {
            let server = Server::start_as(kind);
            let flags = format!("--connections 10 --threads 2 --server-pid {}", server.pid());
            let finished = churn(server.addr, &flags);
            assert_eq!(finished.status, 0, "{}", finished.stderr);
            let figures: Value = serde_json::from_str(&finished.stdout).unwrap();
            assert!(figures["requests"].as_u64().unwrap() > 10, "{figures}");
            assert_eq!(figures["errors"], 0);
            assert!(figures["server_cpu_us_per_request"].as_f64().unwrap() > 0.0);
            assert!(figures["p99_us"].as_f64().unwrap() > 0.0);
        }
    });
}

#[test]
fn each_connection_carries_one_request_and_closes_gracefully() {
    retry_if_late(Duration::from_millis(10), || {
        let (sender, seen) = mpsc::channel();
        let addr = fake_server(move |mut stream| {
            let mut all = Vec::new();
            let mut request = vec![0; 104];
            stream.read_exact(&mut request)?;
            stream.write_all(&request)?;
            // Ends with the client's FIN; a reset would be an error.
            let rest = stream.read_to_end(&mut all).map_err(|error| error.kind());
            sender.send((request, rest, stream.peer_addr()?.ip())).ok();
            Ok(())
        });
        let finished = churn(addr, "--connections 1");
        assert_eq!(finished.status, 0, "{}", finished.stderr);
        let connections: Vec<_> = seen.try_iter().collect();
        assert!(connections.len() > 2, "{}", connections.len());
        let mut from: Vec<IpAddr> = Vec::new();
        for (request, rest, ip) in &connections {
            assert_eq!(request[..4], frame(&[0; 100])[..4]);
            assert_eq!(*rest, Ok(0));
            assert!(ip.is_loopback());
            from.push(*ip);
        }
        from.dedup();
        assert!(from.len() > 2, "{from:?}");
    });
}

#[test]
fn a_server_that_closes_without_a_response_fails_the_load() {
    let addr = fake_server(|mut stream| stream.read_exact(&mut [0; 50]));
    let start = Instant::now();
    let finished = churn(addr, "--connections 3");
    assert_eq!(finished.status, 1);
    assert!(
        finished.stderr.contains("3 requests failed"),
        "{}",
        finished.stderr
    );
    assert!(start.elapsed() < LIMIT);
}

#[test]
fn a_server_that_never_closes_does_not_block_the_load() {
    let held = std::sync::Mutex::new(Vec::new());
    let addr = fake_server(move |mut stream| {
        let mut request = vec![0; 104];
        stream.read_exact(&mut request)?;
        stream.write_all(&request)?;
        held.lock().unwrap().push(stream);
        Ok(())
    });
    let start = Instant::now();
    let finished = churn(addr, "--connections 2");
    assert_eq!(finished.status, 1);
    assert!(
        finished.stderr.contains("no response from"),
        "{}",
        finished.stderr
    );
    assert!(start.elapsed() > Duration::from_millis(200));
}
