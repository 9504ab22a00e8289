// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that connect and say nothing, and peers that drip a frame byte by byte: each is to be gone
//! when its time is over, whatever it drips, and well-behaved clients are not to notice.

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

/// How long there is between two bytes of one that drips.
const DRIP: Duration = Duration::from_millis(250);

/// What it claims to send: far more than it will.
const CLAIMED: usize = 4096;

/// How long the server has patience for.
const FIRST_BYTE: Duration = Duration::from_secs(2);
const READ: Duration = Duration::from_secs(3);

/// How much later than that is on time: a twentieth.
const LATE: u32 = 20;

/// How well-behaved clients call: so often, and measured for so long.
const GOOD: &str = "--connections 20 --size 256 --rate 2000 --warm-up 500ms --json";
const MEASURED: Duration = Duration::from_secs(4);

/// How much longer the slowest hundredth of their calls may take.
const SLOWER: f64 = 2.0;

/// In microseconds, what their slowest hundredth may take in any case: below it, what the machine does
/// beside decides.
const QUICK: f64 = 5_000.0;

/// With more than so many microseconds before, the machine is busy with something else, and what is
/// measured beside it says little.
const BUSY: f64 = 10_000.0;

/// How often it is tried until the machine is quiet enough to tell.
const TRIES: usize = 3;

/// One that is slow.
struct Slow {
    stream: TcpStream,
    began: Instant,
    patience: Duration,
    /// How long it lived.
    lived: Option<Duration>,
}

impl Slow {
    /// One that says nothing, and one that sends what a frame begins with.
    fn new(server: &Server, begins_with: &[u8], patience: Duration) -> Self {
        // Before the server can have begun to wait, so that nothing seems early.
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

    /// Notes its end, if that has come.
    fn look(&mut self) {
        let mut byte = [0];
        if self.lived.is_none() && self.stream.read(&mut byte).is_ok_and(|count| count == 0) {
            self.lived = Some(self.began.elapsed());
        }
    }

    /// How much too late it ended.
    fn lateness(&self) -> Duration {
        self.lived.unwrap_or(LIMIT).saturating_sub(self.patience)
    }

    /// Whether it ended, and neither before its time nor much after. A machine that held up this
    /// thread for as long as `held_up` may have held up the server too.
    fn was_evicted_on_time(&self, held_up: Duration) -> bool {
        let lived = self.lived.unwrap_or(LIMIT);
        // A tick of its clock and of ours.
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
        let remark = if before > BUSY {
            " (a busy machine)"
        } else {
            ""
        };
        let measured = format!(
            "{on_time} of {} evicted on time, the last {latest:.1?} late, the machine {held_up:.1?}; p99 {before:.0} us before, {during:.0} us during: {:.2} x{remark}",
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

/// Connects those that are slow, lets them be it until all have ended or should have. Says too for how
/// long the machine held up this thread at most, which looks each millisecond.
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
            one.look();
            if one.lived.is_some() {
                epoll.delete(one.stream.as_fd()).unwrap();
            }
        }
        // One after the other, so that the drips are as even as rain.
        let due = began.elapsed().as_micros() * DRIPPING as u128 / DRIP.as_micros();
        for index in dripped..due as usize {
            let one = &mut slow[SILENT + index % DRIPPING];
            // It may have ended.
            one.stream.write_all(b".").ok();
        }
        dripped = due as usize;
    }
    (slow, held_up)
}

/// Well-behaved clients, who measure for a while.
fn good_clients(server: &Server) -> Child {
    let line = format!("load rpc --addr {} {GOOD}", server.addr);
    netpoll(&format!("{line} --duration {}ms", MEASURED.as_millis()))
        .spawn()
        .unwrap()
}

/// What 99 in a hundred of their calls took at most, in microseconds; for ever, if one failed.
fn p99(clients: Child) -> f64 {
    let finished = finish(clients);
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
    if finished.status != 0 || report["errors"] != 0 {
        return f64::INFINITY;
    }
    report["p99_us"].as_f64().unwrap()
}
