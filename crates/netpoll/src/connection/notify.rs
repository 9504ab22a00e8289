// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a session does that hears its bell: that of the handler's waker, of whoever has sent or wants
//! to, of a clock that was changed; and what follows when a send has failed, whoever made it.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;

use netpoll_sys::socket;

use super::backpressure::PendingDispatch;
use super::dispatcher::Dispatcher;
use super::engine::Engine;
use crate::poll::notifier::{Notice, NoticeSet};
use crate::poll::source::{NextAction, SourceContext};
use crate::sync::lock;

impl<C: Dispatcher> Engine<C> {
    /// Does what was rung for, and what was left to do.
    pub(super) fn on_notices(
        &mut self,
        signals: NoticeSet,
        context: &mut SourceContext,
    ) -> NextAction {
        self.before_handler(context);
        if signals.has(Notice::Poll) {
            self.poll_handler();
        }
        if signals.has(Notice::Send) {
            self.on_off_poller_send();
        }
        if signals.has(Notice::Resume) {
            // Its peer could not be heard till now.
            self.shared.metrics.record_activity(context.timestamp());
        }
        if let Some(next) = self.replace(context) {
            return next;
        }
        if self.backpressure.pending_dispatch != PendingDispatch::None && self.stays_open() {
            self.dispatch();
        }
        if signals.has(Notice::Deadline) {
            return self.next_action_with_deadline(context);
        }
        self.next_action(context)
    }

    pub(super) fn on_send_error(&mut self, error: io::Error) {
        let peer_is_gone = is_peer_gone(&error);
        let end = self.on_output_error(error);
        // What the peer sent before it went can still be read; other errors end both.
        if peer_is_gone {
            // A peer that reads no more may be there yet, and would wait for an answer for as long
            // as we do for its end: this is the end to both, behind what was sent.
            let _ended = socket::shutdown(self.shared.as_fd(), Shutdown::Both).ok();
        } else {
            self.end_input(end);
        }
    }

    /// Somebody else has sent, or tried to.
    fn on_off_poller_send(&mut self) {
        let mut output_buffer = lock(&self.shared.output_buffer);
        self.backpressure.unsent = output_buffer.blocked_len();
        let failure = output_buffer.take_off_poller_error();
        drop(output_buffer);
        if let Some(error) = failure {
            self.on_send_error(error);
        }
    }
}

/// Whether a failed send says that the peer has gone: then a read will find the end behind what it
/// sent before.
fn is_peer_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
