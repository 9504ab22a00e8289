// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an output buffer stops accepting puts: for this side's FIN, for a socket that is detached,
//! or for good.

use std::io;

use netpoll_buffer::LinkBuffer;

use super::{OutputBuffer, SendState};
use crate::error::{CloseReason, ErrorKind};
use crate::foreign::{DeferredDrop, Wakeup};

/// The state of this side's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShutdownState {
    Open,
    /// Puts are discarded; earlier output is sent, and then FIN.
    ShutDown,
    /// As `ShutDown` or `FinSent`, and a later put was discarded.
    WriteAfterShutdown,
    /// As `ShutDown`; all earlier output and our FIN are sent.
    FinSent,
    /// Puts are discarded; the socket is detached once earlier output is sent.
    DetachPending,
    /// The socket is detached.
    Detached,
}

impl OutputBuffer {
    /// Returns why puts are refused, if they are.
    pub(crate) fn closed_error(&self) -> Option<io::Error> {
        match (self.shutdown_state, &self.close_reason) {
            (_, Some(reason)) => Some(reason.to_error()),
            (ShutdownState::Open, None) => None,
            (
                ShutdownState::ShutDown
                | ShutdownState::WriteAfterShutdown
                | ShutdownState::FinSent,
                None,
            ) => Some(ErrorKind::WriteAfterShutdown.into()),
            (ShutdownState::DetachPending | ShutdownState::Detached, None) => {
                Some(io::ErrorKind::NotConnected.into())
            }
        }
    }

    /// Discards uncommitted bytes and all later puts. Earlier output of any writer stays to be
    /// sent.
    pub(crate) fn shut_down(&mut self) -> DeferredDrop<LinkBuffer> {
        if !self.is_open() {
            return DeferredDrop::none();
        }
        self.shutdown_state = ShutdownState::ShutDown;
        self.headroom = 0;
        self.discard_uncommitted()
    }

    /// Ends every reservation, and returns the uncommitted bytes, to be dropped after the lock.
    pub(crate) fn discard_uncommitted(&mut self) -> DeferredDrop<LinkBuffer> {
        self.take_uncommitted()
            .map_or_else(DeferredDrop::none, DeferredDrop::new)
    }

    /// Records that our FIN is sent now, behind all output. Returns whether it is owed: the stream
    /// was shut down, and no FIN is recorded.
    pub(crate) fn set_fin_sent(&mut self) -> bool {
        match self.shutdown_state {
            ShutdownState::ShutDown => {
                self.shutdown_state = ShutdownState::FinSent;
                true
            }
            ShutdownState::WriteAfterShutdown => true,
            ShutdownState::Open
            | ShutdownState::FinSent
            | ShutdownState::DetachPending
            | ShutdownState::Detached => false,
        }
    }

    /// As [`shut_down`](Self::shut_down), for a socket that will be detached.
    pub(crate) fn begin_detach(&mut self) -> DeferredDrop<LinkBuffer> {
        if !self.is_open() {
            return DeferredDrop::none();
        }
        let uncommitted = self.shut_down();
        self.shutdown_state = ShutdownState::DetachPending;
        uncommitted
    }

    /// Returns whether this side's stream was shut down.
    pub(crate) fn is_shut_down(&self) -> bool {
        matches!(
            self.shutdown_state,
            ShutdownState::ShutDown | ShutdownState::FinSent | ShutdownState::WriteAfterShutdown
        )
    }

    /// Marks the socket as detached, and returns the waker of the waiting call.
    pub(crate) fn detach(&mut self, reason: CloseReason) -> Wakeup {
        self.close(reason);
        self.shutdown_state = ShutdownState::Detached;
        self.take_waiter()
    }

    /// Returns whether the socket is detached.
    pub(crate) fn is_detached(&self) -> bool {
        self.shutdown_state == ShutdownState::Detached
    }

    /// Returns `Ok` once the socket is detached, the reason if the connection ended before, and
    /// `None` while it has to wait.
    pub(crate) fn detach_result(&self) -> Option<io::Result<()>> {
        match (self.shutdown_state, &self.close_reason) {
            (ShutdownState::Detached, _) => Some(Ok(())),
            (_, Some(reason)) => Some(Err(reason.to_error())),
            (_, None) => None,
        }
    }

    /// As [`close`](Self::close). Returns the uncommitted bytes, which will not be sent, and, if
    /// nothing is unsent, the waker of a wait that cannot complete otherwise.
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

    /// Marks the connection as over, for `reason`.
    pub(crate) fn finalize(&mut self, reason: CloseReason) {
        self.headroom = 0;
        self.close_reason = Some(Box::new(reason));
        self.send_state = SendState::Finalized;
    }

    /// Returns why the connection is over, if it is.
    pub(crate) fn final_reason(&self) -> Option<CloseReason> {
        let over = self.send_state == SendState::Finalized;
        self.close_reason().filter(|_| over).cloned()
    }
}
