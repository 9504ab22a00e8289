// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the servers do that are there to be measured.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::support::{self, Server, fake_server, frame, payload, processor_time};

#[test]
fn every_tenth_request_of_a_heavy_server_computes() {
    let server = Server::start_as("heavy --pollers 1");
    let mut stream = server.connect();
    support::echoed(&mut stream, &frame(b"first"));
    let before = processor_time(server.pid());
    support::echoed(&mut stream, &frame(b"x").repeat(400));
    let used = processor_time(server.pid()) - before;
    assert!(used >= Duration::from_micros(40 * 100), "{used:?}");
}

#[test]
fn a_proxy_passes_both_directions_on_and_their_ends() {
    // An origin that answers only once it has heard the end.
    let origin = fake_server(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(&all)
    });
    let server = Server::start_as(&format!("proxy --to {origin}"));
    let mut stream = server.connect();
    let sent = payload(3_000_000);
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer == sent);
}

#[test]
fn a_proxy_whose_origin_is_not_there_closes_and_goes_on() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let server = Server::start_as(&format!("proxy --to {addr}"));
    for _ in 0..2 {
        let mut stream = server.connect();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}
