// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that half-close after their last request and then read all responses. The FIN arrives
//! together with data, long before the responses are sent, or while the receive window is closed.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use socket2::SockRef;

use crate::scene::Scene;
use crate::support::{Server, frame, payload};
use crate::victim::narrow;

const SIZES: [usize; 8] = [1, 100, 4092, 4097, 64 << 10, 100_000, 1 << 20, 3 << 20];
const REQUESTS: [usize; 4] = [1, 2, 7, 64];

/// How the FIN is sent.
#[derive(Clone, Copy, Debug)]
enum FinMode {
    /// After the last write.
    Plain,
    /// In one segment with the last data.
    Corked,
    /// While the client's receive window has no space for responses.
    Narrow,
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn half_close() {
    let scene = Scene::begin("half-closed conversations", "0 B lost");
    let servers = ["rpc", "echo"].map(Server::start_as);
    let (mut conversations, mut bytes, mut lost) = (0, 0, 0);
    for size in SIZES {
        scene.progress(format!("{size} B, {lost} B lost so far"));
        for requests in REQUESTS {
            for mode in [FinMode::Plain, FinMode::Corked, FinMode::Narrow] {
                for server in &servers {
                    let (all, missing) = converse(server, size, requests, mode);
                    conversations += 1;
                    bytes += all;
                    lost += missing;
                }
            }
        }
    }
    let measured = format!(
        "{lost} B lost of {:.1} GB in {conversations} conversations",
        bytes as f64 / 1e9
    );
    scene.judge(measured, lost == 0);
}

/// Sends `requests` requests and the FIN, and reads to the end. Returns the number of expected
/// bytes, and how many of them are missing or wrong.
fn converse(server: &Server, size: usize, requests: usize, mode: FinMode) -> (usize, usize) {
    let mut stream = match mode {
        FinMode::Narrow => narrow(server.addr, 16 << 10).unwrap(),
        FinMode::Plain | FinMode::Corked => server.connect(),
    };
    let request = frame(&payload(size));
    let due = request.len() * requests;
    let sending = send_aside(&stream, request.clone(), requests, mode);
    let mut whole = 0;
    let mut answer = vec![0; request.len()];
    for _ in 0..requests {
        let came = read_up_to(&mut stream, &mut answer);
        if came < answer.len() || answer != request {
            break;
        }
        whole += came;
    }
    let more = read_up_to(&mut stream, &mut [0; 1]);
    assert_eq!(more * usize::from(whole == due), 0, "more than was due");
    sending.join().unwrap();
    (due, due - whole)
}

/// Sends on another thread: the server answers before it has read everything.
fn send_aside(
    stream: &TcpStream,
    request: Vec<u8>,
    requests: usize,
    mode: FinMode,
) -> thread::JoinHandle<()> {
    let mut stream = stream.try_clone().unwrap();
    thread::spawn(move || {
        let corked = matches!(mode, FinMode::Corked);
        SockRef::from(&stream).set_tcp_cork(corked).unwrap();
        for _ in 0..requests {
            // The reader notices a server that is gone.
            stream.write_all(&request).ok();
        }
        stream.shutdown(Shutdown::Write).ok();
    })
}

/// Reads until `buf` is full or the stream ends.
fn read_up_to(stream: &mut TcpStream, buf: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < buf.len() {
        match stream.read(&mut buf[filled..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    filled
}
