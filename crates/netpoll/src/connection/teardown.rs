// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a connection.
//!
//! Every close goes through [`Engine::begin_close`], if queued output should still be sent, or
//! through [`Engine::close_now`] otherwise. From there the phases of
//! [`lifecycle`](super::lifecycle) follow:
//!
//! 1. *Flushing*: the output buffer accepts no more, and its content is sent, for at most `linger`;
//! 2. *Lingering*: our FIN is sent. Later input is read and discarded until the peer's FIN, for at
//!    most `linger` and at most four frames of `max_frame` bytes (64 KiB if those are fewer). A
//!    close with unread input would be a reset, which destroys a reply on its way;
//! 3. *Closed*: out of the poller. A running handler goes on: its reads and flushes return the
//!    reason, and its puts are discarded. Once it has returned, or the owner has dropped the
//!    connection, the observer is called, once, and then the callbacks
//!    [registered](super::close_notify) for this connection's close. The engine is dropped after
//!    that.
//!
//! The descriptor is closed with the last reference to the shared state.

use std::net::Shutdown;
use std::os::fd::AsFd;

use netpoll_sys::{Interest, socket};

use super::Connection;
use super::backpressure::{LingerState, PendingDispatch};
use super::dispatcher::{Dispatcher, ObserverState, Owner};
use super::engine::Engine;
use super::input_buffer::InputEnd;
use super::lifecycle::{InputState, Phase};
use super::request_batch::HandlerStage;
use super::shared::{CloseRequest, Shared};
use crate::error::{CloseReason, ErrorKind};
use crate::event::{Callback, Event, Failure};
use crate::guard::guard;
use crate::poll::source::{NextAction, SourceContext};
use crate::sync::{Arc, Ordering, lock};

/// The least number of bytes that a peer may send after a close has begun.
const MIN_LATE_BYTES: usize = 64 << 10;

/// A peer may also send this many of the largest frames: those on their way, or a refused upload.
const MAX_LATE_FRAMES: usize = 4;

/// Whether the end of a connection was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseCount {
    Pending,
    Done,
}

impl<C: Dispatcher> Engine<C> {
    /// Applies the close that was requested through the shared state. A request of a handler is
    /// applied when its call has returned or waits, wherever it runs: an error that it returns is
    /// the first cause, and an abort replaces a close before it.
    pub(super) fn apply_close_request(&mut self) {
        if C::OFFLOADED && self.shared.close_request() != CloseRequest::None {
            if self.is_call_polling() {
                return;
            }
            self.poll_handler();
        }
        match self.shared.close_request() {
            CloseRequest::None | CloseRequest::HalfClose | CloseRequest::Detach => {}
            // The connection was reset when the abort was requested.
            CloseRequest::Abort => self.close_now(CloseReason::Local),
            CloseRequest::Drop if self.is_close_deferred() => {}
            // A drop after the peer's FIN follows the peer.
            CloseRequest::Drop | CloseRequest::Close
                if self.lifecycle.input() == InputState::Ended =>
            {
                self.begin_close(CloseReason::PeerFin);
            }
            CloseRequest::Drop if self.backpressure.drain.is_some() => {
                self.begin_close(self.backpressure.drain_reason())
            }
            request => self.begin_close(Shared::reason_for(request)),
        }
    }

    /// Closes an open connection that has nothing more to receive or to do.
    pub(super) fn end_if_done(&mut self) {
        self.end_idle_owner_input();
        self.close_owned_if_ended();
        let Owner::Engine(connection) = &mut self.owner else {
            return;
        };
        let idle =
            connection.reader_state().buffer.is_empty() || self.backpressure.needs_more_input;
        if !idle
            || self.backpressure.pending_dispatch != PendingDispatch::None
            || self.owes_replies()
        {
            return;
        }
        if self.lifecycle.input() == InputState::Ended {
            match self.lifecycle.broken().cloned() {
                Some(reason) => self.close_now(reason),
                None => self.begin_close(CloseReason::PeerFin),
            }
        } else if self.backpressure.is_drained() {
            self.begin_close(self.backpressure.drain_reason());
        }
    }

    /// Applies a requested close, and returns whether the connection stays open. A handler that has
    /// requested the close is not called again.
    pub(super) fn stays_open(&mut self) -> bool {
        self.apply_close_request();
        self.lifecycle.phase() == Phase::Open
    }

    /// Starts an orderly close, unless one is under way.
    pub(super) fn begin_close(&mut self, reason: CloseReason) {
        self.begin_close_by(reason, None);
    }

    /// As [`begin_close`](Self::begin_close), for a limit whose error has the values.
    pub(super) fn begin_close_by(&mut self, reason: CloseReason, limit_error: Option<&ErrorKind>) {
        if self.lifecycle.begin_close(reason.clone()) {
            self.log_failure(limit_error);
            self.backpressure.pending_dispatch = PendingDispatch::None;
            let closed = lock(&self.shared.output_buffer).close_and_notify(reason.clone());
            let (waker, uncommitted) = closed;
            drop(uncommitted);
            waker.wake();
            self.shared.notify_wait_queue();
            self.shared.notify_drain();
            if self.lifecycle.input() == InputState::Open {
                self.shared.end_input(InputEnd::Closed(reason.clone()));
            }
            self.shared.notify_input_closed(&reason);
        }
    }

    /// Closes the connection at once.
    pub(super) fn close_now(&mut self, reason: CloseReason) {
        if self.lifecycle.phase() == Phase::Closed {
            return;
        }
        let was_open = self.lifecycle.phase() == Phase::Open;
        self.lifecycle.close_now(reason.clone());
        if was_open {
            self.log_failure(None);
        }
        // Later calls return the first reason, too.
        let reason = self.lifecycle.reason().cloned().unwrap_or(reason);
        if !self.shared.is_aborted() {
            // Handlers, owners and wakers may hold the descriptor for long: the peer learns of the
            // close now.
            let _ended = socket::shutdown(self.shared.as_fd(), Shutdown::Both).ok();
        }
        self.backpressure.pending_dispatch = PendingDispatch::None;
        self.shared.end_input(InputEnd::Closed(reason.clone()));
        self.shared.discard_output(reason.clone());
        self.shared.notify_drain();
        self.shared.notify_input_closed(&reason);
    }

    /// Logs the reason of the end, if it is a failure and the loop has no event sink. Called once
    /// the reason stands.
    fn log_failure(&self, limit_error: Option<&ErrorKind>) {
        if let (
            Some(config),
            Some(
                reason @ (CloseReason::Handler(_)
                | CloseReason::HandlerPanic
                | CloseReason::Limit(_)),
            ),
        ) = (&self.handler.config, self.lifecycle.reason())
        {
            config.event_sink.report_failure(&Failure {
                reason,
                limit_error,
                peer: self.shared.peer(),
                handler: config.handler_name,
                max_output: self.shared.options.output_bound(),
            });
        }
    }

    /// Closes a connection whose peer has not taken all output, or has not sent its FIN, within
    /// `linger`.
    pub(super) fn on_linger_timeout(&mut self) {
        if matches!(self.lifecycle.phase(), Phase::Flushing | Phase::Lingering) {
            self.close_now(CloseReason::Local);
        }
    }

    /// Closes the connection now, and drops the handler's future. An offloaded handler is asked to
    /// stop: its end is awaited, and a second call abandons it.
    pub(super) fn force_close(&mut self) {
        let ended = matches!(self.lifecycle.phase(), Phase::Lingering | Phase::Closed);
        let answered = ended || self.awaits_first_request();
        let tracked = self.tracked.take();
        if let Some(tracked) = &tracked
            && !answered
        {
            tracked.mark_aborted();
        }
        self.close_now(CloseReason::Shutdown);
        if self.cancel_call() {
            self.tracked = tracked;
        }
    }

    /// Closes the connection now, because the poller has failed. An offloaded handler is asked to
    /// stop, and the observer is called when it has.
    pub(super) fn on_poller_failure(&mut self) {
        if self.lifecycle.phase() != Phase::Closed {
            self.close_now(CloseReason::PollerFailed);
            self.cancel_call();
        }
    }

    /// Fails every waiting call with [`CloseReason::PollerFailed`]. Relies on nothing else of the
    /// engine.
    pub(super) fn fail_waiters(&self) {
        let reason = CloseReason::PollerFailed;
        let _ended = socket::shutdown(self.shared.as_fd(), Shutdown::Both).ok();
        self.shared.end_input(InputEnd::Closed(reason.clone()));
        self.shared.discard_output(reason);
    }

    /// Returns the next action of a closing connection.
    pub(super) fn next_action_closing(&mut self, context: &mut SourceContext) -> NextAction {
        if self.lifecycle.phase() == Phase::Flushing
            && lock(&self.shared.output_buffer).unsent() == 0
        {
            self.lifecycle.on_flushed();
            // A peer that has torn the connection down needs no FIN.
            let _sent = socket::shutdown(self.shared.as_fd(), Shutdown::Write).ok();
        }
        match self.lifecycle.phase() {
            Phase::Open | Phase::Flushing => {
                self.set_linger(context);
                NextAction::Wait(Interest::NONE)
            }
            Phase::Lingering => {
                self.set_linger(context);
                NextAction::Wait(Interest::READABLE)
            }
            Phase::Closed => self.finalize(context),
        }
    }

    /// Sets the one deadline of flushing and lingering, counted from the begin of the close.
    fn set_linger(&mut self, context: &mut SourceContext) {
        if self.backpressure.linger == LingerState::NotStarted {
            self.backpressure.linger = LingerState::Started;
            let deadline = context.now().checked_add(self.shared.timeouts().linger);
            context.set_deadline(deadline);
        }
    }

    /// Counts input that is discarded after the close has begun. A peer that sends more than
    /// allowed is reset.
    pub(super) fn discard_late_input(&mut self, count: usize) {
        if count > 0 && self.lifecycle.phase() != Phase::Closed {
            // Relaxed: only the poller counts here.
            let late = &self.shared.extensions.get_or_make().late_bytes;
            let before = late.fetch_add(count, Ordering::Relaxed);
            let frames = self
                .shared
                .options
                .max_frame
                .saturating_mul(MAX_LATE_FRAMES);
            if before + count > frames.max(MIN_LATE_BYTES) {
                self.close_now(CloseReason::Local);
            }
        }
    }

    /// Calls the observer and removes the engine, once the connection has no owner.
    fn finalize(&mut self, context: &mut SourceContext) -> NextAction {
        context.set_deadline(None);
        match std::mem::replace(&mut self.owner, Owner::None) {
            Owner::Handler(slot) => {
                self.owner = Owner::Handler(slot);
                return NextAction::NoInterest;
            }
            Owner::User if !self.shared.close_request().ends_connection() => {
                self.owner = Owner::User;
                self.notify_closed(context);
                return NextAction::NoInterest;
            }
            Owner::Engine(connection) => self.call_observer(connection, context),
            Owner::User | Owner::None => {
                self.call_observer(Connection::new(Arc::clone(&self.shared)), context);
            }
        }
        self.notify_closed(context);
        // A replacement that is set from here on is dropped by its setter, because the connection
        // is over.
        self.shared.drop_replacement();
        self.tracked = None;
        NextAction::Remove
    }

    /// Counts the close, once.
    pub(super) fn count_close(&mut self) {
        if std::mem::replace(&mut self.handler.close_count, CloseCount::Done) == CloseCount::Pending
        {
            self.shared.count_close(self.lifecycle.reason());
        }
    }

    /// Runs the callbacks that were registered for the close.
    fn notify_closed(&mut self, context: &mut SourceContext) {
        // Before any callback runs.
        self.count_close();
        let Some(reason) = self.lifecycle.reason() else {
            return;
        };
        let called = self.shared.has_callbacks();
        if called {
            self.restart_timer(context);
        }
        let counters = self.shared.notifier.counters();
        let notify = || self.shared.notify_closed(reason);
        let panics = counters.track_callback(Callback::OnClose, notify);
        let callback = Callback::OnClose;
        for _ in 0..panics {
            self.report_event(|peer| Event::CallbackPanicked { callback, peer });
        }
        if called {
            self.after_call(callback, context);
        }
    }

    /// Calls the observer, if `on_connect` has let the connection pass, and drops the connection's
    /// attachment.
    fn call_observer(&mut self, mut connection: Connection, context: &mut SourceContext) {
        // Before any callback runs.
        self.count_close();
        // Set first, so that the observer is called at most once.
        let observed = std::mem::replace(&mut self.handler.observer_state, ObserverState::Done);
        let config = self.handler.config.as_ref();
        if let (HandlerStage::Request, ObserverState::Pending, Some(observer), Some(reason)) = (
            self.handler.stage,
            observed,
            config.and_then(|config| config.observer.as_ref()),
            self.lifecycle.reason(),
        ) {
            self.restart_timer(context);
            let callback = Callback::OnDisconnect;
            // The connection is over even if the observer panics.
            let counters = self.shared.notifier.counters();
            let call = || guard(|| observer(&mut connection, reason));
            if counters.track_callback(callback, call).is_err() {
                self.report_event(|peer| Event::CallbackPanicked { callback, peer });
            }
            self.after_call(callback, context);
        }
        let has_state = connection.has_attachment();
        if has_state {
            self.restart_timer(context);
        }
        let _panicked = guard(|| drop(connection)).is_err();
        if has_state {
            self.after_call(Callback::Attached, context);
        }
    }
}

impl<C: Dispatcher> Drop for Engine<C> {
    fn drop(&mut self) {
        // The connection of an owner that kept it to the end of the loop was not finalized.
        self.count_close();
    }
}
