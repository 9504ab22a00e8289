// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that end their stream behind their last request and then want all answers: the end of the
//! input comes together with data, long before the answers are out, or while a window is shut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use socket2::SockRef;

use crate::scene::Scene;
use crate::support::{Server, frame, payload};
use crate::victim::narrow;

const SIZES: [usize; 8] = [1, 100, 4092, 4097, 64 << 10, 100_000, 1 << 20, 3 << 20];
const REQUESTS: [usize; 4] = [1, 2, 7, 64];

/// How the end comes.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// When it comes.
    Plain,
    /// In one segment with the last data.
    Corked,
    /// To a server whose answers nobody has room for.
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
            for manner in [Manner::Plain, Manner::Corked, Manner::Narrow] {
                for server in &servers {
                    let (all, missing) = converse(server, size, requests, manner);
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

/// Sends so many requests and the end, and reads to the end. Says how many bytes were due, and how
/// many of them did not come or were others.
fn converse(server: &Server, size: usize, requests: usize, manner: Manner) -> (usize, usize) {
    let mut stream = match manner {
        Manner::Narrow => narrow(server.addr, 16 << 10).unwrap(),
        Manner::Plain | Manner::Corked => server.connect(),
    };
    let request = frame(&payload(size));
    let due = request.len() * requests;
    let sending = send_aside(&stream, request.clone(), requests, manner);
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

/// Sends on a thread of its own: the server answers before it has read all.
fn send_aside(
    stream: &TcpStream,
    request: Vec<u8>,
    requests: usize,
    manner: Manner,
) -> thread::JoinHandle<()> {
    let mut stream = stream.try_clone().unwrap();
    thread::spawn(move || {
        let corked = matches!(manner, Manner::Corked);
        SockRef::from(&stream).set_tcp_cork(corked).unwrap();
        for _ in 0..requests {
            // A server that has gone is seen by who reads.
            stream.write_all(&request).ok();
        }
        stream.shutdown(Shutdown::Write).ok();
    })
}

/// Reads until `room` is full or nothing more comes.
fn read_up_to(stream: &mut TcpStream, room: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < room.len() {
        match stream.read(&mut room[filled..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    filled
}
