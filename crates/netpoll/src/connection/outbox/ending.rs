// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an outbox stops taking: for this side's FIN, for a socket that is taken away, or for good.

use std::io;

use netpoll_buffer::LinkBuffer;

use super::{Outbox, Way};
use crate::error::{AfterFinish, CloseReason};
use crate::foreign::{Deferred, Wakeup};

/// Whether this side's stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Open,
    /// Puts are discarded; what was put before is sent, or was.
    Finished,
    /// As finished, and something was put.
    Missed,
    /// As finished, and all that was put before has left, our FIN too.
    Sent,
    /// Puts are discarded; the socket is to be taken away when what was put before is sent.
    Promised,
    /// It was.
    Given,
}

impl Outbox {
    /// Why nothing is taken any more, if that is so.
    pub(crate) fn why_not_open(&self) -> Option<io::Error> {
        match (self.stream, &self.closed) {
            (_, Some(reason)) => Some(reason.to_error()),
            (Stream::Open, None) => None,
            (Stream::Finished | Stream::Missed | Stream::Sent, None) => {
                Some(AfterFinish::new().into())
            }
            (Stream::Promised | Stream::Given, None) => Some(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Discards what the owner has not committed, and what comes from now on. What was put before, by
    /// whomever, stays to be sent.
    pub(crate) fn finish(&mut self) -> Deferred<LinkBuffer> {
        if !self.is_open() {
            return Deferred::none();
        }
        self.stream = Stream::Finished;
        self.slack = 0;
        self.discard_draft()
    }

    /// Ends every reservation, and gives what was uncommitted, to be dropped after the lock.
    pub(crate) fn discard_draft(&mut self) -> Deferred<LinkBuffer> {
        self.take_draft().map_or_else(Deferred::none, Deferred::new)
    }

    /// Our FIN is sent, behind all that was put.
    pub(crate) fn finished(&mut self) {
        if self.stream == Stream::Finished {
            self.stream = Stream::Sent;
        }
    }

    /// As [`finish`](Self::finish), for a socket that is to be taken away.
    pub(crate) fn leave(&mut self) -> Deferred<LinkBuffer> {
        if !self.is_open() {
            return Deferred::none();
        }
        let draft = self.finish();
        self.stream = Stream::Promised;
        draft
    }

    /// Whether this side's stream was to end.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(
            self.stream,
            Stream::Finished | Stream::Sent | Stream::Missed
        )
    }

    /// The socket is taken away; gives the waker of whoever waits for it.
    pub(crate) fn let_go(&mut self, reason: CloseReason) -> Wakeup {
        self.close(reason);
        self.stream = Stream::Given;
        self.stop_waiting()
    }

    /// Whether the socket was taken away.
    pub(crate) fn is_given_away(&self) -> bool {
        self.stream == Stream::Given
    }

    /// Whether the socket was taken away, or why it was not.
    pub(crate) fn has_left(&self) -> Option<io::Result<()>> {
        match (self.stream, &self.closed) {
            (Stream::Given, _) => Some(Ok(())),
            (_, Some(reason)) => Some(Err(reason.to_error())),
            (_, None) => None,
        }
    }

    /// As [`close`](Self::close); gives the waker of whoever waits for something that will not come
    /// now, although nothing is unsent, and what was uncommitted and will not be sent.
    pub(crate) fn close_and_tell(&mut self, reason: CloseReason) -> (Wakeup, Deferred<LinkBuffer>) {
        self.close(reason);
        let wakeup = match self.unsent() {
            0 => self.stop_waiting(),
            _ => Wakeup::none(),
        };
        (wakeup, self.discard_draft())
    }

    /// The connection is over, for `reason`.
    pub(crate) fn over(&mut self, reason: CloseReason) {
        self.slack = 0;
        self.closed = Some(Box::new(reason));
        self.way = Way::Over;
    }

    /// Why the connection is over, if it is.
    pub(crate) fn is_over(&self) -> Option<CloseReason> {
        let over = self.way == Way::Over;
        self.closed().filter(|_| over).cloned()
    }
}
