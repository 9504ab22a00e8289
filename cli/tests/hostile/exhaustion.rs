// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thousand connects to a server with 64 descriptors. Measures how often the server tries to
//! accept in vain, the cost of waiting, the service of accepted connections, and the time until
//! service resumes once descriptors are free.
//!
//! The server's own statistics count the tries: a pause that is much too short costs so little
//! processor time that the processor time alone would not show it.

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

/// Descriptors of the server at first.
const FEW: u64 = 64;

/// Descriptors of the server later.
const MANY: u64 = 2048;

const DIALS: usize = 1000;

/// Accepted connections that close first.
const FIRST_TO_CLOSE: usize = 10;

/// The time for the server to accept what it can, and the time for which it stays exhausted.
const SETTLE: Duration = Duration::from_secs(1);
const EXHAUSTED: Duration = Duration::from_secs(4);

/// Limit of the processor time in percent of a core.
const SHARE: f64 = 5.0;

/// Limit of the failed tries to accept in [`SETTLE`] and [`EXHAUSTED`] together. The pauses double
/// from 10 ms to 1 s, so the server tries 11 times; one that tries each millisecond does so 5,000
/// times.
const VAIN: u64 = 40;

/// The interval of the server's statistics.
const PRINTS: Duration = Duration::from_millis(200);

/// Limit of the time until service resumes once descriptors are free.
const BACK: Duration = Duration::from_secs(1);

/// The results of one server.
struct ServerResult {
    share: f64,
    /// FailedAccepts to accept in vain.
    vain: u64,
    /// Times of the calls on accepted connections, sorted.
    calls: Vec<Duration>,
    /// Time until service resumes after some connections have closed, after the descriptor limit
    /// was raised, and after all have closed.
    back: [Option<Duration>; 3],
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn exhaustion() {
    let scene = Scene::begin(
        "exhaustion",
        "40 accepts in vain, 5 % of a core, accepted connections answered within 1 s, service back within 1 s",
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
    // Without a single failed try, the server was not exhausted, or its statistics are wrong.
    let tries = out.vain > 0 && full.vain > 0 && vain <= VAIN;
    scene.judge(measured, tries && share <= SHARE && back && p99 <= BACK);
}

/// Exhausts a server that runs out of descriptors, or one with a limit of `most` connections.
fn exhausted(most: Option<usize>) -> ServerResult {
    let flag = most.map_or(String::new(), |most| format!(" --max-connections {most}"));
    let mut server = Server::start_as(&format!("rpc{flag} --stats {PRINTS:?}"));
    let tries = FailedAccepts::of(server.process.stderr.take().unwrap());
    limit(&server, FEW);
    let mut streams: Vec<TcpStream> = (0..DIALS).map(|_| dial(&server)).collect();
    sleep(SETTLE);
    // The kernel's queue is first in, first out: the first connections are accepted.
    let mut queued = streams.split_off(answered(&streams));
    assert!(
        streams.len() >= 2 * FIRST_TO_CLOSE,
        "{} accepted",
        streams.len()
    );
    assert_eq!(answered(&queued), 0, "in the order of the queue");
    let (share, calls) = wait_exhausted(&server, &mut streams);
    let vain = tries.so_far();

    streams.truncate(streams.len() - FIRST_TO_CLOSE);
    let some_left = time_until(|| answered(&queued) >= FIRST_TO_CLOSE);
    streams.extend(queued.drain(..FIRST_TO_CLOSE));
    let others_left = most.is_none().then(|| {
        // The pauses between tries double from 10 ms; by now, a pause of one second has begun.
        sleep(Duration::from_millis(1350));
        limit(&server, MANY);
        time_until(|| answered(&queued) > 0)
    });
    drop(queued);
    drop(streams);
    let began = Instant::now();
    call(&mut server.connect(), b"back again");
    let all_left = began.elapsed();
    ServerResult {
        share,
        vain,
        calls,
        back: [Some(some_left), others_left, Some(all_left)],
    }
}

/// Counts the failed tries to accept in the server's statistics: failed accepts and pauses at its
/// limit.
struct FailedAccepts(Arc<AtomicU64>);

impl FailedAccepts {
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

    /// Returns the count so far, without what has not been printed yet.
    fn so_far(&self) -> u64 {
        sleep(2 * PRINTS);
        self.0.load(Ordering::SeqCst)
    }
}

/// Sets the descriptor limit of a server.
fn limit(server: &Server, descriptors: u64) {
    let limit = Rlimit {
        current: Some(descriptors),
        maximum: Some(MANY),
    };
    let process = Pid::from_child(&server.process);
    prlimit(Some(process), Resource::Nofile, limit).unwrap();
}

/// Returns a non-blocking connection that has sent a request.
fn dial(server: &Server) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(&frame(b"let me in")).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Keeps a server exhausted while the accepted connections continue to call. Returns its processor
/// time in percent of a core, and the sorted times of the calls.
fn wait_exhausted(server: &Server, accepted: &mut [TcpStream]) -> (f64, Vec<Duration>) {
    for stream in accepted.iter_mut() {
        stream.set_nonblocking(false).unwrap();
        let mut answer = frame(b"let me in");
        stream.read_exact(&mut answer).unwrap();
    }
    let share = Share::of(server);
    let (began, mut calls) = (Instant::now(), Vec::new());
    while began.elapsed() < EXHAUSTED {
        calls.extend(accepted.iter_mut().map(|stream| call(stream, b"still in")));
        sleep(Duration::from_millis(100));
    }
    calls.sort_unstable();
    (share.percent(), calls)
}
