// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wrong lengths: 4 GiB, above the limit, and 4 MiB, within the limit, of which the bytes never
//! arrive. In between, garbage after a valid request, whose response must still arrive, and resets
//! in the middle of a frame.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::scene::Scene;
use crate::support::{Server, frame, payload};
use crate::victim::{Memory, call, narrow, reset, until_ended};

/// Number of lengths, half of each kind.
const LENGTHS: usize = 3000;

/// The framework's default frame limit in bytes.
const ALLOWED: u32 = 4 << 20;

/// Limit of the time to reject a length above the frame limit.
const REJECTION: Duration = Duration::from_secs(1);

/// Limit of the additional memory of all connections in bytes.
const MEMORY: u64 = 16_000_000;

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn lengths() {
    let scene = Scene::begin(
        "lengths that lie",
        "rejected within 1 s, no answer lost, at most 16 MB more for all",
    );
    let server = Server::start_as("rpc --pollers 1 --first-byte-timeout 60s");
    let mut good = server.connect();
    for size in [100, 64 << 10] {
        for _ in 0..100 {
            call(&mut good, &payload(size));
        }
    }
    let before = Memory::of(&server);
    let (mut held, mut slowest, mut most) = (Vec::new(), Duration::ZERO, 0);
    let mut lost = 0;
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    for index in 0..LENGTHS {
        let mut peer = server.connect();
        if index % 2 == 0 {
            peer.write_all(&u32::MAX.to_be_bytes()).unwrap();
            slowest = slowest.max(until_ended(&mut peer));
        } else {
            peer.write_all(&ALLOWED.to_be_bytes()).unwrap();
            held.push(peer);
            // A later request is answered, so the handler has read the length and waits for the
            // payload. The next byte must not make it allocate the claimed size.
            call(&mut server.connect(), b"behind");
            held.last_mut().unwrap().write_all(&[1]).unwrap();
        }
        match index % 4 {
            0 => match garbage(&server, &mut noise) {
                Some(rejected) => slowest = slowest.max(rejected),
                None => lost += 1,
            },
            1 => reset_within_a_frame(&server, &mut noise),
            _ => {}
        }
        if index % 100 == 0 {
            call(&mut good, &payload(100));
            most = Memory::of(&server).more_than(before).max(most);
            scene.progress(format!("{index} lengths, {} KiB more", most >> 10));
        }
    }
    call(&mut good, b"all have been read");
    most = Memory::of(&server).more_than(before).max(most);
    let measured = format!(
        "{LENGTHS} lengths, {} of them held at once: rejected within {slowest:.1?}, {lost} answers lost, {:.1} MB more",
        held.len(),
        most as f64 / 1e6
    );
    scene.judge(
        measured,
        slowest <= REJECTION && lost == 0 && most <= MEMORY,
    );
}

/// Sends a large valid request and then garbage that begins with a length above the limit. Returns
/// the time from the response to the end of the connection; `None` if the response did not arrive.
/// A server that closes with unread input sends a reset, and bytes still in flight to a narrow
/// client are lost.
fn garbage(server: &Server, noise: &mut Noise) -> Option<Duration> {
    let mut stream = narrow(server.addr, 16 << 10).unwrap();
    let request = frame(&payload(300_000));
    let mut bytes = noise.bytes(200_000);
    bytes[0] |= 1;
    let (mut aside, whole) = (
        stream.try_clone().unwrap(),
        [request.clone(), bytes].concat(),
    );
    let sending = thread::spawn(move || {
        // A server that has closed does not take all of it.
        aside.write_all(&whole).ok();
    });
    let mut answer = vec![0; request.len()];
    let answered = stream.read_exact(&mut answer).is_ok() && answer == request;
    let rejected = answered.then(|| until_ended(&mut stream));
    drop(stream);
    sending.join().unwrap();
    rejected
}

/// Sends the length of an allowed frame and a part of the frame, and resets.
fn reset_within_a_frame(server: &Server, noise: &mut Noise) {
    let mut stream: TcpStream = server.connect();
    stream.write_all(&ALLOWED.to_be_bytes()).unwrap();
    stream.write_all(&noise.bytes(20_000)).unwrap();
    reset(stream);
}

/// Pseudo-random bytes, the same in each run.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 32) as u8
        };
        (0..count).map(|_| next()).collect()
    }
}
