// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a session does that hears its bell: that of the handler's waker, of whoever has sent or wants
//! to, of a clock that was changed; and what follows when a send has failed, whoever made it.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;

use netpoll_sys::socket;

use super::calling::Caller;
use super::flow::More;
use super::session::Session;
use crate::poll::bell::{Signal, Signals};
use crate::poll::source::{Next, Turn};
use crate::sync::lock;

impl<C: Caller> Session<C> {
    /// Does what was rung for, and what was left to do.
    pub(super) fn heard(&mut self, signals: Signals, turn: &mut Turn) -> Next {
        self.before_handler(turn);
        if signals.has(Signal::Poll) {
            self.poll_handler();
        }
        if signals.has(Signal::Send) {
            self.hear_of_sends();
        }
        if signals.has(Signal::Resume) {
            // Its peer could not be heard till now.
            self.link.tally.moved(turn.moment());
        }
        if let Some(next) = self.succeed(turn) {
            return next;
        }
        if self.flow.more != More::No && self.stays_open() {
            self.offer();
        }
        if signals.has(Signal::Clock) {
            return self.next_with_deadline(turn);
        }
        self.next(turn)
    }

    pub(super) fn sending_failed(&mut self, error: io::Error) {
        let peer_is_gone = is_end_of_peer(&error);
        let end = self.output_broke(error);
        // What the peer sent before it went can still be read; other errors end both.
        if peer_is_gone {
            // A peer that reads no more may be there yet, and would wait for an answer for as long
            // as we do for its end: this is the end to both, behind what was sent.
            let _ended = socket::shutdown(self.link.as_fd(), Shutdown::Both).ok();
        } else {
            self.end_input(end);
        }
    }

    /// Somebody else has sent, or tried to.
    fn hear_of_sends(&mut self) {
        let mut outbox = lock(&self.link.outbox);
        self.flow.unsent = outbox.held_up();
        let failure = outbox.take_failure();
        drop(outbox);
        if let Some(error) = failure {
            self.sending_failed(error);
        }
    }
}

/// Whether a failed send says that the peer has gone: then a read will find the end behind what it
/// sent before.
fn is_end_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
