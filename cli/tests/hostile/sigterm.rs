// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that is told to go while twenty clients call: whatever it had received before is
//! answered, no answer ends in its middle, and it goes with status 0.
//!
//! A request is received when the client's write has returned: on loopback the kernel has it in the
//! server's queue then. Half of the clients keep their connection, half come anew for each call, so
//! the signal also meets connections that nobody has accepted yet. `HOSTILE_ROUNDS` says how often.

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

/// How often clients have called when the signal comes, at least.
const CALLS: usize = 100;

/// What they ask for: so many requests of so many bytes at once.
const BATCHES: [(usize, usize); 6] = [
    (1, 1),
    (16, 100),
    (64, 1000),
    (5, 20_000),
    (1, 64 << 10),
    (1, 300_000),
];

/// What those ask for who have little room for answers: more than the kernel takes from the server.
const LARGE: (usize, usize) = (1, 4_190_000);

/// A batch that was not answered whole.
struct Unanswered {
    /// When all of it had been written.
    written: Instant,
    /// Whether the first byte of an answer came and not the last.
    cut: bool,
}

/// What came of the rounds so far.
#[derive(Default)]
struct Tally {
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
    let mut tally = Tally::default();
    for round in 0..rounds {
        if round % 20 == 0 {
            scene.progress(format!("{round} signals"));
        }
        end_one(round, &mut tally);
    }
    let Tally {
        answered,
        under_way,
        lost,
        cut,
        unclean,
        slowest,
    } = tally;
    let measured = format!(
        "{rounds} signals, {answered} batches answered, {under_way} of them under way: {cut} cut, {lost} lost, {unclean} other statuses, gone within {slowest:.1?}"
    );
    scene.judge(measured, cut + lost + unclean == 0);
}

/// Starts a server, has clients call it, ends it, and counts what came of that.
fn end_one(round: usize, tally: &mut Tally) {
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
    // Not always at the same moment.
    thread::sleep(Duration::from_micros((round * 397 % 5000) as u64));
    let before = answered.load(Ordering::SeqCst);
    let told = Instant::now();
    signal(&server.process, Signal::TERM);
    tally.unclean += usize::from(wait(&mut server.process).code() != Some(0));
    tally.slowest = tally.slowest.max(told.elapsed());
    for client in clients {
        for batch in client.join().unwrap() {
            tally.cut += usize::from(batch.cut);
            tally.lost += usize::from(batch.written < told);
        }
    }
    let all = answered.load(Ordering::SeqCst);
    tally.answered += all;
    tally.under_way += all - before;
}

/// One client, which calls until there is no server any more.
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

    /// Says which batches had no answer, or not all.
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

    /// A connection; some have little room for answers. `None` if nobody listens any more.
    fn connect(&self) -> Option<TcpStream> {
        if self.is_narrow {
            return narrow(self.addr, 16 << 10).ok();
        }
        let stream = TcpStream::connect(self.addr).ok()?;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Some(stream)
    }

    /// Sends a batch and reads the answers. What could not be sent whole is no batch.
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
            assert!(answer == request, "another answer than was asked for");
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}
