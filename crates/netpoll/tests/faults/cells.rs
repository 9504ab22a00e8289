// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cells of the matrix: a call, the work that makes it, and its fault.

use std::io;

use netpoll_sys::faults::{Errno, Fault, FaultGuard, FaultPlan, Syscall, Trigger};

use crate::support::Kind;
use crate::work::Work;

/// A fault at one call, or at all calls from one on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    pub(crate) site: Syscall,
    pub(crate) fault: Fault,
    pub(crate) when: Trigger,
}

impl Strike {
    pub(crate) fn install(self) -> FaultGuard {
        let Self { site, fault, when } = self;
        FaultPlan::new(when, move |called| (called == site).then_some(fault)).install()
    }

    pub(crate) fn is_for_good(self) -> bool {
        matches!(self.when, Trigger::From(_))
    }

    /// Returns whether the fault must have no visible effect: the call is repeated, or replaced by
    /// another way.
    pub(crate) fn is_harmless(self) -> bool {
        match (self.site, self.fault) {
            (
                Syscall::Accept
                | Syscall::EpollWait
                | Syscall::EpollDelete
                | Syscall::EventFdRead
                | Syscall::EventFdWrite
                | Syscall::Shutdown
                // Closing the last descriptor resets as well.
                | Syscall::Disconnect
                // The peer's address is the dialed one then.
                | Syscall::Getpeername
                // Without locks, paths are created unlocked.
                | Syscall::Flock
                | Syscall::OpenDir,
                _,
            )
            | (Syscall::EpollAdd, Fault::Errno(Errno::EXIST))
            | (
                Syscall::Recv | Syscall::Send | Syscall::Sendmsg | Syscall::EpollModify,
                Fault::Errno(Errno::INTR | Errno::AGAIN),
            )
            | (
                Syscall::Connect,
                Fault::Errno(Errno::INPROGRESS | Errno::INTR | Errno::ALREADY | Errno::ISCONN),
            ) => true,
            (Syscall::Recv | Syscall::Send | Syscall::Sendmsg, Fault::AtMost(most)) => most > 0,
            _ => false,
        }
    }

    /// Returns whether the fault may strike a connection whose peer then sees it end.
    pub(crate) fn is_of_an_engine(self) -> bool {
        matches!(self.site, Syscall::EpollAdd | Syscall::EpollModify)
    }

    /// Returns whether `error` is how this fault appears outside.
    pub(crate) fn matches_error(self, error: &io::Error) -> bool {
        let kind = error.kind();
        match (self.site, self.fault) {
            // A socket that cannot be queried is not accepted as a listener.
            (Syscall::Getsockopt, _) => kind == io::ErrorKind::InvalidInput,
            (_, Fault::Errno(errno)) => error.raw_os_error() == Some(errno.raw_os_error()),
            (_, Fault::AtMost(0)) => kind == io::ErrorKind::WriteZero,
            _ => false,
        }
    }
}

/// A cell, without the trigger of its fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) work: Work,
    pub(crate) kind: Kind,
    pub(crate) site: Syscall,
    pub(crate) fault: Fault,
}

const ACCEPT: &[Errno] = &[
    Errno::AGAIN,
    Errno::INTR,
    Errno::CONNABORTED,
    Errno::PROTO,
    Errno::PERM,
    Errno::NETDOWN,
    Errno::HOSTUNREACH,
    Errno::OPNOTSUPP,
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOBUFS,
    Errno::NOMEM,
    Errno::BADF,
    Errno::INVAL,
];

const RECEIVE: &[Errno] = &[
    Errno::AGAIN,
    Errno::INTR,
    Errno::CONNRESET,
    Errno::TIMEDOUT,
    Errno::HOSTUNREACH,
    Errno::NETUNREACH,
    Errno::NOTCONN,
    Errno::NOMEM,
    Errno::NOBUFS,
    Errno::BADF,
    Errno::IO,
];

const SEND: &[Errno] = &[
    Errno::AGAIN,
    Errno::INTR,
    Errno::PIPE,
    Errno::CONNRESET,
    Errno::TIMEDOUT,
    Errno::HOSTUNREACH,
    Errno::NOBUFS,
    Errno::NOMEM,
    Errno::MSGSIZE,
    Errno::NOTCONN,
    Errno::BADF,
    Errno::ACCESS,
];

const CONNECT: &[Errno] = &[
    Errno::INPROGRESS,
    Errno::INTR,
    Errno::ALREADY,
    Errno::ISCONN,
    Errno::CONNREFUSED,
    Errno::TIMEDOUT,
    Errno::NETUNREACH,
    Errno::ADDRNOTAVAIL,
    Errno::ADDRINUSE,
    Errno::AGAIN,
    Errno::ACCESS,
    Errno::PERM,
];

/// Errors of calls that create a descriptor.
const MAKE: &[Errno] = &[
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
    Errno::NOBUFS,
    Errno::PERM,
    Errno::NOSYS,
    Errno::INVAL,
    Errno::AFNOSUPPORT,
];

const BIND: &[Errno] = &[
    Errno::ADDRINUSE,
    Errno::ADDRNOTAVAIL,
    Errno::ACCESS,
    Errno::NAMETOOLONG,
    Errno::NOENT,
    Errno::ROFS,
    Errno::LOOP,
];

const LISTEN: &[Errno] = &[Errno::ADDRINUSE, Errno::ACCESS, Errno::NOBUFS];

/// Errors of calls for the options and addresses of sockets.
const OPTION: &[Errno] = &[
    Errno::NOPROTOOPT,
    Errno::INVAL,
    Errno::NOTCONN,
    Errno::NOBUFS,
];

const ADD: &[Errno] = &[
    Errno::EXIST,
    Errno::NOMEM,
    Errno::NOSPC,
    Errno::PERM,
    Errno::BADF,
];

const MODIFY: &[Errno] = &[Errno::NOENT, Errno::BADF, Errno::NOMEM];
const DELETE: &[Errno] = &[Errno::NOENT, Errno::BADF];
const NOTIFIER: &[Errno] = &[Errno::AGAIN, Errno::INTR];
const SHUTDOWN: &[Errno] = &[Errno::NOTCONN, Errno::INTR, Errno::IO];
const WAITING: &[Errno] = &[Errno::BADF, Errno::NOTTY, Errno::INVAL];
const DISCONNECT: &[Errno] = &[Errno::BUSY, Errno::INVAL, Errno::INTR, Errno::ACCESS];
const LOCK: &[Errno] = &[Errno::NOLCK, Errno::OPNOTSUPP, Errno::BADF, Errno::NOSYS];
const FOLDER: &[Errno] = &[Errno::ACCESS, Errno::PERM];
const FLAGS: &[Errno] = &[Errno::BADF, Errno::PERM];

/// Returns the errnos that a call of `site` may fail with.
pub(crate) fn errnos(site: Syscall) -> &'static [Errno] {
    match site {
        Syscall::Accept => ACCEPT,
        Syscall::Recv | Syscall::Readv => RECEIVE,
        Syscall::Send | Syscall::Sendmsg => SEND,
        Syscall::Connect => CONNECT,
        Syscall::Socket | Syscall::Socketpair | Syscall::EpollCreate | Syscall::EventFdCreate => {
            MAKE
        }
        Syscall::Bind => BIND,
        Syscall::Listen => LISTEN,
        Syscall::EpollAdd => ADD,
        Syscall::EpollModify => MODIFY,
        Syscall::EpollDelete => DELETE,
        Syscall::EpollWait => &[Errno::INTR],
        Syscall::EventFdRead | Syscall::EventFdWrite => NOTIFIER,
        Syscall::Shutdown => SHUTDOWN,
        Syscall::Fionread => WAITING,
        Syscall::Flock => LOCK,
        Syscall::OpenDir => FOLDER,
        Syscall::Disconnect => DISCONNECT,
        Syscall::Fchmod | Syscall::Fcntl => FLAGS,
        _ => OPTION,
    }
}

/// The cells of both kinds of sockets.
const COMMON: &[(Work, Syscall, &[Errno])] = &[
    (Work::Serving, Syscall::Accept, ACCEPT),
    (Work::Serving, Syscall::Recv, RECEIVE),
    (Work::Serving, Syscall::Send, SEND),
    (Work::Serving, Syscall::Sendmsg, SEND),
    (Work::Serving, Syscall::EpollAdd, ADD),
    (Work::Serving, Syscall::EpollModify, MODIFY),
    (Work::Serving, Syscall::EpollWait, &[Errno::INTR]),
    (Work::Serving, Syscall::EventFdWrite, NOTIFIER),
    (Work::Serving, Syscall::EventFdRead, NOTIFIER),
    (Work::Serving, Syscall::Shutdown, SHUTDOWN),
    (Work::Threads, Syscall::Recv, RECEIVE),
    (Work::Threads, Syscall::Send, SEND),
    (Work::Threads, Syscall::Sendmsg, SEND),
    (Work::Threads, Syscall::EpollModify, MODIFY),
    (Work::Threads, Syscall::EventFdWrite, NOTIFIER),
    (Work::Draining, Syscall::Fionread, WAITING),
    (Work::Draining, Syscall::Shutdown, SHUTDOWN),
    (Work::Dialing, Syscall::Socket, MAKE),
    (Work::Dialing, Syscall::Connect, CONNECT),
    (Work::Dialing, Syscall::EpollAdd, ADD),
    (Work::Dialing, Syscall::EpollModify, MODIFY),
    (Work::Dialing, Syscall::SocketError, OPTION),
    (Work::Dialing, Syscall::Getsockname, OPTION),
    (Work::Dialing, Syscall::Getpeername, OPTION),
    (Work::Making, Syscall::Socket, MAKE),
    (Work::Making, Syscall::Bind, BIND),
    (Work::Making, Syscall::Listen, LISTEN),
    (Work::Making, Syscall::EpollCreate, MAKE),
    (Work::Making, Syscall::EventFdCreate, MAKE),
    (Work::Making, Syscall::EpollAdd, ADD),
    (Work::Making, Syscall::EpollDelete, DELETE),
    (Work::Making, Syscall::Getsockname, OPTION),
];

const TCP: &[(Work, Syscall, &[Errno])] = &[
    (Work::Aborting, Syscall::Disconnect, DISCONNECT),
    (Work::Dialing, Syscall::Setsockopt, OPTION),
    (Work::Making, Syscall::Setsockopt, OPTION),
    (Work::Making, Syscall::Getsockopt, OPTION),
    (Work::Making, Syscall::Fcntl, FLAGS),
];

const UNIX: &[(Work, Syscall, &[Errno])] = &[
    // A TCP connection that closes normally is not deleted from epoll.
    (Work::Serving, Syscall::EpollDelete, DELETE),
    (Work::Making, Syscall::Fchmod, FLAGS),
    (Work::Making, Syscall::Flock, LOCK),
    (Work::Making, Syscall::OpenDir, FOLDER),
];

/// Transfers that are short or empty while clients are served.
const SHORT: &[(Work, Syscall, &[Fault])] = &[
    (Work::Serving, Syscall::Recv, SHORT_TRANSFERS),
    (Work::Serving, Syscall::Send, SHORT_TRANSFERS),
    (Work::Serving, Syscall::Sendmsg, SHORT_TRANSFERS),
    (Work::Threads, Syscall::Send, SHORT_TRANSFERS),
    (Work::Threads, Syscall::Sendmsg, SHORT_TRANSFERS),
    (
        Work::Serving,
        Syscall::EpollWait,
        &[Fault::AtMost(0), Fault::AtMost(1), Fault::Stale],
    ),
];

const SHORT_TRANSFERS: &[Fault] = &[
    Fault::AtMost(0),
    Fault::AtMost(1),
    Fault::AtMost(2),
    Fault::AtMost(7),
];

/// Returns all cells of one kind of socket.
pub(crate) fn cells(kind: Kind) -> Vec<Cell> {
    let own = match kind {
        Kind::Tcp => TCP,
        Kind::Unix => UNIX,
    };
    let errnos = COMMON.iter().chain(own);
    let failing = errnos.flat_map(move |&(work, site, errnos)| {
        errnos.iter().map(move |&errno| Cell {
            work,
            kind,
            site,
            fault: Fault::Errno(errno),
        })
    });
    let short = SHORT.iter().flat_map(move |&(work, site, faults)| {
        faults.iter().map(move |&fault| Cell {
            work,
            kind,
            site,
            fault,
        })
    });
    failing.chain(short).collect()
}
