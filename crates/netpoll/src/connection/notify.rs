// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine's reaction to notifications: from the handler's waker, from sends on other threads,
//! from changed deadlines. It also handles a failed send, on any thread.

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
    /// Handles the notices, and then any pending work.
    pub(super) fn on_notices(
        &mut self,
        notices: NoticeSet,
        context: &mut SourceContext,
    ) -> NextAction {
        self.before_handler(context);
        if notices.has(Notice::Poll) {
            self.poll_handler();
        }
        if notices.has(Notice::Send) {
            self.on_off_poller_send();
        }
        if notices.has(Notice::Resume) {
            // The peer's input could not be seen until now.
            self.shared.metrics.record_activity(context.timestamp());
            self.end_failed_input();
        }
        if let Some(next) = self.replace(context) {
            return next;
        }
        if self.backpressure.pending_dispatch != PendingDispatch::None && self.stays_open() {
            self.dispatch();
        }
        if notices.has(Notice::Deadline) {
            return self.next_action_with_deadline(context);
        }
        self.next_action(context)
    }

    pub(super) fn on_send_error(&mut self, error: io::Error) {
        let peer_is_gone = is_peer_gone(&error);
        let end = self.on_output_error(error);
        // Input that the peer sent before it went can still be read; other errors end both
        // directions.
        if peer_is_gone {
            // A peer that only reads no more may still exist. It would wait for a reply as long as
            // this side waits for its FIN. A shutdown of both directions, behind the bytes already
            // sent, ends the wait on both sides.
            let _ended = socket::shutdown(self.shared.as_fd(), Shutdown::Both).ok();
        } else {
            self.end_input(end);
        }
    }

    /// Ends the input if a receive of the reader has failed.
    fn end_failed_input(&mut self) {
        if let Some(error) = self.take_receive_error() {
            let end = self.on_output_error(error);
            self.end_input(end);
        }
    }

    /// Takes the error of a receive that the reader made. The kernel reports it once, and then the
    /// end of the stream.
    pub(super) fn take_receive_error(&self) -> Option<io::Error> {
        let input_buffer = self.shared.input_buffer_if_any();
        input_buffer.and_then(|mut input_buffer| input_buffer.receive_error.take())
    }

    /// Handles a send, or a failed one, that another thread made.
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

/// Returns whether a failed send means that the peer is gone. A read then finds the end behind the
/// bytes that the peer sent before.
fn is_peer_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
