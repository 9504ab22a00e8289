// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lengths that lie: four gibibytes, which is above the limit, and four mebibytes, which is not and
//! never comes; between them garbage behind a good request, whose answer has to come all the same,
//! and resets in the middle of a frame.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::scene::Scene;
use crate::support::{Server, frame, payload};
use crate::victim::{Memory, call, narrow, reset, until_ended};

/// How many lengths, half of each kind.
const LENGTHS: usize = 3000;

/// The most that may be asked for, as the framework has it.
const ALLOWED: u32 = 4 << 20;

/// How soon what is above the limit is refused.
const REFUSED: Duration = Duration::from_secs(1);

/// The most memory for all of it.
const MEMORY: u64 = 16_000_000;

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn lengths() {
    let scene = Scene::begin(
        "lengths that lie",
        "refused within 1 s, no answer lost, at most 16 MB more for all",
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
        let mut liar = server.connect();
        if index % 2 == 0 {
            liar.write_all(&u32::MAX.to_be_bytes()).unwrap();
            slowest = slowest.max(until_ended(&mut liar));
        } else {
            liar.write_all(&ALLOWED.to_be_bytes()).unwrap();
            held.push(liar);
            // Whoever is behind it has been read, so it has: the handler waits for the rest, and
            // the byte that comes now may cost what was claimed.
            call(&mut server.connect(), b"behind");
            held.last_mut().unwrap().write_all(&[1]).unwrap();
        }
        match index % 4 {
            0 => match garbage(&server, &mut noise) {
                Some(refused) => slowest = slowest.max(refused),
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
        "{LENGTHS} lengths, {} of them held at once: refused within {slowest:.1?}, {lost} answers lost, {:.1} MB more",
        held.len(),
        most as f64 / 1e6
    );
    scene.judge(measured, slowest <= REFUSED && lost == 0 && most <= MEMORY);
}

/// Sends a large request and behind it much that means nothing, but for its beginning: as a length
/// that is above the limit. Says how long the server took to have enough, once its answer was read;
/// `None` if that did not come. A server that then closes with the rest unread resets, and what is
/// still on its way to a narrow client is lost.
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
        // A server that has had enough need not take all of it.
        aside.write_all(&whole).ok();
    });
    let mut answer = vec![0; request.len()];
    let answered = stream.read_exact(&mut answer).is_ok() && answer == request;
    let refused = answered.then(|| until_ended(&mut stream));
    drop(stream);
    sending.join().unwrap();
    refused
}

/// Claims what is allowed, sends some of it, and resets.
fn reset_within_a_frame(server: &Server, noise: &mut Noise) {
    let mut stream: TcpStream = server.connect();
    stream.write_all(&ALLOWED.to_be_bytes()).unwrap();
    stream.write_all(&noise.bytes(20_000)).unwrap();
    reset(stream);
}

/// Bytes without a pattern, the same in each run.
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
