// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that connect and stay silent, and peers that send a frame byte by byte. The server must
//! close each at its timeout, and well-behaved clients must not be slowed down.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use netpoll_sys::{Epoll, Events, Interest};

use crate::scene::Scene;
use crate::support::{LIMIT, Server, finish, frame, netpoll};

const SILENT: usize = 1000;
const DRIPPING: usize = 500;

/// Interval between two bytes of a dripping peer.
const DRIP: Duration = Duration::from_millis(250);

/// Payload length in its frame header: far more than it sends.
const CLAIMED: usize = 4096;

/// The timeouts of the server.
const FIRST_BYTE: Duration = Duration::from_secs(2);
const READ: Duration = Duration::from_secs(3);

/// Allowed delay of a close: this fraction of the timeout.
const LATE: u32 = 20;

/// The load of well-behaved clients and its duration.
const GOOD: &str = "--connections 20 --size 256 --rate 2000 --warm-up 500ms --json";
const MEASURED: Duration = Duration::from_secs(4);

/// Limit of the ratio of their p99 during the attack to their p99 before.
const SLOWER: f64 = 2.0;

/// A p99 in microseconds that is always acceptable: below it, other work of the machine decides.
const QUICK: f64 = 5_000.0;

/// A p99 in microseconds before the attack above which the machine is busy and the measurement
/// unreliable.
const BUSY: f64 = 10_000.0;

/// Maximum number of attempts until the machine is quiet enough.
const TRIES: usize = 3;

/// A slow peer.
struct Slow {
    stream: TcpStream,
    began: Instant,
    patience: Duration,
    /// Time until the server closed it.
    lived: Option<Duration>,
}

impl Slow {
    /// Connects and sends `begins_with`: nothing, or the start of a frame.
    fn new(server: &Server, begins_with: &[u8], patience: Duration) -> Self {
        // Taken before the connect, so that no close appears early.
        let began = Instant::now();
        let mut stream = server.connect();
        stream.write_all(begins_with).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self {
            stream,
            began,
            patience,
            lived: None,
        }
    }

    /// Records the end of the connection, if it has ended.
    fn check_end(&mut self) {
        let mut byte = [0];
        if self.lived.is_none() && self.stream.read(&mut byte).is_ok_and(|count| count == 0) {
            self.lived = Some(self.began.elapsed());
        }
    }

    /// Returns the delay of its end after its timeout.
    fn lateness(&self) -> Duration {
        self.lived.unwrap_or(LIMIT).saturating_sub(self.patience)
    }

    /// Returns whether it was closed on time, neither early nor late. If the machine delayed this
    /// thread by `held_up`, the server may have been delayed as much.
    fn was_evicted_on_time(&self, held_up: Duration) -> bool {
        let lived = self.lived.unwrap_or(LIMIT);
        // A tick of the server's clock and of ours.
        let early = lived + Duration::from_millis(2) < self.patience;
        !early && self.lateness() <= self.patience / LATE + held_up
    }
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn slow_peers() {
    let scene = Scene::begin(
        "slow peers",
        "all evicted within 5 % of 2 s and 3 s and what the machine was late, p99 at most 2 x",
    );
    let times = format!("--first-byte-timeout {FIRST_BYTE:?} --read-timeout {READ:?}");
    let server = Server::start_as(&format!("rpc {times}"));
    let mut tries = 0;
    loop {
        tries += 1;
        let before = p99(good_clients(&server));
        let clients = good_clients(&server);
        sleep(Duration::from_millis(700));
        let (slow, held_up) = attack(&server);
        let during = p99(clients);
        let on_time = slow
            .iter()
            .filter(|slow| slow.was_evicted_on_time(held_up))
            .count();
        let latest = slow.iter().map(Slow::lateness).max().unwrap();
        let note = if before > BUSY {
            " (a busy machine)"
        } else {
            ""
        };
        let measured = format!(
            "{on_time} of {} evicted on time, the last {latest:.1?} late, the machine {held_up:.1?}; p99 {before:.0} us before, {during:.0} us during: {:.2} x{note}",
            slow.len(),
            during / before
        );
        let evicted = on_time == slow.len();
        let served = during <= SLOWER * before.max(QUICK);
        if (evicted && served) || tries == TRIES {
            scene.judge(measured, evicted && served);
            return;
        }
        scene.progress(measured);
    }
}

/// Connects the slow peers and drips until all have ended or should have. Also returns the largest
/// delay of this thread, which wakes each millisecond.
fn attack(server: &Server) -> (Vec<Slow>, Duration) {
    let mut slow: Vec<Slow> = (0..SILENT)
        .map(|_| Slow::new(server, b"", FIRST_BYTE))
        .collect();
    let begins_with = &frame(&[0; CLAIMED])[..5];
    slow.extend((0..DRIPPING).map(|_| Slow::new(server, begins_with, READ)));
    let epoll = Epoll::new().unwrap();
    for (index, one) in slow.iter().enumerate() {
        let fd = one.stream.as_fd();
        epoll.add(fd, index as u64, Interest::READABLE).unwrap();
    }
    let (began, mut dripped) = (Instant::now(), 0);
    let (mut looked, mut held_up) = (began, Duration::ZERO);
    let mut events = Events::with_capacity(SILENT + DRIPPING);
    while began.elapsed() < READ + READ / 4 {
        held_up = held_up.max(looked.elapsed());
        looked = Instant::now();
        let count = epoll
            .wait(&mut events, Some(Duration::from_millis(1)))
            .unwrap();
        for (index, _) in (0..count).filter_map(|index| events.get(index)) {
            let one = &mut slow[index as usize];
            one.check_end();
            if one.lived.is_some() {
                epoll.delete(one.stream.as_fd()).unwrap();
            }
        }
        // Spread evenly over the interval.
        let due = began.elapsed().as_micros() * DRIPPING as u128 / DRIP.as_micros();
        for index in dripped..due as usize {
            let one = &mut slow[SILENT + index % DRIPPING];
            // The connection may have ended.
            one.stream.write_all(b".").ok();
        }
        dripped = due as usize;
    }
    (slow, held_up)
}

/// Starts the load of well-behaved clients.
fn good_clients(server: &Server) -> Child {
    let line = format!("load rpc --addr {} {GOOD}", server.addr);
    netpoll(&format!("{line} --duration {}ms", MEASURED.as_millis()))
        .spawn()
        .unwrap()
}

/// Returns the p99 of their calls in microseconds; infinite if a call failed.
fn p99(clients: Child) -> f64 {
    let finished = finish(clients);
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
    if finished.status != 0 || report["errors"] != 0 {
        return f64::INFINITY;
    }
    report["p99_us"].as_f64().unwrap()
}
