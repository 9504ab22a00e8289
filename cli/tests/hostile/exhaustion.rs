// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thousand dials for a server of 64 descriptors: how often it tries to accept in vain, what waiting
//! costs it, whether the connections that it holds are served, and how soon others are once there are
//! descriptors.
//!
//! The tries are counted, by the server's own statistics: a pause that is much too short costs little
//! of a processor and would not be noticed by the processor time alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ChildStderr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::scene::Scene;
use crate::support::{Server, frame};
use crate::victim::{Share, answered, call, time_until};

/// How many descriptors it has.
const FEW: u64 = 64;

/// And later.
const MANY: u64 = 2048;

const DIALS: usize = 1000;

/// How many of those that are in leave first.
const LEAVE: usize = 10;

/// How long it has for those it can take, and how long it is left exhausted.
const SETTLE: Duration = Duration::from_secs(1);
const EXHAUSTED: Duration = Duration::from_secs(4);

/// The most of a core, in hundredths.
const SHARE: f64 = 5.0;

/// How often the server may try to accept a connection that it has no room for, in [`SETTLE`] and
/// [`EXHAUSTED`] together. Its pauses double from 10 ms to 1 s, so it tries 11 times; one that tries
/// each millisecond does so 5,000 times.
const VAIN: u64 = 40;

/// How often the server prints what it has counted.
const PRINTS: Duration = Duration::from_millis(200);

/// The longest without service when there are descriptors.
const BACK: Duration = Duration::from_secs(1);

/// What came of one server.
struct Outcome {
    share: f64,
    /// How often it tried to accept in vain.
    vain: u64,
    /// How long the calls of those who are in took, in order.
    calls: Vec<Duration>,
    /// When somebody has left, when others have, and when all have.
    back: [Option<Duration>; 3],
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn exhaustion() {
    let scene = Scene::begin(
        "exhaustion",
        "40 accepts in vain, 5 % of a core, who is in answered within 1 s, service back within 1 s",
    );
    scene.progress("out of descriptors");
    let out = exhausted(None);
    scene.progress("full");
    let full = exhausted(Some(50));
    let calls = || [&out.calls, &full.calls].into_iter();
    let p99 = calls().map(|calls| calls[calls.len() * 99 / 100]).max();
    let p99 = p99.unwrap();
    let slowest = calls().map(|calls| calls[calls.len() - 1]).max().unwrap();
    let share = out.share.max(full.share);
    let vain = out.vain.max(full.vain);
    let all = || out.back.iter().chain(&full.back).flatten();
    let times: Vec<String> = all().map(|time| format!("{time:.1?}")).collect();
    let measured = format!(
        "{} and {} accepts in vain, {share:.2} % of a core, answers p99 {p99:.1?}, slowest {slowest:.1?}, service back after {}",
        out.vain,
        full.vain,
        times.join(", ")
    );
    let back = all().all(|time| *time <= BACK);
    // Without a single one the server was not exhausted, or its statistics do not say so.
    let tries = out.vain > 0 && full.vain > 0 && vain <= VAIN;
    scene.judge(measured, tries && share <= SHARE && back && p99 <= BACK);
}

/// Exhausts a server that runs out of descriptors, or that is full with `most` connections.
fn exhausted(most: Option<usize>) -> Outcome {
    let flag = most.map_or(String::new(), |most| format!(" --max-connections {most}"));
    let mut server = Server::start_as(&format!("rpc{flag} --stats {PRINTS:?}"));
    let tries = Tries::of(server.process.stderr.take().unwrap());
    limit(&server, FEW);
    let mut streams: Vec<TcpStream> = (0..DIALS).map(|_| dial(&server)).collect();
    sleep(SETTLE);
    // The queue of the kernel is one of its own: who is first is in.
    let mut queued = streams.split_off(answered(&streams));
    assert!(streams.len() >= 2 * LEAVE, "{} are in", streams.len());
    assert_eq!(answered(&queued), 0, "in the order of the queue");
    let (share, calls) = wait_exhausted(&server, &mut streams);
    let vain = tries.so_far();

    streams.truncate(streams.len() - LEAVE);
    let some_left = time_until(|| answered(&queued) >= LEAVE);
    streams.extend(queued.drain(..LEAVE));
    let others_left = most.is_none().then(|| {
        // The pauses between two tries double from 10 ms: this one has just become a second.
        sleep(Duration::from_millis(1350));
        limit(&server, MANY);
        time_until(|| answered(&queued) > 0)
    });
    drop(queued);
    drop(streams);
    let began = Instant::now();
    call(&mut server.connect(), b"back again");
    let all_left = began.elapsed();
    Outcome {
        share,
        vain,
        calls,
        back: [Some(some_left), others_left, Some(all_left)],
    }
}

/// The tries to accept in vain that a server prints: accepts that failed, and pauses at its limit.
struct Tries(Arc<AtomicU64>);

impl Tries {
    /// Counts them until the server ends.
    fn of(stderr: ChildStderr) -> Self {
        let counted = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&counted);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let count = ["failed accepts ", "accept pauses "].map(|what| {
                    let (_, behind) = line.split_once(what)?;
                    behind.split([',', ' ']).next()?.parse::<u64>().ok()
                });
                counts.fetch_add(count.into_iter().flatten().sum(), Ordering::SeqCst);
            }
        });
        Self(counted)
    }

    /// Those until now, but for what has not been printed yet.
    fn so_far(&self) -> u64 {
        sleep(2 * PRINTS);
        self.0.load(Ordering::SeqCst)
    }
}

/// Gives a server so many descriptors.
fn limit(server: &Server, descriptors: u64) {
    let limit = Rlimit {
        current: Some(descriptors),
        maximum: Some(MANY),
    };
    let process = Pid::from_child(&server.process);
    prlimit(Some(process), Resource::Nofile, limit).unwrap();
}

/// A connection that has called and does not block.
fn dial(server: &Server) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(&frame(b"let me in")).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Leaves a server exhausted while those who are in go on calling. Says what share of a core it
/// took, and how long the calls took, in order.
fn wait_exhausted(server: &Server, inside: &mut [TcpStream]) -> (f64, Vec<Duration>) {
    for stream in inside.iter_mut() {
        stream.set_nonblocking(false).unwrap();
        let mut answer = frame(b"let me in");
        stream.read_exact(&mut answer).unwrap();
    }
    let share = Share::of(server);
    let (began, mut calls) = (Instant::now(), Vec::new());
    while began.elapsed() < EXHAUSTED {
        calls.extend(inside.iter_mut().map(|stream| call(stream, b"still in")));
        sleep(Duration::from_millis(100));
    }
    calls.sort_unstable();
    (share.percent(), calls)
}
