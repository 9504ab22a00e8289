// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a dial ends, over TCP and Unix sockets, in each executor: refused, not routed, not answered,
//! accepted by a server that closes at once, or dropped.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use netpoll::addr::UnixAddr;
use netpoll::{Addr, Connection, Dialer};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::{
    Folder, LIMIT, Silent, alone_twice, eventually, in_each_executor, open_descriptors, polled,
    until, unused_addr,
};

const ROUNDS: usize = 30;

/// The server's treatment of its connections.
#[derive(Clone, Copy, Debug)]
enum Does {
    Close,
    Reset,
    Nothing,
}

/// A server that is not netpoll, until it is dropped.
struct Plain {
    addr: Addr,
    listener: Socket,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Plain {
    fn tcp(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        Self::on(listener.into(), addr.into(), does)
    }

    fn unix(folder: &Folder, does: Does) -> Self {
        let path = folder.file("server.sock");
        let listener = UnixListener::bind(&path).expect("a free path");
        let addr = UnixAddr::path(&path).expect("a path");
        Self::on(listener.into(), addr.into(), does)
    }

    fn on(listener: OwnedFd, addr: Addr, does: Does) -> Self {
        let listener = Socket::from(listener);
        let accepts = listener.try_clone().expect("a descriptor");
        let thread = match does {
            Does::Nothing => None,
            does => Some(std::thread::spawn(move || accept(&accepts, does))),
        };
        Self {
            addr,
            listener,
            thread,
        }
    }
}

/// Accepts until the listener is shut down.
fn accept(listener: &Socket, does: Does) {
    while let Ok((stream, _)) = listener.accept() {
        if matches!(does, Does::Reset) {
            stream.set_linger(Some(Duration::ZERO)).expect("a socket");
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // This wakes `accept` on a Unix socket, too.
        let _ended = self.listener.shutdown(std::net::Shutdown::Both).is_ok();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

/// Dials, reads to the end if the server ends the stream, and returns the error.
async fn dial_and_read(addr: Addr, does: Does) -> Result<(), ErrorKind> {
    let dialer = Dialer::new().connect_timeout(LIMIT);
    let mut conn: Connection = dialer.dial(addr).await.map_err(|error| error.kind())?;
    conn.writer().put_str("a request");
    match does {
        // The connection stays in the backlog: the server sends nothing.
        Does::Nothing => Ok(()),
        _ => match conn.reader().chunk().await {
            Ok(end) => end.map_or(Ok(()), |_| Err(ErrorKind::InvalidData)),
            Err(error) => Err(error.kind()),
        },
    }
}

fn fits(does: Does, outcome: Result<(), ErrorKind>) -> bool {
    match outcome {
        Ok(()) => true,
        // Output to a peer that has closed or reset may be answered by a reset.
        Err(kind) => {
            let reset = [
                ErrorKind::ConnectionReset,
                ErrorKind::BrokenPipe,
                ErrorKind::ConnectionAborted,
            ];
            !matches!(does, Does::Nothing) && reset.contains(&kind)
        }
    }
}

#[test]
fn a_dial_to_a_server_that_closes_resets_or_never_accepts_ends_as_a_connection() {
    let name = "dial_ends::\
                a_dial_to_a_server_that_closes_resets_or_never_accepts_ends_as_a_connection";
    alone_twice(name, || {
        for does in [Does::Close, Does::Reset, Does::Nothing] {
            let folder = Folder::new();
            for server in [Plain::tcp(does), Plain::unix(&folder, does)] {
                let addr = server.addr;
                let before = open_descriptors();
                let outcomes = in_each_executor(move || async move {
                    let mut outcomes = Vec::new();
                    for _ in 0..ROUNDS {
                        outcomes.push(dial_and_read(addr, does).await);
                    }
                    outcomes
                });
                for outcome in outcomes.into_iter().flatten() {
                    assert!(fits(does, outcome), "{does:?} at {addr}: {outcome:?}");
                }
                drop(server);
                eventually("descriptors", || open_descriptors() <= before + 8);
            }
        }
    });
}

fn failures(addr: Addr, limit: Duration) -> Vec<(ErrorKind, Option<i32>, Duration)> {
    in_each_executor(move || async move {
        let begun = Instant::now();
        let dialer = Dialer::new().connect_timeout(limit);
        let error = dialer.dial(addr).await.map(drop).expect_err("no server");
        (error.kind(), error.raw_os_error(), begun.elapsed())
    })
}

/// Returns a path whose listener is closed.
fn dead(folder: &Folder) -> Addr {
    let path = folder.file("dead.sock");
    drop(UnixListener::bind(&path).expect("a free path"));
    UnixAddr::path(&path).expect("a path").into()
}

/// Returns an address without a route for TCP: a multicast group.
fn unreachable() -> Addr {
    "224.0.0.1:9".parse().expect("an address")
}

#[test]
fn a_refused_or_unroutable_dial_reports_its_errno_in_each_executor() {
    let folder = Folder::new();
    let refused = (ErrorKind::ConnectionRefused, Some(111));
    for (addr, expected) in [
        (unused_addr().into(), refused),
        (dead(&folder), refused),
        (unreachable(), (ErrorKind::NetworkUnreachable, Some(101))),
    ] {
        for (kind, errno, _) in failures(addr, LIMIT) {
            assert_eq!((kind, errno), expected, "{addr}");
        }
    }
}

/// A path whose backlog is full until this is dropped.
struct Full {
    addr: Addr,
    _listener: Socket,
    _queued: UnixStream,
}

impl Full {
    fn new(folder: &Folder) -> Self {
        let path = folder.file("full.sock");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        let name = SockAddr::unix(&path).expect("a path");
        listener.bind(&name).expect("a free path");
        listener.listen(0).expect("a listener");
        Self {
            // The kernel queues one more than the backlog.
            _queued: UnixStream::connect(&path).expect("room for one"),
            _listener: listener,
            addr: UnixAddr::path(&path).expect("a path").into(),
        }
    }
}

#[test]
fn an_unanswered_dial_times_out_in_each_executor() {
    let limit = Duration::from_millis(60);
    let (silent, folder) = (Silent::new(), Folder::new());
    let full = Full::new(&folder);
    for addr in [silent.addr.into(), full.addr] {
        for (kind, _, took) in failures(addr, limit) {
            assert_eq!(kind, ErrorKind::TimedOut);
            assert!(took >= limit, "{took:?}");
        }
    }
}

#[test]
fn a_dial_to_an_unassigned_address_ends_by_its_deadline() {
    let limit = Duration::from_millis(300);
    // For documentation (RFC 3849): no host has it. The kernel or a router may report that, or not.
    let nowhere = "[2001:db8::1]:9".parse().unwrap();
    for (kind, errno, took) in failures(nowhere, limit) {
        let reported = errno.is_some() || kind == ErrorKind::TimedOut;
        assert!(reported, "{kind:?}");
        assert!(took < LIMIT, "{took:?}");
    }
}

/// Returns the number of descriptors once it is stable.
async fn descriptors_at_rest() -> usize {
    let mut before = 0;
    until("a stable number of descriptors", || {
        std::mem::replace(&mut before, open_descriptors()) == open_descriptors()
    })
    .await;
    before
}

/// Dials, polls the dial `times` times, each time but the first after a wake, and drops it: for 0,
/// 1, 2 and so on, until a dial completes. A dial that leaves a descriptor open fails the test.
async fn drop_at_each_wait(addr: Addr, limit: Option<Duration>) {
    let dialer = Dialer::new().connect_timeout(limit);
    // The first dial creates the shared pollers, and the server may open descriptors for its first
    // connection. Neither counts.
    drop(polled(dialer.dial(addr), 1).await);
    let before = descriptors_at_rest().await;
    for times in 0.. {
        let done = polled(dialer.dial(addr), times).await.map(drop);
        until("as many descriptors as before", || {
            open_descriptors() <= before
        })
        .await;
        if done.is_some() || (limit.is_none() && times == 1) {
            return;
        }
    }
}

#[test]
fn a_dial_dropped_at_any_wait_leaves_no_descriptor_in_each_executor() {
    let name = "dial_ends::a_dial_dropped_at_any_wait_leaves_no_descriptor_in_each_executor";
    alone_twice(name, || {
        let (folder, other) = (Folder::new(), Folder::new());
        let hosts = [Plain::tcp(Does::Close), Plain::unix(&folder, Does::Close)];
        let (silent, full) = (Silent::new(), Full::new(&other));
        let nowhere = [unused_addr().into(), dead(&folder), unreachable()];
        let decided = hosts.iter().map(|host| host.addr).chain(nowhere);
        let waits = [silent.addr.into(), full.addr];
        let briefly = waits.map(|addr| (addr, Some(Duration::from_millis(30))));
        // Without a timeout: anything that a dial leaves behind stays.
        let forever = waits.map(|addr| (addr, None));
        let all: Vec<_> = decided.map(|addr| (addr, Some(LIMIT))).collect();
        for (addr, limit) in all.into_iter().chain(briefly).chain(forever) {
            in_each_executor(move || drop_at_each_wait(addr, limit));
        }
    });
}
