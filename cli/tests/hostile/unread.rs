// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that send as much as possible and never read a response. Measures the memory that each of
//! them costs, whether it grows, and whether the server closes them at the write timeout.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::scene::Scene;
use crate::support::{Server, frame, payload};
use crate::victim::{Memory, call, narrow, time_until, write_some};

const PEERS: usize = 50;

/// Payload sizes of the frames.
const SIZES: [usize; 3] = [100, 4 << 10, 64 << 10];

/// The pipeline counts as full after this time without a successful write; the attack then
/// continues for `HOLD_TIME`.
const QUIET: Duration = Duration::from_millis(500);
const HOLD_TIME: Duration = Duration::from_secs(2);

/// The time after which the pipeline counts as full although writes still succeed.
const ENDLESS: Duration = Duration::from_secs(20);

/// The write timeout. A part of it has passed when the pipeline is full; a quarter more is on time.
const WRITE: Duration = Duration::from_secs(6);

/// Limit of the memory for each peer in bytes.
const EACH: u64 = 512 << 10;

/// Limit of the growth of all peers together once the pipeline is full, in bytes.
const FLAT: u64 = 1 << 20;

/// The results for frames of one size.
struct SizeResult {
    each: u64,
    growth: u64,
    gone: Duration,
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn unread_answers() {
    let scene = Scene::begin(
        "unread answers",
        "512 KiB each, 1 MiB more for all once full, gone at the write timeout",
    );
    let mut worst = SizeResult {
        each: 0,
        growth: 0,
        gone: Duration::ZERO,
    };
    for size in SIZES {
        let result = unread(size);
        scene.progress(format!(
            "frames of {size} B: {} KiB each",
            result.each >> 10
        ));
        worst.each = worst.each.max(result.each);
        worst.growth = worst.growth.max(result.growth);
        worst.gone = worst.gone.max(result.gone);
    }
    let measured = format!(
        "{} KiB each, {} KiB more for all in {:?}, gone after {:.1?} of {WRITE:?}",
        worst.each >> 10,
        worst.growth >> 10,
        HOLD_TIME,
        worst.gone
    );
    let holds = worst.each <= EACH && worst.growth <= FLAT && worst.gone <= WRITE + WRITE / 4;
    scene.judge(measured, holds);
}

fn unread(size: usize) -> SizeResult {
    let server = Server::start_as(&format!("rpc --write-timeout {WRITE:?}"));
    let mut good = server.connect();
    for _ in 0..100 {
        call(&mut good, &payload(size));
    }
    let (descriptors, before) = (server.descriptors(), Memory::of(&server));
    let mut peers: Vec<TcpStream> = (0..PEERS)
        .map(|_| narrow(server.addr, 64 << 10).unwrap())
        .collect();
    for peer in &peers {
        peer.set_nonblocking(true).unwrap();
    }
    // Writes may end inside a frame; the next write continues at that offset.
    let frames = frame(&payload(size)).repeat((256 << 10) / size);
    let mut sent = [0; PEERS];
    let began = Instant::now();
    let (mut most, mut last) = (0, began);
    let mut full: Option<(Instant, u64)> = None;
    while full.is_none_or(|(since, _)| since.elapsed() < HOLD_TIME) {
        for (peer, sent) in peers.iter_mut().zip(&mut sent) {
            let taken = write_some(peer, &frames[*sent % frames.len()..]).expect("still open");
            *sent += taken;
            if taken > 0 {
                last = Instant::now();
            }
        }
        let held = Memory::of(&server).more_than(before);
        most = held.max(most);
        if last.elapsed() >= QUIET || began.elapsed() >= ENDLESS {
            full.get_or_insert((Instant::now(), held));
        }
        call(&mut good, &payload(size));
    }
    let (filled, held) = full.expect("the loop ends when it is");
    assert!(sent.iter().all(|sent| *sent > 256 << 10), "all were read");
    time_until(|| server.descriptors() <= descriptors);
    SizeResult {
        each: most / PEERS as u64,
        growth: most.saturating_sub(held),
        gone: filled.elapsed(),
    }
}
