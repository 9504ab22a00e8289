// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Connection`]: what user code holds while it works on a connection.
//!
//! ```text
//!   poller's thread                          whoever holds the Connection
//!   ───────────────                          ────────────────────────────
//!   Session ─┐                         ┌──── Connection: the input it has taken
//!            ├──▶ Link: fd, bell  ◀────┤
//!   landed ──┼──▶ Inbox  ──────────────┼──▶ Reader
//!   sent   ◀─┼─── Outbox ◀─────────────┴─── Writer
//! ```
//!
//! A connection has one owner at a time. Idle, it belongs to its session, which its poller drives.
//! When data comes the session hands it to the handler, whose future gives it back. So
//! `&mut Connection` is the lock: no call on it can meet another. What goes on meanwhile, the
//! poller reading and sending, meets it only in the [`link::Link`], under locks that are held to
//! append or to take a chain.
//!
//! * [`state`] is the life of a connection, [`session`] drives it, [`teardown`] ends it, [`finish`]
//!   only its output, [`drain`] once what is under way is answered, [`leave`] lets its socket go on
//!   without it, [`flow`] bounds its bytes and [`clock`] its time, [`partial`] that of what has begun to
//!   come;
//! * [`inbox`] and [`outbox`] are where bytes wait, [`input`] what was taken, [`reader`] and [`writer`]
//!   how user code sees them, [`frames`] by the frame, [`halves`] the two with an owner each,
//!   [`blocking`] both as a stream of the standard library's, and [`handle`] what others may ask;
//! * [`in_flight`] counts the work that is under way for it elsewhere, and [`debt`] tells who may owe an
//!   answer besides;
//! * [`liveness`] is whether it can be used, [`notices`] who is told of the end, [`draining`] and
//!   [`end_watch`] who is told before, and [`rare`] what only
//!   few connections have;
//! * [`tally`] is what is counted, and [`watchdog`] tells who holds a poller for too long;
//! * [`handler`] is user code, [`burst`] makes one future of several calls of it, [`calling`] has
//!   them carried out, [`inline`] on the poller or by an [`errand`] elsewhere, [`service`] makes
//!   sessions of newcomers, and [`serve`] of connections that somebody owned.

pub(crate) mod attached;
pub(crate) mod blocking;
pub(crate) mod burst;
pub(crate) mod calling;
pub(crate) mod clock;
mod debt;
mod drain;
mod draining;
pub(crate) mod end_watch;
pub(crate) mod errand;
pub(crate) mod finish;
pub(crate) mod flow;
pub(crate) mod frames;
pub(crate) mod halves;
pub(crate) mod handle;
pub(crate) mod handler;
mod hearing;
pub(crate) mod in_flight;
pub(crate) mod inbox;
pub(crate) mod inline;
pub(crate) mod input;
pub(crate) mod leave;
pub(crate) mod link;
pub(crate) mod liveness;
pub(crate) mod notices;
pub(crate) mod outbox;
mod partial;
pub(crate) mod rare;
pub(crate) mod reader;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod state;
pub(crate) mod tally;
pub(crate) mod teardown;
pub(crate) mod watchdog;
pub(crate) mod write_queue;
pub(crate) mod writer;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netpoll_sys::PeerCredentials;
use netpoll_sys::credentials::peer_credentials;

use crate::addr::Addr;
use crate::sync::Arc;
use crate::timeouts::Timeouts;
use attached::Attached;
use halves::Grip;
use handle::ConnectionHandle;
use input::Input;
use link::{Ending, Link};
use reader::Reader;
use writer::Writer;

/// A connection of the stream kind: the input it has received, and the way to its output.
///
/// A handler of [`on_request`](crate::Builder::on_request) borrows it, one of
/// [`on_connection`](crate::Builder::on_connection) and a [`Dialer`](crate::Dialer)'s caller own it.
/// `Send`: an owned connection may move to another thread and be used with any executor; its
/// poller goes on reading and sending for it. Dropping an owned one is [`close`](Self::close).
pub struct Connection {
    /// First, so that the end is asked for before anything is let go.
    link: Grip,
    /// Boxed, because a connection moves into a future and out of it with every burst.
    held: Box<Held>,
}

/// What goes with a connection, besides its link.
#[derive(Debug)]
struct Held {
    input: Input,
    attached: Attached,
}

impl Connection {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        let max_frame = link.options.max_frame;
        Self {
            link: Grip::new(link),
            held: Box::new(Held {
                input: Input::new(max_frame),
                attached: Attached::default(),
            }),
        }
    }

    /// Both directions at once, each with its own borrow.
    #[inline]
    pub fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        (
            Reader::new(&self.link, &mut self.held.input),
            Writer::new(&self.link),
        )
    }

    /// The reading side.
    #[inline]
    pub fn reader(&mut self) -> Reader<'_> {
        Reader::new(&self.link, &mut self.held.input)
    }

    /// The writing side.
    #[inline]
    pub fn writer(&mut self) -> Writer<'_> {
        Writer::new(&self.link)
    }

    /// The address of the other end, as the kernel said it when the connection was made
    /// (`getpeername(2)`): a dial of `0.0.0.0:80` has the peer `127.0.0.1:80`. A socket of IPv6 has a
    /// peer of IPv4 in the form `[::ffff:127.0.0.1]:80`, on a listener of both families as after a dial
    /// of such an address; [`Addr::to_canonical`] makes `127.0.0.1:80` of it. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.link.peer()
    }

    /// The address of this end. One system call.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` fails with.
    pub fn local_addr(&self) -> io::Result<Addr> {
        self.link.local_addr()
    }

    /// The process at the other end of a Unix socket, as it was when it connected. One system
    /// call.
    ///
    /// # Errors
    ///
    /// `ENOPROTOOPT` (by its errno) for a connection that is not one of a Unix socket.
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        peer_credentials(self.link.as_fd())
    }

    /// Asks for an orderly end: what was put is sent, then FIN, then input is thrown away until
    /// the peer's FIN or for [`linger`](crate::Timeouts::linger). Returns at once; the poller
    /// does it, after the running handler has returned. Idempotent.
    pub fn close(&self) {
        self.link.ask_end(Ending::Close);
    }

    /// Ends the connection with a reset: what is unsent is thrown away, and the peer is sent RST before
    /// this returns, also while a handler works on the connection, blocks its poller, or an owner or a
    /// waker still holds it. The end is reported as ever: once the handler has returned or waits. The
    /// descriptor stays open, connected to nothing, until the last holder lets go.
    ///
    /// A Unix socket has no reset: both of its directions end at once, and the peer reads the end of
    /// the stream. Any thread; idempotent, also after [`close`](Self::close). Four system calls and two
    /// small allocations at most; they act on every duplicate of the descriptor.
    pub fn abort(&self) {
        self.link.ask_end(Ending::Abort);
    }

    /// Has nothing read for this connection from now on, until
    /// [`resume_reads`](Self::resume_reads): the kernel's buffer fills, and the peer has to wait.
    /// What has come by then is there, and handlers are called for it. While reads are paused the
    /// peer's end is not seen, and its silence is not held against it. Any thread; idempotent.
    pub fn pause_reads(&self) {
        self.link.pause_reads();
    }

    /// Has this connection read again. Any thread; idempotent.
    pub fn resume_reads(&self) {
        self.link.resume_reads();
    }

    /// What can be asked of this connection from elsewhere. No allocation.
    #[must_use]
    pub fn handle(&self) -> ConnectionHandle {
        ConnectionHandle::new(&self.link)
    }

    /// How long what may take on this connection now.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.link.timeouts()
    }

    /// Changes how long what may take, from now on: also for a call that waits already, which is
    /// measured by it from when it began. Any thread; at most one system call.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::InvalidConfig), naming the field, for a time of zero; then nothing
    /// is changed.
    pub fn set_timeouts(&self, timeouts: Timeouts) -> io::Result<()> {
        timeouts.check()?;
        self.link.set_timeouts(timeouts);
        Ok(())
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) fn input(&mut self) -> &mut Input {
        &mut self.held.input
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.link.peer())
            .field("input", &self.held.input.chain)
            .finish_non_exhaustive()
    }
}
