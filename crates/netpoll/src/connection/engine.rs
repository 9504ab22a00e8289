// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine: a connection as its poller drives it.
//!
//! The engine owns the connection while it is idle and lends it to the handler while there is
//! input. The poller reports received and sent bytes, and the engine returns what it wants next.
//! All transitions happen on the poller's thread.
//!
//! [`dispatcher`](super::dispatcher) calls the handler, [`backpressure`](super::backpressure)
//! limits how much may wait on either side, and [`teardown`](super::teardown) ends the connection.

mod recv_buffer;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netpoll_sys::{Interest, Readiness};

use super::Connection;
use super::backpressure::{Backpressure, MemoryPressure, PendingDispatch};
use super::deadlines::DeadlineTracker;
use super::dispatcher::{Dispatcher, HandlerMode, HandlerSlot, Owner};
use super::input_buffer::{self, InputEnd};
use super::lifecycle::{Lifecycle, Phase};
use super::request_batch::HandlerStage;
use super::shared::Shared;
use super::watchdog::HandlerActivity;
use super::write_queue::WakeResult;
use crate::error::{CloseReason, Limit};
use crate::foreign::OwnWaker;
use crate::poll::source::{
    EndOfInput, NextAction, Outgoing, Received, RecvBuffer, ShutdownRequest, Source, SourceContext,
};
use crate::sync::{Arc, lock};
use crate::timestamp::Timestamp;
use crate::tracker::TrackedConnection;
use recv_buffer::recv_buffer_for;

/// One connection and its handler.
pub(crate) struct Engine<C: Dispatcher> {
    pub(super) shared: Arc<Shared>,
    pub(super) waker: OwnWaker,
    pub(super) handler: HandlerSlot<C>,
    pub(super) owner: Owner<C::Call>,
    pub(super) lifecycle: Lifecycle,
    pub(super) tracked: Option<TrackedConnection>,
    pub(super) backpressure: Backpressure,
    pub(super) deadlines: DeadlineTracker,
}

impl<C: Dispatcher> Engine<C> {
    /// Creates an engine that owns a new connection.
    pub(crate) fn new(
        shared: Arc<Shared>,
        handler: HandlerSlot<C>,
        tracked: Option<TrackedConnection>,
    ) -> Self {
        let connection = Connection::new(Arc::clone(&shared));
        Self::with_owner(shared, Owner::Engine(connection), handler, tracked)
    }

    /// Creates an engine whose connection user code owns.
    pub(crate) fn with_external_owner(shared: Arc<Shared>, handler: HandlerSlot<C>) -> Self {
        Self::with_owner(shared, Owner::User, handler, None)
    }

    fn with_owner(
        shared: Arc<Shared>,
        owner: Owner<C::Call>,
        handler: HandlerSlot<C>,
        tracked: Option<TrackedConnection>,
    ) -> Self {
        let waker = OwnWaker::new(Arc::clone(&shared));
        let now = Timestamp::now();
        shared.metrics.record_activity(now);
        shared.notifier.counters().poller.opened.add(1);
        Self {
            shared,
            waker,
            handler,
            owner,
            lifecycle: Lifecycle::new(),
            tracked,
            backpressure: Backpressure::default(),
            deadlines: DeadlineTracker::new(now),
        }
    }

    /// Returns what the engine wants next, from its whole state.
    #[inline]
    pub(super) fn next_action(&mut self, context: &mut SourceContext) -> NextAction {
        self.after_handler(context);
        if self.wants_input_only(context) {
            return NextAction::Wait(Interest::READABLE);
        }
        self.next_action_active(context)
    }

    #[inline]
    fn wants_input_only(&self, context: &SourceContext) -> bool {
        self.is_quiescent() || self.is_only_reading(context)
    }

    /// Returns the [`next_action`](Self::next_action), and computes the deadline although nothing
    /// may have moved.
    pub(super) fn next_action_with_deadline(&mut self, context: &mut SourceContext) -> NextAction {
        if self.wants_input_only(context) {
            // At rest no input is held and reads are on: memory is no longer short.
            self.backpressure.memory_pressure = MemoryPressure::None;
            self.set_deadline(context);
        }
        self.next_action(context)
    }

    fn next_action_active(&mut self, context: &mut SourceContext) -> NextAction {
        self.apply_close_request();
        if self.lifecycle.phase() == Phase::Open {
            self.send_fin_if_requested();
            self.detach_if_requested();
        }
        if self.lifecycle.phase() == Phase::Open {
            self.review_input();
            self.end_if_done();
        }
        if self.lifecycle.phase() != Phase::Open {
            return self.next_action_closing(context);
        }
        let interest = Interest::READABLE.when(self.wants_input(context));
        self.set_deadline(context);
        if self.lifecycle.broken().is_some()
            && interest == Interest::NONE
            && self.backpressure.pending_dispatch == PendingDispatch::None
        {
            // Only hang-ups could be reported, endlessly.
            return NextAction::NoInterest;
        }
        if self.backpressure.pending_dispatch != PendingDispatch::None && !self.is_backpressured() {
            NextAction::Yield(interest)
        } else {
            NextAction::Wait(interest)
        }
    }

    /// Records that no more input arrives. Input that the handler left is offered to it once more,
    /// so that it learns of the end.
    pub(super) fn end_input(&mut self, end: InputEnd) {
        self.lifecycle.end_input();
        self.lifecycle.on_linger_end();
        let mut input_buffer = self.shared.input_buffer();
        let waker = input_buffer.set_end(end);
        let reason = input_buffer.reason();
        drop(input_buffer);
        if let Some(reason) = reason {
            self.shared.notify_closing(&reason);
        }
        self.wake_waiter(waker);
        self.shared.notify_end();
        if self.backpressure.needs_more_input {
            self.backpressure.pending_dispatch = PendingDispatch::Fin;
        }
    }

    /// Records that nothing more can be sent. Input that has arrived is still offered.
    pub(super) fn on_output_error(&mut self, error: io::Error) -> InputEnd {
        let reason = if self.shared.is_aborted() {
            // The kernel reports our own reset: `apply_close_request` sets the cause.
            CloseReason::Local
        } else {
            let reason = CloseReason::Broken(Arc::new(error));
            self.lifecycle.set_broken(reason.clone());
            reason
        };
        if self.lifecycle.phase() != Phase::Open {
            self.close_now(reason.clone());
        }
        let waker = self.shared.discard(reason.clone());
        self.shared.notify_closing(&reason);
        self.backpressure.unsent = 0;
        self.wake_waiter(waker);
        InputEnd::Closed(reason)
    }

    /// Calls the handler with new input if no call runs. Under backpressure the call stays pending.
    pub(super) fn dispatch(&mut self) {
        match &self.owner {
            Owner::Engine(_) if self.handler.mode == HandlerMode::PerRequest => {
                if !self.is_backpressured() {
                    self.call_handler();
                } else if self.backpressure.pending_dispatch == PendingDispatch::None {
                    self.backpressure.pending_dispatch = PendingDispatch::Input;
                }
            }
            _ => {}
        }
    }
}

impl<C: Dispatcher> Source for Engine<C> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.shared.as_fd())
    }

    /// True for TCP, where `epoll(7)` documents it. On a Unix socket a read also ends at each
    /// message with file descriptors, even if more data follows.
    fn short_read_empties(&self) -> bool {
        self.shared.is_tcp()
    }

    fn has_no_more_events(&self) -> bool {
        self.lifecycle.has_ended_both()
    }

    fn on_register(&mut self, context: &mut SourceContext) -> NextAction {
        self.before_handler(context);
        let called = self.handler.mode == HandlerMode::PerConnection
            || self.handler.stage == HandlerStage::Connect;
        if called && matches!(self.owner, Owner::Engine(_)) {
            self.call_handler();
        }
        self.next_action_with_deadline(context)
    }

    #[inline]
    fn recv_buffer(&mut self, context: &mut SourceContext) -> RecvBuffer {
        if context.is_short_of_memory() || !self.is_quiescent() {
            return self.recv_buffer_active(context);
        }
        match &mut self.owner {
            Owner::Engine(connection) => recv_buffer_for(connection),
            _ => RecvBuffer::Shared,
        }
    }

    #[inline]
    fn on_received(&mut self, received: Received, context: &mut SourceContext) -> NextAction {
        let count = match &received {
            Received::Shared(window) => window.len(),
            Received::Owned(_, count) => *count,
        };
        self.drain_received(count);
        if count > 0 {
            self.shared.metrics.received.add(count as u64);
            self.shared.metrics.touch(context);
            self.shared.track_reply(count);
        }
        if self.lifecycle.phase() != Phase::Open {
            self.discard_late_input(count);
            return self.next_action(context);
        }
        match &mut self.owner {
            Owner::Engine(connection) => {
                let input = connection.reader_state();
                input_buffer::append(&mut input.buffer, received);
                input.count(count);
                if count > 0 {
                    self.dispatch();
                }
            }
            _ => {
                let mut input_buffer = self.shared.input_buffer();
                let waker = input_buffer.append(received);
                input_buffer.update_level(self.shared.options.read_high);
                drop(input_buffer);
                self.wake_waiter(waker);
            }
        }
        self.next_action(context)
    }

    fn on_input_end(&mut self, end: EndOfInput, context: &mut SourceContext) -> NextAction {
        self.before_handler(context);
        let end = self.take_receive_error().map_or(end, EndOfInput::Error);
        let end = match end {
            // On a Unix socket, our own shutdown of both directions reads as the peer's.
            EndOfInput::Fin if self.shared.is_aborted() => InputEnd::Closed(CloseReason::Local),
            EndOfInput::Fin => InputEnd::Fin,
            EndOfInput::Error(error) => self.on_output_error(error),
        };
        self.end_input(end);
        self.next_action(context)
    }

    fn outgoing(&mut self) -> Option<Outgoing> {
        if self.lifecycle.phase() == Phase::Closed {
            None
        } else {
            self.shared.take_output()
        }
    }

    #[inline]
    fn on_sent(
        &mut self,
        mut rest: Outgoing,
        result: io::Result<usize>,
        context: &mut SourceContext,
    ) -> NextAction {
        match result {
            Ok(count) => {
                let mut output_buffer = lock(&self.shared.output_buffer);
                output_buffer.sent += count as u64;
                let flushed = output_buffer.return_unsent(&mut rest);
                self.backpressure.unsent = output_buffer.blocked_len();
                drop(output_buffer);
                if count > 0 {
                    self.shared.metrics.touch(context);
                }
                self.deadlines.on_sent(count, self.backpressure.unsent);
                let woken = self.shared.notify_wait_queue();
                if woken == WakeResult::NoneWoken
                    && flushed.is_none()
                    && self.handler.activity == HandlerActivity::None
                    && self.is_quiescent()
                {
                    // Only the handler writes, and it has not run since.
                    return NextAction::OutputDrained;
                }
                self.wake_waiter(flushed);
            }
            Err(error) => self.on_send_error(error),
        }
        self.next_action(context)
    }

    fn on_ready(&mut self, readiness: Readiness, context: &mut SourceContext) -> NextAction {
        if readiness.is_readable() || readiness.may_have_ended() {
            self.pause_for_input_buffer();
        }
        match self.next_action(context) {
            // The input of this peer is of no use any more, and other connections need its memory.
            _ if readiness.is_hang_up()
                && self.backpressure.memory_pressure == MemoryPressure::High =>
            {
                self.close_now(CloseReason::Limit(Limit::Memory));
                self.next_action(context)
            }
            // Both directions have ended and nothing is read now: the event would repeat endlessly.
            // Code that wants to read again registers interest again, and gets the event then.
            NextAction::Wait(interest) if readiness.is_hang_up() && interest == Interest::NONE => {
                NextAction::NoInterest
            }
            next => next,
        }
    }

    fn on_notify(&mut self, context: &mut SourceContext) -> NextAction {
        let notices = self.shared.notifier.take();
        if notices.is_empty() {
            // The reason for the notification is handled already.
            return NextAction::Unchanged;
        }
        self.on_notices(notices, context)
    }

    fn on_yield(&mut self, context: &mut SourceContext) -> NextAction {
        let notices = self.shared.notifier.take();
        self.on_notices(notices, context)
    }

    fn on_timeout(&mut self, context: &mut SourceContext) -> NextAction {
        if self.lifecycle.phase() == Phase::Open {
            let now = context.wait_end().unwrap_or_else(|| context.timestamp());
            self.check_deadlines(now.to_instant());
        } else {
            self.on_linger_timeout();
        }
        self.next_action_with_deadline(context)
    }

    fn on_abandon(&mut self) {
        self.fail_waiters();
    }

    fn on_shutdown(&mut self, request: ShutdownRequest, context: &mut SourceContext) -> NextAction {
        self.before_handler(context);
        match request {
            ShutdownRequest::StopAccepting => {}
            ShutdownRequest::Graceful if self.is_client() => {}
            ShutdownRequest::Graceful => self.begin_drain(CloseReason::Shutdown, context.now()),
            ShutdownRequest::Force => self.force_close(),
            ShutdownRequest::PollerFailed => self.on_poller_failure(),
        }
        self.next_action(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::LocalState;
    use crate::connection::inline_dispatcher::InlineDispatcher;
    use crate::connection::request_batch::{CallOutcome, SharedHandlers};
    use std::future::Ready;

    type Idle = InlineDispatcher<
        (),
        fn(SharedHandlers<()>, Connection, HandlerStage) -> Ready<CallOutcome>,
        Ready<CallOutcome>,
    >;

    #[test]
    fn idle_ipv4_connection_is_three_small_allocations() {
        let sizes = (
            size_of::<Engine<Idle>>(),
            // A connection has a span with the feature `tracing` only.
            size_of::<Shared>() - size_of::<crate::trace::Span>(),
            size_of::<LocalState>(),
        );
        assert!(
            sizes.0 <= 160 && sizes.1 <= 216 && sizes.2 <= 104,
            "{sizes:?}"
        );
    }
}
