// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread of a churn load: a connection for each request. The thread connects, sends the
//! request, receives the response, shuts down its side, waits for the server's FIN, and starts
//! again.
//!
//! A connection counts when it has closed, and its latency is that of the whole sequence. The
//! client closes first, with a FIN and not with a reset, as real clients do. The kernel therefore
//! keeps the client's port for a minute (TIME_WAIT). A machine has about 28,000 ports per source
//! address. To a server on the loopback, the connections come from thousands of source addresses in
//! turn (127.0.x.y), so that the ports do not run out. Elsewhere they may run out, and that is an
//! error like any other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use netpoll_sys::{Addr, Epoll, Events, Interest, options, socket, transfer};

use crate::busy_poll;

use super::allowance::Allowance;
use super::connection::LoadConnection;
use super::live::PUBLISH_INTERVAL;
use super::pacing::RateShare;
use super::recorder::Recorder;
use super::requests::RequestPattern;
use super::schedule::Schedule;
use super::worker::{RunContext, WorkerCounts};

/// One thread of a churn load.
#[derive(Debug)]
pub(super) struct ChurnWorker {
    epoll: Epoll,
    addr: Addr,
    /// A connection's index is its token; `None` if no other connection follows in this slot.
    connections: Vec<Option<ChurnConnection>>,
    /// Connections started so far, plus the connections of the threads before this one.
    started: usize,
    requests: RequestPattern,
    schedule: Schedule,
    /// The requests that may still start.
    allowance: Allowance,
    recorder: Recorder,
    scratch: Vec<u8>,
    counts: WorkerCounts,
}

/// One connection, for one request.
#[derive(Debug)]
struct ChurnConnection {
    connection: LoadConnection,
    since: u64,
    step: ChurnPhase,
}

/// The progress of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChurnPhase {
    Connecting,
    Requesting,
    /// The response has arrived; the server's FIN has not.
    Closing,
    Closed,
}

impl ChurnWorker {
    /// Creates a worker with as many concurrent connections as `share` has.
    pub(super) fn new(
        addr: Addr,
        share: RateShare,
        requests: RequestPattern,
        (schedule, allowance): (Schedule, Allowance),
    ) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            addr,
            connections: (0..share.own).map(|_| None).collect(),
            // Starts at source addresses other than those of the other threads.
            started: share.before,
            requests,
            schedule,
            allowance,
            recorder: Recorder::new(schedule),
            scratch: vec![0; SCRATCH],
            counts: WorkerCounts::default(),
        })
    }

    /// Runs all phases on the calling thread, the `thread`th of the run.
    pub(super) fn run(
        mut self,
        thread: usize,
        shared: RunContext<'_>,
    ) -> io::Result<(Recorder, WorkerCounts)> {
        let mut events = Events::with_capacity(1024);
        let mut now = shared.clock.now();
        let mut publish_at = now + PUBLISH_INTERVAL;
        for index in 0..self.connections.len() {
            self.start(index, now);
        }
        while !self.is_over(now) && !shared.interrupt.is_set() {
            let pause = Some(MAX_WAIT);
            let count = busy_poll::wait(&self.epoll, &mut events, shared.busy_poll, pause)?;
            let before = self.recorder.answers();
            for (token, _) in (0..count).filter_map(|index| events.get(index)) {
                now = shared.clock.now();
                self.advance(token as usize, now);
            }
            now = shared.clock.now();
            let answered = self.recorder.answers() - before;
            // Relaxed: progress only.
            shared.answered.fetch_add(answered, Ordering::Relaxed);
            if now >= publish_at {
                shared.live.publish(thread, self.recorder.latency());
                publish_at = now + PUBLISH_INTERVAL;
            }
        }
        self.counts.ended = now.min(self.schedule.to);
        Ok((self.recorder, self.counts))
    }

    fn is_over(&self, now: u64) -> bool {
        now >= self.schedule.drain_until || self.connections.iter().all(Option::is_none)
    }

    /// Starts a connection in a free slot, if the allowance has a request for it.
    fn start(&mut self, index: usize, now: u64) {
        if self.allowance.take(1) == 0 {
            return;
        }
        let source = source(self.addr, self.started);
        self.started += 1;
        match connect(self.addr, source, &self.epoll, index as u64) {
            Ok(connection) => {
                self.connections[index] = Some(ChurnConnection {
                    connection,
                    since: now,
                    step: ChurnPhase::Connecting,
                });
            }
            Err(error) => self.fail(index, describe(&error)),
        }
    }

    /// Advances a connection as far as it goes now.
    fn advance(&mut self, index: usize, now: u64) {
        let Some(connection) = self.connections[index].as_mut() else {
            return;
        };
        match connection.advance(&self.epoll, index as u64, &self.requests, &mut self.scratch) {
            Ok(ChurnPhase::Closed) => {
                self.recorder.answered(now, connection.since, 1);
                // Dropping the socket closes it, which removes it from epoll.
                self.connections[index] = None;
                if now < self.schedule.to {
                    self.start(index, now);
                }
            }
            Ok(_) => {}
            Err(cause) => self.fail(index, cause),
        }
    }

    /// Drops a failed connection and starts no other in its slot: the next one would probably fail
    /// the same way.
    fn fail(&mut self, index: usize, cause: String) {
        self.connections[index] = None;
        self.counts.errors += 1;
        self.counts.cause.get_or_insert(cause);
    }
}

impl ChurnConnection {
    fn advance(
        &mut self,
        epoll: &Epoll,
        token: u64,
        requests: &RequestPattern,
        scratch: &mut [u8],
    ) -> Result<ChurnPhase, String> {
        let failed = |error: io::Error| describe(&error);
        let connection = &mut self.connection;
        match self.step {
            ChurnPhase::Connecting => {
                if let Some(error) = socket::take_error(connection.as_fd()).map_err(failed)? {
                    return Err(describe(&error));
                }
                connection.request(requests, self.since, 1);
                connection.send(requests)?;
                // Until now it was registered for writing only.
                let wanted = connection.changed_interest().unwrap_or(Interest::READABLE);
                epoll
                    .modify(connection.as_fd(), token, wanted)
                    .map_err(failed)?;
                self.step = ChurnPhase::Requesting;
            }
            ChurnPhase::Requesting => {
                let answers = connection.receive(requests, scratch)?;
                connection.send(requests)?;
                if let Some(wanted) = connection.changed_interest() {
                    epoll
                        .modify(connection.as_fd(), token, wanted)
                        .map_err(failed)?;
                }
                if answers > 0 {
                    socket::shutdown(connection.as_fd(), Shutdown::Write).map_err(failed)?;
                    self.step = ChurnPhase::Closing;
                }
            }
            ChurnPhase::Closing => match transfer::receive(connection.as_fd(), scratch) {
                Ok(0) => self.step = ChurnPhase::Closed,
                Ok(_) => return Err(String::from("received a response without a request")),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(describe(&error)),
            },
            ChurnPhase::Closed => {}
        }
        Ok(self.step)
    }
}

/// Starts to connect, from `source` if given.
fn connect(
    addr: Addr,
    source: Option<SocketAddr>,
    epoll: &Epoll,
    token: u64,
) -> io::Result<LoadConnection> {
    let fd = socket::stream_socket(addr)?;
    if addr.as_tcp().is_some() {
        options::set_nodelay(fd.as_fd(), true)?;
    }
    if let Some(source) = source {
        socket::bind_local(fd.as_fd(), source)?;
    }
    if socket::connect(fd.as_fd(), addr)? == socket::ConnectStatus::QueueFull {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    epoll.add(fd.as_fd(), token, Interest::WRITABLE)?;
    Ok(LoadConnection::new(fd))
}

/// Returns the source address of a connection; `None` if the kernel chooses it.
fn source(addr: Addr, number: usize) -> Option<SocketAddr> {
    let IpAddr::V4(ip) = addr.as_tcp()?.ip() else {
        return None;
    };
    let (low, high) = (
        number % HOSTS_PER_SUBNET,
        number / HOSTS_PER_SUBNET % SUBNETS,
    );
    let source = Ipv4Addr::new(127, 0, high as u8, low as u8 + 1);
    ip.is_loopback().then(|| SocketAddr::from((source, 0)))
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => {
            String::from("out of local ports: each stays in TIME_WAIT for a minute after its use")
        }
        io::ErrorKind::WouldBlock => String::from("the accept queue of the listener is full"),
        _ => error.to_string(),
    }
}

/// 127.0.x.1 to 127.0.x.254.
const HOSTS_PER_SUBNET: usize = 254;
/// 127.0.0.x to 127.0.15.x.
const SUBNETS: usize = 16;

const SCRATCH: usize = 64 << 10;

/// The longest delay until an interrupt or the end is noticed.
const MAX_WAIT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_loopback_use_many_source_addresses() {
        let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let from = |number| source(addr.into(), number).unwrap().to_string();
        assert_eq!(from(0), "127.0.0.1:0");
        assert_eq!(from(253), "127.0.0.254:0");
        assert_eq!(from(254), "127.0.1.1:0");
        assert_eq!(from(HOSTS_PER_SUBNET * SUBNETS), from(0));
    }

    #[test]
    fn the_kernel_chooses_the_source_address_elsewhere() {
        for addr in ["192.0.2.1:80", "[::1]:80"] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!(source(addr.into(), 1), None);
        }
    }
}
