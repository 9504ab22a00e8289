// SPDX-License-Identifier: MIT OR Apache-2.0
//! SIGTERM while twenty clients call: the server answers every request that it had received,
//! truncates no response, and exits with status 0.
//!
//! A request counts as received once the client's write has returned: on the loopback, it is then
//! in the server's receive queue. Half of the clients keep their connection, half open a new one
//! for each call, so the signal also meets connections in the accept queue. `HOSTILE_ROUNDS` sets
//! the number of rounds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::scene::Scene;
use crate::support::{LIMIT, Server, frame, payload, signal, wait, within_limit};
use crate::victim::narrow;

const CLIENTS: usize = 20;

/// Minimum number of calls before the signal.
const CALLS: usize = 100;

/// The batches in turn: number of requests and bytes of each.
const BATCHES: [(usize, usize); 6] = [
    (1, 1),
    (16, 100),
    (64, 1000),
    (5, 20_000),
    (1, 64 << 10),
    (1, 300_000),
];

/// The batch of clients with a small receive buffer: more than the kernel takes from the server.
const LARGE: (usize, usize) = (1, 4_190_000);

/// A batch without complete responses.
struct Unanswered {
    /// When the last byte of the batch had been written.
    written: Instant,
    /// Whether a response was truncated.
    cut: bool,
}

/// The counts over all rounds so far.
#[derive(Default)]
struct RoundCounts {
    answered: usize,
    under_way: usize,
    lost: usize,
    cut: usize,
    unclean: usize,
    slowest: Duration,
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn sigterm() {
    let asked = std::env::var("HOSTILE_ROUNDS");
    let rounds = asked.map_or(200, |asked| asked.parse().unwrap());
    let scene = Scene::begin(
        "SIGTERM under load",
        "0 answers cut, 0 requests lost, status 0",
    );
    let mut counts = RoundCounts::default();
    for round in 0..rounds {
        if round % 20 == 0 {
            scene.progress(format!("{round} signals"));
        }
        end_one(round, &mut counts);
    }
    let RoundCounts {
        answered,
        under_way,
        lost,
        cut,
        unclean,
        slowest,
    } = counts;
    let measured = format!(
        "{rounds} signals, {answered} batches answered, {under_way} of them under way: {cut} cut, {lost} lost, {unclean} other statuses, gone within {slowest:.1?}"
    );
    scene.judge(measured, cut + lost + unclean == 0);
}

/// Starts a server, lets clients call it, ends it, and counts the results.
fn end_one(round: usize, counts: &mut RoundCounts) {
    let mut server = Server::start_as("rpc");
    let addr = server.addr;
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| {
            let answered = Arc::clone(&answered);
            thread::spawn(move || Client::new(addr, index, answered).call_until_the_end())
        })
        .collect();
    assert!(within_limit(|| answered.load(Ordering::SeqCst) >= CALLS));
    // At a different moment in each round.
    thread::sleep(Duration::from_micros((round * 397 % 5000) as u64));
    let before = answered.load(Ordering::SeqCst);
    let signalled = Instant::now();
    signal(&server.process, Signal::TERM);
    counts.unclean += usize::from(wait(&mut server.process).code() != Some(0));
    counts.slowest = counts.slowest.max(signalled.elapsed());
    for client in clients {
        for batch in client.join().unwrap() {
            counts.cut += usize::from(batch.cut);
            counts.lost += usize::from(batch.written < signalled);
        }
    }
    let all = answered.load(Ordering::SeqCst);
    counts.answered += all;
    counts.under_way += all - before;
}

/// A client that calls until the server is gone.
struct Client {
    addr: SocketAddr,
    index: usize,
    calls: usize,
    is_narrow: bool,
    answered: Arc<AtomicUsize>,
}

impl Client {
    fn new(addr: SocketAddr, index: usize, answered: Arc<AtomicUsize>) -> Self {
        Self {
            addr,
            index,
            calls: index,
            is_narrow: index % 5 == 1,
            answered,
        }
    }

    /// Runs the client and returns the batches without complete responses.
    fn call_until_the_end(mut self) -> Vec<Unanswered> {
        let mut unanswered = Vec::new();
        let anew = self.index.is_multiple_of(2);
        while let Some(mut stream) = self.connect() {
            loop {
                match self.call(&mut stream) {
                    Ok(()) if anew => break,
                    Ok(()) => {}
                    Err(batch) => {
                        unanswered.extend(batch);
                        break;
                    }
                }
            }
            if !anew {
                break;
            }
        }
        unanswered
    }

    /// Connects; some clients have a small receive buffer. `None` if there is no listener any more.
    fn connect(&self) -> Option<TcpStream> {
        if self.is_narrow {
            return narrow(self.addr, 16 << 10).ok();
        }
        let stream = TcpStream::connect(self.addr).ok()?;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Some(stream)
    }

    /// Sends a batch and reads the responses. A batch that could not be sent in full does not
    /// count.
    fn call(&mut self, stream: &mut TcpStream) -> Result<(), Option<Unanswered>> {
        let (count, size) = match self.is_narrow {
            true => LARGE,
            false => BATCHES[self.calls % BATCHES.len()],
        };
        self.calls += 1;
        let request = frame(&payload(size));
        if stream.write_all(&request.repeat(count)).is_err() {
            return Err(None);
        }
        let written = Instant::now();
        let mut answer = vec![0; request.len()];
        for _ in 0..count {
            let mut came = 0;
            while came < answer.len() {
                match stream.read(&mut answer[came..]) {
                    Ok(0) | Err(_) => {
                        let cut = came > 0;
                        return Err(Some(Unanswered { written, cut }));
                    }
                    Ok(count) => came += count,
                }
            }
            assert!(answer == request, "the response differs from the request");
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}
