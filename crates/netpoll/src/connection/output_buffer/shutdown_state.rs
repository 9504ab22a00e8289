// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an outbox stops taking: for this side's FIN, for a socket that is taken away, or for good.

use std::io;

use netpoll_buffer::LinkBuffer;

use super::{OutputBuffer, SendState};
use crate::error::{CloseReason, WriteAfterShutdown};
use crate::foreign::{DeferredDrop, Wakeup};

/// Whether this side's stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShutdownState {
    Open,
    /// Puts are discarded; what was put before is sent, or was.
    ShutDown,
    /// As finished, and something was put.
    WriteAfterShutdown,
    /// As finished, and all that was put before has left, our FIN too.
    FinSent,
    /// Puts are discarded; the socket is to be taken away when what was put before is sent.
    DetachPending,
    /// It was.
    Detached,
}

impl OutputBuffer {
    /// Why nothing is taken any more, if that is so.
    pub(crate) fn closed_error(&self) -> Option<io::Error> {
        match (self.shutdown_state, &self.close_reason) {
            (_, Some(reason)) => Some(reason.to_error()),
            (ShutdownState::Open, None) => None,
            (
                ShutdownState::ShutDown
                | ShutdownState::WriteAfterShutdown
                | ShutdownState::FinSent,
                None,
            ) => Some(WriteAfterShutdown::new().into()),
            (ShutdownState::DetachPending | ShutdownState::Detached, None) => {
                Some(io::ErrorKind::NotConnected.into())
            }
        }
    }

    /// Discards what the owner has not committed, and what comes from now on. What was put before, by
    /// whomever, stays to be sent.
    pub(crate) fn shut_down(&mut self) -> DeferredDrop<LinkBuffer> {
        if !self.is_open() {
            return DeferredDrop::none();
        }
        self.shutdown_state = ShutdownState::ShutDown;
        self.headroom = 0;
        self.discard_uncommitted()
    }

    /// Ends every reservation, and gives what was uncommitted, to be dropped after the lock.
    pub(crate) fn discard_uncommitted(&mut self) -> DeferredDrop<LinkBuffer> {
        self.take_uncommitted()
            .map_or_else(DeferredDrop::none, DeferredDrop::new)
    }

    /// Our FIN is sent, behind all that was put.
    pub(crate) fn set_fin_sent(&mut self) {
        if self.shutdown_state == ShutdownState::ShutDown {
            self.shutdown_state = ShutdownState::FinSent;
        }
    }

    /// As [`shut_down`](Self::shut_down), for a socket that is to be taken away.
    pub(crate) fn begin_detach(&mut self) -> DeferredDrop<LinkBuffer> {
        if !self.is_open() {
            return DeferredDrop::none();
        }
        let draft = self.shut_down();
        self.shutdown_state = ShutdownState::DetachPending;
        draft
    }

    /// Whether this side's stream was to end.
    pub(crate) fn is_shut_down(&self) -> bool {
        matches!(
            self.shutdown_state,
            ShutdownState::ShutDown | ShutdownState::FinSent | ShutdownState::WriteAfterShutdown
        )
    }

    /// The socket is taken away; gives the waker of whoever waits for it.
    pub(crate) fn detach(&mut self, reason: CloseReason) -> Wakeup {
        self.close(reason);
        self.shutdown_state = ShutdownState::Detached;
        self.take_waiter()
    }

    /// Whether the socket was taken away.
    pub(crate) fn is_detached(&self) -> bool {
        self.shutdown_state == ShutdownState::Detached
    }

    /// Whether the socket was taken away, or why it was not.
    pub(crate) fn detach_result(&self) -> Option<io::Result<()>> {
        match (self.shutdown_state, &self.close_reason) {
            (ShutdownState::Detached, _) => Some(Ok(())),
            (_, Some(reason)) => Some(Err(reason.to_error())),
            (_, None) => None,
        }
    }

    /// As [`close`](Self::close); gives the waker of whoever waits for something that will not come
    /// now, although nothing is unsent, and what was uncommitted and will not be sent.
    pub(crate) fn close_and_notify(
        &mut self,
        reason: CloseReason,
    ) -> (Wakeup, DeferredDrop<LinkBuffer>) {
        self.close(reason);
        let wakeup = match self.unsent() {
            0 => self.take_waiter(),
            _ => Wakeup::none(),
        };
        (wakeup, self.discard_uncommitted())
    }

    /// The connection is over, for `reason`.
    pub(crate) fn finalize(&mut self, reason: CloseReason) {
        self.headroom = 0;
        self.close_reason = Some(Box::new(reason));
        self.send_state = SendState::Finalized;
    }

    /// Why the connection is over, if it is.
    pub(crate) fn final_reason(&self) -> Option<CloseReason> {
        let over = self.send_state == SendState::Finalized;
        self.close_reason().filter(|_| over).cloned()
    }
}
