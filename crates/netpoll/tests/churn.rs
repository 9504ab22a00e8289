// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections that open and close in every way, and what a server still holds when they are
//! closed. Descriptors and live heap are those of the whole process, its clients included, and must
//! be exactly what they were before.
//!
//! `HOSTILE_CONNECTIONS` sets their number; ordinary test runs use a few.

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

/// The number of connections open at once.
const CROWD: usize = 480;

/// The number of crowds before the count, and the connections in each: more than later, so that
/// pools and queues have reached their size.
const WARM_UP: usize = 4;
const LARGER_CROWD: usize = 960;

/// How often the run is repeated until it leaves nothing.
const TRIES: usize = 3;

/// The timeout for a silent peer.
const PATIENCE: Duration = Duration::from_millis(250);

/// Client addresses: a port that was closed by a FIN is not free for a minute.
const SOURCES: usize = 39;

/// How a connection ends.
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
    /// The peer calls and then sends a FIN.
    Fin,
    /// The peer calls and then resets.
    Reset,
    /// The peer sends nothing until the server closes the connection.
    Silence,
    FinWithinAFrame,
    ResetWithinAFrame,
    SilenceWithinAFrame,
}

impl Way {
    /// The bytes that the peer sends at once.
    fn says(self, call: &[u8]) -> &[u8] {
        match self {
            Self::Fin | Self::Reset => call,
            Self::Silence => b"",
            _ => &call[..call.len() / 2],
        }
    }
}

/// The clients, all on the calling thread.
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

    /// Opens a crowd larger than the later ones, and blocks both pollers while it opens and while
    /// its timeouts expire, so that no queue will ever be longer.
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

    /// Opens this many connections.
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

    /// Ends each connection.
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

/// The rpc wire, with an empty frame that blocks the poller.
async fn rpc_with_pauses(conn: &mut Connection) -> Result<(), BoxError> {
    if conn.reader().peek(4).await? == [0; 4] {
        std::thread::sleep(PATIENCE * 3 / 2);
    }
    rpc(conn).await
}

/// The resources of the process.
#[derive(Clone, Copy)]
struct Held {
    descriptors: isize,
    heap: isize,
}

impl Held {
    fn now() -> Self {
        let heap = ALLOCATOR.stats();
        Self {
            // Reading the list opens a descriptor, which is closed before the heap is measured.
            descriptors: open_descriptors() as isize,
            heap: heap.bytes_allocated as isize - heap.bytes_deallocated as isize,
        }
    }

    /// Returns how much more there is than `before`.
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

/// Waits until there is no more than `before`, or until a limit.
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

/// The resources held after connections have closed, and the number of tries.
struct Residue {
    more: Held,
    tries: usize,
}

/// Opens and closes this many connections, in whole crowds, and returns the resources still held.
/// If there are any, it tries again: a queue that grew keeps its size once, whereas a leak grows
/// with every try.
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
    // A leak of every connection is larger than a queue that grew once more.
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
