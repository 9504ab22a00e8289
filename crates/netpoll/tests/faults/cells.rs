// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cells of the matrix: which call, in which work, comes out how.

use std::io;

use netpoll_sys::faults::{Errno, Fault, Installed, Plan, Site, When};

use crate::support::Kind;
use crate::work::Work;

/// One fault at one call, or at all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    pub(crate) site: Site,
    pub(crate) fault: Fault,
    pub(crate) when: When,
}

impl Strike {
    pub(crate) fn install(self) -> Installed {
        let Self { site, fault, when } = self;
        Plan::new(when, move |called| (called == site).then_some(fault)).install()
    }

    pub(crate) fn is_for_good(self) -> bool {
        matches!(self.when, When::From(_))
    }

    /// Whether nobody may notice: what is to be done can be done again, or is done by another way.
    pub(crate) fn is_harmless(self) -> bool {
        match (self.site, self.fault) {
            (
                Site::Accept
                | Site::EpollWait
                | Site::EpollDelete
                | Site::EventFdRead
                | Site::EventFdWrite
                | Site::Shutdown
                // The last close resets, too.
                | Site::Disconnect
                // A peer is who was dialed, then.
                | Site::Getpeername
                // Where there are no locks, paths are made without.
                | Site::Flock
                | Site::OpenFolder,
                _,
            )
            | (Site::EpollAdd, Fault::Errno(Errno::EXIST))
            | (
                Site::Recv | Site::Send | Site::Sendmsg | Site::EpollModify,
                Fault::Errno(Errno::INTR | Errno::AGAIN),
            )
            | (
                Site::Connect,
                Fault::Errno(Errno::INPROGRESS | Errno::INTR | Errno::ALREADY | Errno::ISCONN),
            ) => true,
            (Site::Recv | Site::Send | Site::Sendmsg, Fault::AtMost(most)) => most > 0,
            _ => false,
        }
    }

    /// Whether a connection may have met it that its peer sees the end of.
    pub(crate) fn is_of_a_session(self) -> bool {
        matches!(self.site, Site::EpollAdd | Site::EpollModify)
    }

    /// Whether an error is what this fault looks like from outside.
    pub(crate) fn is_told_by(self, error: &io::Error) -> bool {
        let kind = error.kind();
        match (self.site, self.fault) {
            // What cannot be asked whether it listens is not taken for a listener.
            (Site::Getsockopt, _) => kind == io::ErrorKind::InvalidInput,
            (_, Fault::Errno(errno)) => error.raw_os_error() == Some(errno.raw_os_error()),
            (_, Fault::AtMost(0)) => kind == io::ErrorKind::WriteZero,
            _ => false,
        }
    }
}

/// A cell before it is said when it strikes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) work: Work,
    pub(crate) kind: Kind,
    pub(crate) site: Site,
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

/// Of what makes a descriptor.
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

/// Of the options and names of sockets.
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
const BELL: &[Errno] = &[Errno::AGAIN, Errno::INTR];
const SHUTDOWN: &[Errno] = &[Errno::NOTCONN, Errno::INTR, Errno::IO];
const WAITING: &[Errno] = &[Errno::BADF, Errno::NOTTY, Errno::INVAL];
const DISCONNECT: &[Errno] = &[Errno::BUSY, Errno::INVAL, Errno::INTR, Errno::ACCESS];
const LOCK: &[Errno] = &[Errno::NOLCK, Errno::OPNOTSUPP, Errno::BADF, Errno::NOSYS];
const FOLDER: &[Errno] = &[Errno::ACCESS, Errno::PERM];
const FLAGS: &[Errno] = &[Errno::BADF, Errno::PERM];

/// The errnos that a call of `site` may have.
pub(crate) fn errnos(site: Site) -> &'static [Errno] {
    match site {
        Site::Accept => ACCEPT,
        Site::Recv | Site::Readv => RECEIVE,
        Site::Send | Site::Sendmsg => SEND,
        Site::Connect => CONNECT,
        Site::Socket | Site::Socketpair | Site::EpollCreate | Site::EventFdCreate => MAKE,
        Site::Bind => BIND,
        Site::Listen => LISTEN,
        Site::EpollAdd => ADD,
        Site::EpollModify => MODIFY,
        Site::EpollDelete => DELETE,
        Site::EpollWait => &[Errno::INTR],
        Site::EventFdRead | Site::EventFdWrite => BELL,
        Site::Shutdown => SHUTDOWN,
        Site::Fionread => WAITING,
        Site::Flock => LOCK,
        Site::OpenFolder => FOLDER,
        Site::Disconnect => DISCONNECT,
        Site::Fchmod | Site::Fcntl => FLAGS,
        _ => OPTION,
    }
}

/// What the works have in common over both kinds of sockets.
const COMMON: &[(Work, Site, &[Errno])] = &[
    (Work::Serving, Site::Accept, ACCEPT),
    (Work::Serving, Site::Recv, RECEIVE),
    (Work::Serving, Site::Send, SEND),
    (Work::Serving, Site::Sendmsg, SEND),
    (Work::Serving, Site::EpollAdd, ADD),
    (Work::Serving, Site::EpollModify, MODIFY),
    (Work::Serving, Site::EpollWait, &[Errno::INTR]),
    (Work::Serving, Site::EventFdWrite, BELL),
    (Work::Serving, Site::EventFdRead, BELL),
    (Work::Serving, Site::Shutdown, SHUTDOWN),
    (Work::Threads, Site::Recv, RECEIVE),
    (Work::Threads, Site::Send, SEND),
    (Work::Threads, Site::Sendmsg, SEND),
    (Work::Threads, Site::EpollModify, MODIFY),
    (Work::Threads, Site::EventFdWrite, BELL),
    (Work::Draining, Site::Fionread, WAITING),
    (Work::Draining, Site::Shutdown, SHUTDOWN),
    (Work::Dialing, Site::Socket, MAKE),
    (Work::Dialing, Site::Connect, CONNECT),
    (Work::Dialing, Site::EpollAdd, ADD),
    (Work::Dialing, Site::EpollModify, MODIFY),
    (Work::Dialing, Site::SocketError, OPTION),
    (Work::Dialing, Site::Getsockname, OPTION),
    (Work::Dialing, Site::Getpeername, OPTION),
    (Work::Making, Site::Socket, MAKE),
    (Work::Making, Site::Bind, BIND),
    (Work::Making, Site::Listen, LISTEN),
    (Work::Making, Site::EpollCreate, MAKE),
    (Work::Making, Site::EventFdCreate, MAKE),
    (Work::Making, Site::EpollAdd, ADD),
    (Work::Making, Site::EpollDelete, DELETE),
    (Work::Making, Site::Getsockname, OPTION),
];

const TCP: &[(Work, Site, &[Errno])] = &[
    (Work::Aborting, Site::Disconnect, DISCONNECT),
    (Work::Dialing, Site::Setsockopt, OPTION),
    (Work::Making, Site::Setsockopt, OPTION),
    (Work::Making, Site::Getsockopt, OPTION),
    (Work::Making, Site::Fcntl, FLAGS),
];

const UNIX: &[(Work, Site, &[Errno])] = &[
    // Of a TCP connection that ends in order nothing is deleted.
    (Work::Serving, Site::EpollDelete, DELETE),
    (Work::Making, Site::Fchmod, FLAGS),
    (Work::Making, Site::Flock, LOCK),
    (Work::Making, Site::OpenFolder, FOLDER),
];

/// What comes out short, or of nothing, while clients are served.
const SHORT: &[(Work, Site, &[Fault])] = &[
    (Work::Serving, Site::Recv, SHORT_TRANSFERS),
    (Work::Serving, Site::Send, SHORT_TRANSFERS),
    (Work::Serving, Site::Sendmsg, SHORT_TRANSFERS),
    (Work::Threads, Site::Send, SHORT_TRANSFERS),
    (Work::Threads, Site::Sendmsg, SHORT_TRANSFERS),
    (
        Work::Serving,
        Site::EpollWait,
        &[Fault::AtMost(0), Fault::AtMost(1), Fault::Stale],
    ),
];

const SHORT_TRANSFERS: &[Fault] = &[
    Fault::AtMost(0),
    Fault::AtMost(1),
    Fault::AtMost(2),
    Fault::AtMost(7),
];

/// All of them over one kind of socket.
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
