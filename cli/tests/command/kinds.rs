// SPDX-License-Identifier: MIT OR Apache-2.0
//! The servers that exist to be measured: heavy, proxy and mux.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use socket2::SockRef;

use crate::lateness::retry_if_late;
use crate::support::{
    self, LIMIT, Server, fake_server, frame, payload, processor_time, signal, within_limit,
};

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
fn a_proxy_forwards_both_directions_and_their_ends() {
    // The upstream answers only after the end of the stream.
    let upstream = fake_server(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(&all)
    });
    let server = Server::start_as(&format!("proxy --to {upstream}"));
    let mut stream = server.connect();
    let sent = payload(3_000_000);
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer == sent);
}

#[test]
fn a_proxy_without_a_reachable_upstream_closes_and_continues() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let server = Server::start_as(&format!("proxy --to {addr}"));
    for _ in 0..2 {
        let mut stream = server.connect();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}

/// Starts a proxy with `flags`. Returns it and its upstream listener.
fn proxy(flags: &str) -> (Server, TcpListener) {
    let upstream_listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = upstream_listener.local_addr().unwrap();
    (
        Server::start_as(&format!("proxy --to {addr} {flags}")),
        upstream_listener,
    )
}

/// Accepts the next connection of the proxy.
fn accept(upstream_listener: &TcpListener) -> TcpStream {
    let (stream, _) = upstream_listener.accept().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

#[test]
fn a_half_open_pair_ends_when_the_server_stays_silent() {
    let (server, upstream_listener) = proxy("--half-open-timeout 100ms");
    let mut before = usize::MAX;
    let mut silent = Vec::new();
    for number in 0..20 {
        drop(server.connect());
        let mut stream = accept(&upstream_listener);
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "the end is forwarded");
        silent.push(stream);
        if number == 0 {
            // Includes the descriptors that the first dial of a process opens.
            before = server.descriptors();
        }
    }
    let ended = within_limit(|| server.descriptors() <= before);
    assert!(
        ended,
        "{} descriptors, {before} before",
        server.descriptors()
    );
}

#[test]
fn a_half_open_pair_ends_when_the_client_stays_silent() {
    let (server, upstream_listener) = proxy("--half-open-timeout 100ms");
    let mut client = server.connect();
    let upstream = accept(&upstream_listener);
    let both = server.descriptors();
    // The end is forwarded at once; both connections exist until then.
    drop(upstream);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    let ended = within_limit(|| server.descriptors() <= both - 2);
    assert!(ended, "the silent client is still connected");
}

#[test]
fn a_direction_with_traffic_continues_after_the_other_ends() {
    retry_if_late(Duration::from_millis(50), || {
        let (server, upstream_listener) = proxy("--half-open-timeout 400ms");
        let mut client = server.connect();
        client.shutdown(Shutdown::Write).unwrap();
        let mut upstream = accept(&upstream_listener);
        for _ in 0..12 {
            std::thread::sleep(Duration::from_millis(50));
            upstream.write_all(b".").unwrap();
        }
        drop(upstream);
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 12);
    });
}

#[test]
fn a_reset_of_one_side_resets_the_other() {
    let (server, upstream_listener) = proxy("--half-open-timeout 100s");
    for half_closed in [false, true] {
        let client = server.connect();
        let mut upstream = accept(&upstream_listener);
        if half_closed {
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(upstream.read(&mut [0; 1]).unwrap(), 0);
        }
        let closing = SockRef::from(&client).set_linger(Some(Duration::ZERO));
        closing.unwrap();
        drop(client);
        let gone = within_limit(|| upstream.write_all(b".").is_err());
        assert!(gone, "half closed: {half_closed}");
    }
    let mut client = server.connect();
    let mut upstream = accept(&upstream_listener);
    upstream.write_all(b".").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    SockRef::from(&upstream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(upstream);
    let error = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn the_limits_of_a_proxy_apply_to_its_upstream_connection() {
    // The upstream reads nothing.
    let (server, upstream_listener) = proxy("--write-timeout 100ms --idle-timeout none");
    let client = server.connect();
    let upstream = accept(&upstream_listener);
    client.set_write_timeout(Some(LIMIT)).unwrap();
    let mut sending = &client;
    let error = (0..200).find_map(|_| sending.write_all(&payload(1 << 20)).err());
    let error = error.expect("the connection did not end");
    assert_ne!(error.kind(), ErrorKind::WouldBlock, "the connection hangs");
    drop(upstream);
}

#[test]
fn a_draining_proxy_forwards_responses_in_progress() {
    let (mut server, upstream_listener) = proxy("--drain 20s");
    let (mut waiting, mut idle) = (server.connect(), server.connect());
    let mut upstream = [accept(&upstream_listener), accept(&upstream_listener)];
    idle.write_all(b"?").unwrap();
    waiting.write_all(b"?").unwrap();
    for stream in &mut upstream {
        stream.read_exact(&mut [0; 1]).unwrap();
    }
    signal(&server.process, Signal::TERM);
    for stream in &mut upstream {
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "no more requests");
        stream.write_all(b"an answer").unwrap();
    }
    drop(upstream);
    for client in [&mut waiting, &mut idle] {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "an answer");
    }
    drop((waiting, idle));
    assert_eq!(support::wait(&mut server.process).code(), Some(0));
}

#[test]
fn a_draining_server_answers_the_requests_it_has_received() {
    for kind in ["mux", "rpc", "echo"] {
        let mut server = Server::start_as(kind);
        let mut client = server.connect();
        let request = frame(b"taken");
        support::echoed(&mut client, &request);
        client.write_all(&request.repeat(50)).unwrap();
        signal(&server.process, Signal::TERM);
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).unwrap();
        assert_eq!(answers.len(), 50 * request.len(), "{kind}");
        drop(client);
        assert_eq!(support::wait(&mut server.process).code(), Some(0));
    }
}
