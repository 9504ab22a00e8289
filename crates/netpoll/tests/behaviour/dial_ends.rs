// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a dial ends, over TCP and Unix sockets, in each executor: refused, not answered, answered by
//! a server that goes at once.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use netpoll::{Addr, Connection, Dialer, UnixAddr};
use socket2::Socket;

use crate::support::{
    Folder, LIMIT, Silent, alone_twice, eventually, in_each_executor, nobody, open_descriptors,
};

const ROUNDS: usize = 30;

/// What a server does with those who connect.
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

/// Until the listener is shut down.
fn accept(listener: &Socket, does: Does) {
    while let Ok((stream, _)) = listener.accept() {
        if matches!(does, Does::Reset) {
            stream.set_linger(Some(Duration::ZERO)).expect("a socket");
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // Of a Unix socket this ends the waiting, too.
        let _ended = self.listener.shutdown(std::net::Shutdown::Both).is_ok();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

/// Dials, reads to the end if there is one, and says what went wrong.
async fn come_and_see(addr: Addr, does: Does) -> Result<(), ErrorKind> {
    let dialer = Dialer::new().connect_timeout(Some(LIMIT));
    let mut conn: Connection = dialer.dial(addr).await.map_err(|error| error.kind())?;
    conn.writer().put_str("is anybody there?");
    match does {
        // Its queue has room for us, and nobody else has.
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
        // What was put to a peer that has gone may be answered by a reset, whichever way it went.
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
fn a_server_that_goes_at_once_or_never_comes_ends_no_dial_in_another_way_than_a_connection() {
    let name = "dial_ends::\
                a_server_that_goes_at_once_or_never_comes_ends_no_dial_in_another_way_than_a_connection";
    alone_twice(name, || {
        for does in [Does::Close, Does::Reset, Does::Nothing] {
            let folder = Folder::new();
            for server in [Plain::tcp(does), Plain::unix(&folder, does)] {
                let addr = server.addr;
                let before = open_descriptors();
                let outcomes = in_each_executor(move || async move {
                    let mut outcomes = Vec::new();
                    for _ in 0..ROUNDS {
                        outcomes.push(come_and_see(addr, does).await);
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

fn ending(addr: Addr, limit: Duration) -> Vec<(ErrorKind, Option<i32>, Duration)> {
    in_each_executor(move || async move {
        let begun = Instant::now();
        let dialer = Dialer::new().connect_timeout(Some(limit));
        let error = dialer.dial(addr).await.map(drop).expect_err("nobody");
        (error.kind(), error.raw_os_error(), begun.elapsed())
    })
}

#[test]
fn a_dial_that_is_refused_says_so_wherever_it_is_made() {
    let folder = Folder::new();
    let path = folder.file("dead.sock");
    drop(UnixListener::bind(&path).expect("a free path"));
    let dead = UnixAddr::path(&path).expect("a path");
    for addr in [Addr::from(nobody()), Addr::from(dead)] {
        for (kind, errno, _) in ending(addr, LIMIT) {
            assert_eq!((kind, errno), (ErrorKind::ConnectionRefused, Some(111)));
        }
    }
}

#[test]
fn a_dial_that_is_not_answered_times_out_wherever_it_is_made() {
    let limit = Duration::from_millis(60);
    let silent = Silent::new();
    let folder = Folder::new();
    let path = folder.file("full.sock");
    let listener = Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(&socket2::SockAddr::unix(&path).unwrap())
        .unwrap();
    listener.listen(0).unwrap();
    let _queued = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let full = UnixAddr::path(&path).unwrap();
    for addr in [Addr::from(silent.addr), Addr::from(full)] {
        for (kind, _, took) in ending(addr, limit) {
            assert_eq!(kind, ErrorKind::TimedOut);
            assert!(took >= limit, "{took:?}");
        }
    }
    assert!(
        listener.as_fd().try_clone_to_owned().is_ok(),
        "it was there all the time"
    );
}

#[test]
fn a_dial_to_where_nothing_leads_ends_by_its_deadline() {
    let limit = Duration::from_millis(300);
    // For documentation (RFC 3849): nobody has it, and the kernel or a router may say so, or nothing.
    let nowhere = "[2001:db8::1]:9".parse().unwrap();
    for (kind, errno, took) in ending(nowhere, limit) {
        let told = errno.is_some() || kind == ErrorKind::TimedOut;
        assert!(told, "{kind:?}");
        assert!(took < LIMIT, "{took:?}");
    }
}
