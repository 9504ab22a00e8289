// SPDX-License-Identifier: MIT OR Apache-2.0
//! A flood of connections: 15,000 connect as fast as possible, all are open at once, each receives
//! a response, and then all close at once. The server must serve every one, return to its number of
//! descriptors before, and use no more memory after the second flood than after the first.
//!
//! If the process may have fewer descriptors, the flood is smaller, and the scene prints its size.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use netpoll_sys::process;
use socket2::{Domain, Socket, Type};

use crate::scene::Scene;
use crate::support::{LIMIT, Server, frame, within_limit};
use crate::victim::{call, reset};

/// Number of connections.
const FLOOD: usize = 15_000;

/// Number of threads that connect.
const SOURCES: usize = 8;

/// Descriptors reserved for everything else.
const SPARE: usize = 200;

/// Limit of the ratio of memory after two floods to memory after one.
const MEMORY: f64 = 1.2;

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn flood() {
    let scene = Scene::begin(
        "a flood of connections",
        "all served, as many descriptors as before, 1.2 x the memory of one flood after two",
    );
    let descriptors = process::raise_descriptor_limit().unwrap();
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let each = FLOOD.min(descriptors.saturating_sub(SPARE)) / SOURCES;
    let connections = each * SOURCES;
    if connections < FLOOD {
        scene.progress(format!("only {connections}: {descriptors} descriptors"));
    }
    // Without timeouts: a busy machine may take long to open all connections.
    let patient = "--first-byte-timeout none --idle-timeout none";
    let line = format!("rpc --max-connections {} {patient}", connections + 1);
    let server = Server::start_as(&line);
    call(&mut server.connect(), b"before");
    let before = server.descriptors();
    let mut memory = [0; 2];
    let mut served = 0;
    let began = Instant::now();
    for held in &mut memory {
        served += connect_call_and_close(server.addr, each);
        let gone = within_limit(|| server.descriptors() <= before);
        assert!(gone, "{} of {before} descriptors", server.descriptors());
        *held = server.resident();
        scene.progress(format!("{served} served, {} KiB held", *held >> 10));
    }
    call(&mut server.connect(), b"after");
    let growth = memory[1] as f64 / memory[0] as f64;
    let measured = format!(
        "2 x {connections} connections, {served} served, in {:.1?}, {before} descriptors before and after, {growth:.2} x the memory",
        began.elapsed()
    );
    scene.judge(measured, served == 2 * connections && growth <= MEMORY);
}

/// Opens all connections, then sends a request on each, then closes them, half by FIN and half by
/// reset. Returns the number of correct responses.
fn connect_call_and_close(server: SocketAddr, each: usize) -> usize {
    let dial = |index| thread::spawn(move || connect_from(server, index, each));
    let sources: Vec<_> = (0..SOURCES).map(dial).collect();
    let joined = sources.into_iter().map(|source| source.join().unwrap());
    let mut flood: Vec<TcpStream> = joined.flatten().collect();
    let request = frame(&[7; 100]);
    for stream in &mut flood {
        stream.write_all(&request).unwrap();
    }
    let mut answer = vec![0; request.len()];
    let mut served = 0;
    for stream in &mut flood {
        stream.read_exact(&mut answer).unwrap();
        served += usize::from(answer == request);
    }
    for (index, stream) in flood.into_iter().enumerate() {
        if index % 2 == 0 {
            reset(stream);
        }
    }
    served
}

/// Opens the connections of one source. Each source has its own address, so that no flood runs out
/// of ports.
fn connect_from(server: SocketAddr, source: usize, connections: usize) -> Vec<TcpStream> {
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2 + source as u8), 0));
    let dial = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect(&server.into()).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.set_write_timeout(Some(LIMIT)).unwrap();
        TcpStream::from(socket)
    };
    (0..connections).map(dial).collect()
}
