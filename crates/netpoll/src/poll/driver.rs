// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's side of a poller: an enum of backends, chosen at run time.
//!
//! What each backend owes the poller:
//!
//! * *wait* until something happened to a watched source, the time is up, or the bell of the
//!   mailbox rang;
//! * *receive* into room that is lent by value, and say how much landed or how the input ended;
//! * *send* an outgoing chain, and leave what of it did not go.
//!
//! The epoll backend does these when it is called, after readiness. A backend of completions
//! starts them when it is called and reports them out of its wait; the source sees no difference.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netpoll_buffer::Tail;
use netpoll_sys::{Epoll, EventFd, Events, Interest, Readiness, transfer};

use super::source::Outgoing;
use super::source_output;
use super::token::Token;

/// How many events one wait brings at most. More than this only delays the mailbox.
const MAX_EVENTS: usize = 1024;

/// The backend of one poller.
#[derive(Debug)]
pub(super) enum Driver {
    /// Readiness: the calls are made here.
    Epoll { epoll: Epoll, events: Events },
}

impl Driver {
    /// A driver over epoll that also listens for `bell`.
    pub(super) fn epoll(notifier: &EventFd) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        add(&epoll, notifier.as_fd(), Token::MAILBOX, Interest::READABLE)?;
        Ok(Self::Epoll {
            epoll,
            events: Events::with_capacity(MAX_EVENTS),
        })
    }

    /// Waits, and says how many events there are.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        match self {
            Self::Epoll { epoll, events } => epoll.wait(events, timeout),
        }
    }

    /// The `index`-th event of the last wait.
    #[inline]
    pub(super) fn event(&self, index: usize) -> Option<(Token, Readiness)> {
        match self {
            Self::Epoll { events, .. } => events
                .get(index)
                .map(|(bits, readiness)| (Token::from_bits(bits), readiness)),
        }
    }

    /// Watches `fd` as it is wanted: from, with, and until which interest.
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

    /// Receives what is there, as far as `room` goes.
    #[inline]
    pub(super) fn receive(&self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Epoll { .. } => transfer::receive(fd, buffer),
        }
    }

    /// Receives behind `tail`, at most `limit` bytes.
    pub(super) fn receive_into_tail(
        &self,
        fd: BorrowedFd<'_>,
        tail: &mut Tail,
        limit: usize,
    ) -> io::Result<usize> {
        tail.fill_with(limit, |buffer| self.receive(fd, buffer))
    }

    /// Sends until all is gone or the socket takes no more; leaves what did not go, and says how much
    /// went, 0 if nothing did.
    #[inline]
    pub(super) fn send(&self, fd: BorrowedFd<'_>, outgoing: &mut Outgoing) -> io::Result<usize> {
        match self {
            Self::Epoll { .. } => source_output::send(fd, outgoing),
        }
    }
}

/// Watches `fd`. What a failed call has left watched is watched as it is wanted now.
fn add(epoll: &Epoll, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
    match epoll.add(fd, token.bits(), interest) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            epoll.modify(fd, token.bits(), interest)
        }
        added => added,
    }
}
