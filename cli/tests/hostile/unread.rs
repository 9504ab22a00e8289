// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that send as much as they can and never read an answer: what each makes the server hold,
//! whether that grows, and whether they are gone when the time for their output is over.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::scene::Scene;
use crate::support::{Server, frame, payload};
use crate::victim::{Memory, call, narrow, time_until, write_some};

const PEERS: usize = 50;

/// The frames they send.
const SIZES: [usize; 3] = [100, 4 << 10, 64 << 10];

/// How long nobody could send anything when everything is full, and how long they go on then.
const QUIET: Duration = Duration::from_millis(500);
const GO_ON: Duration = Duration::from_secs(2);

/// When that is everything there is to be filled, although they still could.
const ENDLESS: Duration = Duration::from_secs(20);

/// How long output may stay unsent, of which a part is over when everything is full; a quarter more
/// is on time.
const WRITE: Duration = Duration::from_secs(6);

/// The most each may cost.
const EACH: u64 = 512 << 10;

/// The most that all of them may add once everything is full.
const FLAT: u64 = 1 << 20;

/// What came of frames of one size.
struct Outcome {
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
    let mut worst = Outcome {
        each: 0,
        growth: 0,
        gone: Duration::ZERO,
    };
    for size in SIZES {
        let outcome = unread(size);
        scene.progress(format!(
            "frames of {size} B: {} KiB each",
            outcome.each >> 10
        ));
        worst.each = worst.each.max(outcome.each);
        worst.growth = worst.growth.max(outcome.growth);
        worst.gone = worst.gone.max(outcome.gone);
    }
    let measured = format!(
        "{} KiB each, {} KiB more for all in {:?}, gone after {:.1?} of {WRITE:?}",
        worst.each >> 10,
        worst.growth >> 10,
        GO_ON,
        worst.gone
    );
    let holds = worst.each <= EACH && worst.growth <= FLAT && worst.gone <= WRITE + WRITE / 4;
    scene.judge(measured, holds);
}

fn unread(size: usize) -> Outcome {
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
    // Whole frames however they are cut: what is sent next is where the last write ended.
    let frames = frame(&payload(size)).repeat((256 << 10) / size);
    let mut sent = [0; PEERS];
    let began = Instant::now();
    let (mut most, mut last) = (0, began);
    let mut full: Option<(Instant, u64)> = None;
    while full.is_none_or(|(since, _)| since.elapsed() < GO_ON) {
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
    Outcome {
        each: most / PEERS as u64,
        growth: most.saturating_sub(held),
        gone: filled.elapsed(),
    }
}
