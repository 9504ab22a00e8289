// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread of a load that has a connection for each request: it connects, asks, is answered, ends
//! its stream, hears the end of the server's, and begins again.
//!
//! Such a visit counts when it is over, and its latency is that of all of it. The client ends its
//! stream first, in order and not with a reset, since that is what a server meets; so it is the
//! client's port that the kernel keeps for a minute. A machine has some 28,000 ports for each address
//! it connects from. To a server on the loopback, visits come from thousands of addresses in turn
//! (127.0.x.y, which are all this machine's), so that the ports do not run out; elsewhere they may, and
//! that is an error like any other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use netpoll_sys::{Addr, Epoll, Events, Interest, options, socket, transfer};

use crate::busy_poll;

use super::connection::LoadConnection;
use super::pacing::RateShare;
use super::recorder::Recorder;
use super::requests::RequestPattern;
use super::schedule::Schedule;
use super::worker::{RunContext, WorkerCounts};

/// One thread's part of a load of visits.
#[derive(Debug)]
pub(super) struct ChurnWorker {
    epoll: Epoll,
    addr: Addr,
    /// A visit's index is its token; `None` once no other one follows.
    connections: Vec<Option<ChurnConnection>>,
    /// Visits so far, of this thread and in effect of those before it.
    started: usize,
    requests: RequestPattern,
    schedule: Schedule,
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

/// How far a visit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChurnPhase {
    Connecting,
    Requesting,
    /// Answered; the server is to end its stream, too.
    Closing,
    Closed,
}

impl ChurnWorker {
    /// As many visits at once as `share` has connections.
    pub(super) fn new(
        addr: Addr,
        share: RateShare,
        requests: RequestPattern,
        schedule: Schedule,
    ) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            addr,
            connections: (0..share.own).map(|_| None).collect(),
            // Far enough from the addresses of the other threads to begin with.
            started: share.before,
            requests,
            schedule,
            recorder: Recorder::new(schedule),
            scratch: vec![0; SCRATCH],
            counts: WorkerCounts::default(),
        })
    }

    /// Runs through all phases, on the calling thread.
    pub(super) fn run(mut self, shared: RunContext<'_>) -> io::Result<(Recorder, WorkerCounts)> {
        let mut events = Events::with_capacity(1024);
        let mut now = shared.clock.now();
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
            let visits = self.recorder.answers() - before;
            // Relaxed: a figure for the eye.
            shared.answered.fetch_add(visits, Ordering::Relaxed);
        }
        self.counts.ended = now.min(self.schedule.to);
        Ok((self.recorder, self.counts))
    }

    fn is_over(&self, now: u64) -> bool {
        now >= self.schedule.drain_until || self.connections.iter().all(Option::is_none)
    }

    /// Begins a visit in the place of one that is over.
    fn start(&mut self, index: usize, now: u64) {
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

    /// Takes a visit as far as it goes now.
    fn advance(&mut self, index: usize, now: u64) {
        let Some(visit) = self.connections[index].as_mut() else {
            return;
        };
        match visit.advance(&self.epoll, index as u64, &self.requests, &mut self.scratch) {
            Ok(ChurnPhase::Closed) => {
                self.recorder.answered(now, visit.since, 1);
                // The socket is closed here, and leaves epoll by that.
                self.connections[index] = None;
                if now < self.schedule.to {
                    self.start(index, now);
                }
            }
            Ok(_) => {}
            Err(cause) => self.fail(index, cause),
        }
    }

    /// Nothing follows a visit that failed: the next one would fail the same way, at once.
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
                // It was watched for writing alone until now.
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
                Ok(_) => return Err(String::from("an answer came that nobody asked for")),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(describe(&error)),
            },
            ChurnPhase::Closed => {}
        }
        Ok(self.step)
    }
}

/// Starts to connect, from `source` if there is one.
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

/// The address that a visit comes from; none if that is the kernel's choice.
fn source(addr: Addr, visit: usize) -> Option<SocketAddr> {
    let IpAddr::V4(ip) = addr.as_tcp()?.ip() else {
        return None;
    };
    let (low, high) = (visit % HOSTS_PER_SUBNET, visit / HOSTS_PER_SUBNET % SUBNETS);
    let source = Ipv4Addr::new(127, 0, high as u8, low as u8 + 1);
    ip.is_loopback().then(|| SocketAddr::from((source, 0)))
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => {
            String::from("no port is left to connect from: each is kept for a minute after its use")
        }
        io::ErrorKind::WouldBlock => String::from("the queue of the listener is full"),
        _ => error.to_string(),
    }
}

/// 127.0.x.1 to 127.0.x.254.
const HOSTS_PER_SUBNET: usize = 254;
/// 127.0.0.x to 127.0.15.x.
const SUBNETS: usize = 16;

const SCRATCH: usize = 64 << 10;

/// How late an interrupt or the end may be noticed.
const MAX_WAIT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_to_the_loopback_come_from_many_addresses_of_it() {
        let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let from = |visit| source(addr.into(), visit).unwrap().to_string();
        assert_eq!(from(0), "127.0.0.1:0");
        assert_eq!(from(253), "127.0.0.254:0");
        assert_eq!(from(254), "127.0.1.1:0");
        assert_eq!(from(HOSTS_PER_SUBNET * SUBNETS), from(0));
    }

    #[test]
    fn elsewhere_the_kernel_chooses_the_address() {
        for addr in ["192.0.2.1:80", "[::1]:80"] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!(source(addr.into(), 1), None);
        }
    }
}
