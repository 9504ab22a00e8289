// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel side of a poller: an enum of backends, chosen at run time.
//!
//! Each backend provides the poller with three operations:
//!
//! * *wait* until an event of a registered source, the timeout, or a write to the mailbox's
//!   eventfd;
//! * *receive* into a buffer that is passed by value, and return the number of bytes or the end of
//!   the input;
//! * *send* an outgoing buffer, and leave the part that was not sent.
//!
//! The epoll backend performs these when it is called, after readiness. A completion-based backend
//! starts them when it is called and reports them from its wait; the source sees no difference.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netpoll_buffer::Tail;
use netpoll_sys::{Epoll, EventFd, Events, Interest, Readiness, transfer};

use super::source::Outgoing;
use super::source_output;
use super::token::Token;

/// The most events of one wait. More than this only delays the mailbox.
const MAX_EVENTS: usize = 1024;

/// The backend of one poller.
#[derive(Debug)]
pub(super) enum Driver {
    /// Readiness-based: the methods below make the system calls.
    Epoll { epoll: Epoll, events: Events },
}

impl Driver {
    /// Creates an epoll driver that also watches `notifier`.
    pub(super) fn epoll(notifier: &EventFd) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        add(&epoll, notifier.as_fd(), Token::MAILBOX, Interest::READABLE)?;
        Ok(Self::Epoll {
            epoll,
            events: Events::with_capacity(MAX_EVENTS),
        })
    }

    /// Waits, and returns the number of events.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        match self {
            Self::Epoll { epoll, events } => epoll.wait(events, timeout),
        }
    }

    /// Returns the event at `index` of the last wait.
    #[inline]
    pub(super) fn event(&self, index: usize) -> Option<(Token, Readiness)> {
        match self {
            Self::Epoll { events, .. } => events
                .get(index)
                .map(|(bits, readiness)| (Token::from_bits(bits), readiness)),
        }
    }

    /// Changes the interest of `fd` from `before` to `after`.
    pub(super) fn update_interest(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        before: Option<Interest>,
        after: Option<Interest>,
    ) -> io::Result<()> {
        let Self::Epoll { epoll, .. } = self;
        match (before, after) {
            (None, Some(interest)) => add(epoll, fd, token, interest),
            (Some(_), Some(interest)) => epoll.modify(fd, token.bits(), interest),
            (Some(_), None) => epoll.delete(fd),
            (None, None) => Ok(()),
        }
    }

    /// Receives bytes that have arrived, up to the length of `buffer`.
    #[inline]
    pub(super) fn receive(&self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Epoll { .. } => transfer::receive(fd, buffer),
        }
    }

    /// Receives into the spare capacity of `tail`, at most `limit` bytes.
    pub(super) fn receive_into_tail(
        &self,
        fd: BorrowedFd<'_>,
        tail: &mut Tail,
        limit: usize,
    ) -> io::Result<usize> {
        tail.fill_with(limit, |buffer| self.receive(fd, buffer))
    }

    /// Sends until all is sent or the socket takes no more. Leaves the rest in `outgoing`, and
    /// returns the number of bytes sent, which may be 0.
    #[inline]
    pub(super) fn send(&self, fd: BorrowedFd<'_>, outgoing: &mut Outgoing) -> io::Result<usize> {
        match self {
            Self::Epoll { .. } => source_output::send(fd, outgoing),
        }
    }
}

/// Registers `fd`. If an earlier failed call left it registered, updates its interest instead.
fn add(epoll: &Epoll, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
    match epoll.add(fd, token.bits(), interest) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            epoll.modify(fd, token.bits(), interest)
        }
        added => added,
    }
}
