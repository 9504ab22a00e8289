// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections that come and go, in every way there is: what a server still has of them when they
//! are gone. Descriptors and live heap are those of the whole process, its clients included, and
//! must be to the byte what they were before.
//!
//! `HOSTILE_CONNECTIONS` says how many; each test run has a few of them.

#[path = "support/scene.rs"]
mod scene;
#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the behaviour tests use the rest"
)]
#[path = "support/support.rs"]
mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use netpoll::{BoxError, Connection, EventLoop};
use socket2::{Domain, Socket, Type};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use scene::Scene;
use support::{LIMIT, Server, frame, open_descriptors, rpc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many connections are open at once.
const CROWD: usize = 480;

/// How many crowds come before anything is counted, and how many are in each: more than later, so
/// that pools and queues have their size.
const WARM_UP: usize = 4;
const LARGER_CROWD: usize = 960;

/// How often all of them come and go until they leave nothing.
const TRIES: usize = 3;

/// How long a silent peer is waited for.
const PATIENCE: Duration = Duration::from_millis(250);

/// Addresses to come from: a port that was closed in order is not free for a minute.
const SOURCES: usize = 39;

/// How connections end.
const WAYS: [Way; 6] = [
    Way::Fin,
    Way::Reset,
    Way::Silence,
    Way::FinWithinAFrame,
    Way::ResetWithinAFrame,
    Way::SilenceWithinAFrame,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The peer calls, and ends its stream.
    Fin,
    /// The peer calls, and resets.
    Reset,
    /// The peer says nothing until the server has enough of it.
    Silence,
    FinWithinAFrame,
    ResetWithinAFrame,
    SilenceWithinAFrame,
}

impl Way {
    /// What its peer sends at once.
    fn says(self, call: &[u8]) -> &[u8] {
        match self {
            Self::Fin | Self::Reset => call,
            Self::Silence => b"",
            _ => &call[..call.len() / 2],
        }
    }
}

/// The clients, all on this thread.
struct Crowd {
    server: SocketAddr,
    call: Vec<u8>,
    answer: Vec<u8>,
    open: Vec<(Way, Socket)>,
    crowds: usize,
}

impl Crowd {
    fn new(server: &Server) -> Self {
        let call = frame(&[7; 100]);
        Self {
            server: server.addr.as_tcp().expect("TCP"),
            answer: vec![0; call.len()],
            call,
            open: Vec::with_capacity(LARGER_CROWD),
            crowds: 0,
        }
    }

    /// Comes in a crowd that is larger than later ones, and holds both pollers up while it comes
    /// and while the patience with it ends: so no queue will ever be longer than it is then.
    fn warm_up(&mut self) {
        let mut holding: Vec<TcpStream> = (0..2)
            .map(|_| TcpStream::connect(self.server).expect("a server"))
            .collect();
        let hold = |socket: &mut TcpStream| socket.write_all(&frame(b"")).expect("room");
        let released = |socket: &mut TcpStream| {
            socket.read_exact(&mut [0; 4]).expect("an answer");
        };
        holding.iter_mut().for_each(hold);
        self.come(LARGER_CROWD);
        holding.iter_mut().for_each(released);
        holding.iter_mut().for_each(hold);
        holding.iter_mut().for_each(released);
        self.go();
    }

    /// Opens so many connections.
    fn come(&mut self, connections: usize) {
        let source = Ipv4Addr::new(127, 0, 0, (2 + self.crowds % SOURCES) as u8);
        self.crowds += 1;
        for way in WAYS.into_iter().cycle().take(connections) {
            let mut socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_read_timeout(Some(LIMIT)).expect("a timeout");
            let from = SocketAddr::from((source, 0));
            socket.bind(&from.into()).expect("a free port");
            socket.connect(&self.server.into()).expect("a server");
            socket.write_all(way.says(&self.call)).expect("room");
            self.open.push((way, socket));
        }
    }

    /// Sees each connection to its end.
    fn go(&mut self) {
        for (way, mut socket) in self.open.drain(..) {
            if matches!(way, Way::Fin | Way::Reset) {
                socket.read_exact(&mut self.answer).expect("an answer");
            }
            if matches!(way, Way::Reset | Way::ResetWithinAFrame) {
                socket.set_linger(Some(Duration::ZERO)).expect("a socket");
                continue;
            }
            if matches!(way, Way::Fin | Way::FinWithinAFrame) {
                socket.shutdown(std::net::Shutdown::Write).expect("open");
            }
            let end = socket.read(&mut self.answer).expect("an end in order");
            assert_eq!(end, 0, "{way:?}");
        }
    }
}

/// The rpc wire, where an empty frame holds up the poller.
async fn rpc_with_pauses(conn: &mut Connection) -> Result<(), BoxError> {
    if conn.reader().peek(4).await? == [0; 4] {
        std::thread::sleep(PATIENCE * 3 / 2);
    }
    rpc(conn).await
}

/// What there is of a process.
#[derive(Clone, Copy)]
struct Held {
    descriptors: isize,
    heap: isize,
}

impl Held {
    fn now() -> Self {
        let heap = ALLOCATOR.stats();
        Self {
            // The list is read through a descriptor, and is gone before the heap is.
            descriptors: open_descriptors() as isize,
            heap: heap.bytes_allocated as isize - heap.bytes_deallocated as isize,
        }
    }

    /// How much more there is than `before`.
    fn since(self, before: Self) -> Self {
        Self {
            descriptors: self.descriptors - before.descriptors,
            heap: self.heap - before.heap,
        }
    }

    fn is_nothing(self) -> bool {
        self.descriptors == 0 && self.heap <= 0
    }
}

/// Waits until there is no more than `before`, or until that has taken too long.
fn settled(server: &Server, before: Held) -> Held {
    let began = Instant::now();
    loop {
        let more = Held::now().since(before);
        let gone = server.handle.connections() == 0;
        if (gone && more.is_nothing()) || began.elapsed() > Duration::from_secs(2) {
            return more;
        }
        std::thread::yield_now();
    }
}

/// What is held of connections that have come and gone, and how often they had to.
struct Residue {
    more: Held,
    tries: usize,
}

/// Has so many connections, in whole crowds, come and go, and says what is held of them. If that is
/// anything, it is done again: a queue may have had to be longer than ever before, which it stays;
/// what connections leave is left each time.
fn residue_of(connections: usize, progress: impl Fn(usize)) -> Residue {
    let builder = EventLoop::builder()
        .pollers(2)
        .on_request(rpc_with_pauses)
        .first_byte_timeout(PATIENCE)
        .read_timeout(PATIENCE);
    let server = Server::start_unobserved(builder);
    let mut crowd = Crowd::new(&server);
    (0..WARM_UP).for_each(|_| crowd.warm_up());
    settled(&server, Held::now());
    let mut tries = 0;
    loop {
        tries += 1;
        let before = Held::now();
        for index in 0..connections / CROWD {
            if index % 20 == 0 {
                progress(index * CROWD);
            }
            crowd.come(CROWD);
            crowd.go();
        }
        let more = settled(&server, before);
        if more.is_nothing() || tries == TRIES {
            return Residue { more, tries };
        }
    }
}

#[test]
fn closed_connections_leave_no_resources() {
    let connections = 2880;
    let Residue { more, .. } = residue_of(connections, |_| ());
    assert_eq!(more.descriptors, 0);
    // What each connection leaves is more than a queue that had to be longer once more.
    assert!(more.heap < connections as isize, "{} B", more.heap);
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn churn() {
    let asked = std::env::var("HOSTILE_CONNECTIONS");
    let connections: usize = asked.map_or(100_000, |asked| asked.parse().expect("a number"));
    let connections = connections.next_multiple_of(CROWD);
    let scene = Scene::begin("churn", "descriptors 0, live heap 0 B");
    let began = Instant::now();
    let progress = |gone| scene.progress(format!("{gone} gone"));
    let Residue { more, tries } = residue_of(connections, progress);
    let (descriptors, heap) = (more.descriptors, more.heap);
    let measured = format!(
        "{tries} x {connections} connections in {:.0} s: descriptors {descriptors:+}, live heap {heap:+} B",
        began.elapsed().as_secs_f64()
    );
    scene.judge(measured, more.is_nothing());
}
