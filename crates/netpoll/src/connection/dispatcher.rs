// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an engine calls its handler and gets the connection back.
//!
//! The engine gives the connection to its [`Dispatcher`], which knows the handler and where it
//! runs: [on the poller](super::inline_dispatcher) or [elsewhere](super::offloaded_task). Meanwhile
//! the engine has only the call; all else it needs is in the shared state. When the call completes,
//! the connection comes back with the outcome. A panic in user code ends this connection and
//! nothing else.

use std::task::{Context, Poll};

use super::Connection;
use super::backpressure::{PauseReason, PendingDispatch};
use super::engine::Engine;
use super::lifecycle::Phase;
use super::request_batch::{BatchEnd, CallOutcome, HandlerStage};
use super::service::ServiceConfig;
use super::shared::Shared;
use super::teardown::CloseCount;
use super::watchdog::HandlerActivity;
use crate::active_timeouts;
use crate::error::CloseReason;
use crate::event::Event;
use crate::foreign::{DeferredDrop, Wakeup};
use crate::guard::{CaughtPanic, guard};
use crate::sync::Arc;
use crate::timestamp::Timestamp;

/// A callback that runs with the reason when a connection has ended.
pub(crate) type Observer = Arc<dyn Fn(&mut Connection, &CloseReason) + Send + Sync>;

/// When the handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerMode {
    /// Whenever there is input.
    PerRequest,
    /// Once, with the owned connection.
    PerConnection,
    /// Never: user code outside the event loop owns the connection.
    None,
}

/// Calls user code with a connection.
pub(crate) trait Dispatcher: 'static {
    /// A call in progress.
    type Call;

    /// Whether calls run on threads other than the poller's.
    const OFFLOADED: bool;

    /// Begins a call. This runs the user code that creates the call, and no part of the call.
    fn begin(&self, connection: Connection, stage: HandlerStage)
    -> Result<Self::Call, CaughtPanic>;

    /// Returns the outcome of the call if it has completed. A call on the poller's thread runs
    /// here.
    fn poll(
        &self,
        call: &mut Self::Call,
        context: &mut Context<'_>,
    ) -> Poll<Result<CallOutcome, CallFailure>>;

    /// Returns whether another thread polls the call right now. When that poll ends, the poller is
    /// notified if a close was requested.
    fn is_polling(&self, call: &Self::Call) -> bool;

    /// Returns how many wakers of the call are kept by the futures it awaits. Timeouts do not
    /// count. `limits` is the number of timeouts of a call on the poller's thread.
    fn external_wakers(&self, call: &Self::Call, shared: &Arc<Shared>, limits: u32) -> usize;

    /// Asks an incomplete call to end. Returns whether [`poll`](Self::poll) will report its outcome
    /// once more.
    fn cancel(&self, call: &Self::Call) -> bool;

    /// Releases the call, complete or not.
    fn release(&self, call: Self::Call);

    /// Releases a call that has completed: it contains no user values any more.
    fn release_finished(&self, call: Self::Call) {
        self.release(call);
    }
}

/// How a call ended that did not return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallFailure {
    Panicked,
    /// The runner dropped the task.
    Dropped,
}

/// How user code is called for one connection, and how far the calls have come.
pub(crate) struct HandlerSlot<C> {
    pub(crate) dispatcher: C,
    pub(crate) mode: HandlerMode,
    /// The call in progress, or else the next one. It stays at `on_connect` until that call has
    /// returned; the observer does not run for a connection that ends before.
    pub(crate) stage: HandlerStage,
    /// The configuration of its service; `None` if it has none.
    pub(crate) config: Option<Arc<ServiceConfig>>,
    pub(crate) observer_state: ObserverState,
    pub(super) close_count: CloseCount,
    pub(super) activity: HandlerActivity,
}

impl<C> HandlerSlot<C> {
    /// Creates a slot from which nothing has been called.
    pub(crate) fn new(
        dispatcher: C,
        calls: HandlerMode,
        stage: HandlerStage,
        config: Option<Arc<ServiceConfig>>,
    ) -> Self {
        Self {
            dispatcher,
            mode: calls,
            stage,
            config,
            observer_state: ObserverState::Pending,
            close_count: CloseCount::Pending,
            activity: HandlerActivity::None,
        }
    }
}

/// Whether the observer has run, or must not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObserverState {
    Pending,
    Done,
}

/// The owner of the connection.
pub(super) enum Owner<T> {
    /// The engine: no handler runs.
    Engine(Connection),
    /// The handler, through this call.
    Handler(T),
    /// User code that owns the connection.
    User,
    /// No owner any more.
    None,
}

impl<C: Dispatcher> Engine<C> {
    /// Clears the pending dispatch, and calls the handler if the engine has the connection.
    pub(super) fn call_handler(&mut self) {
        self.backpressure.pending_dispatch = PendingDispatch::None;
        self.backpressure.needs_more_input = false;
        match std::mem::replace(&mut self.owner, Owner::None) {
            Owner::Engine(connection) => {
                let stage = self.handler.stage;
                let held = connection.local.reader.buffer.len();
                if C::OFFLOADED {
                    self.prepare_offload(&connection);
                } else if held >= self.shared.options.read_high {
                    // While the handler awaits something else, no more input is read for it.
                    self.shared
                        .input_buffer()
                        .set_reader_held(held, self.shared.options.read_high);
                }
                match self.handler.dispatcher.begin(connection, stage) {
                    Ok(call) => {
                        self.owner = Owner::Handler(call);
                        self.poll_handler();
                    }
                    Err(CaughtPanic) => self.on_call_failed(CallFailure::Panicked),
                }
            }
            other => self.owner = other,
        }
    }

    /// Counts the input that goes along with the call toward the limit of the input buffer.
    fn prepare_offload(&mut self, connection: &Connection) {
        let mut input_buffer = self.shared.input_buffer();
        input_buffer.reader_held = connection.local.reader.buffer.len();
        input_buffer.paused = input_buffer.is_full(self.shared.options.read_high);
        let paused = input_buffer.paused;
        drop(input_buffer);
        if paused {
            self.pause(PauseReason::Input);
        }
    }

    /// Polls the call, and takes the connection back if the call has completed.
    pub(super) fn poll_handler(&mut self) {
        self.mark_handler_polled();
        let Owner::Handler(call) = &mut self.owner else {
            return;
        };
        let mut context = Context::from_waker(&self.waker);
        let dispatcher = &self.handler.dispatcher;
        let polled = match C::OFFLOADED {
            true => dispatcher.poll(call, &mut context),
            false => {
                let span = &self.shared.span;
                active_timeouts::with_count(self.deadlines.active_timeouts(), || {
                    span.within(|| dispatcher.poll(call, &mut context))
                })
            }
        };
        if !C::OFFLOADED {
            self.on_handler_polled();
        }
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(outcome)) => self.on_call_finished(outcome),
            Poll::Ready(Err(lost)) => self.on_call_failed(lost),
        }
    }

    /// Releases the call.
    pub(super) fn release_call(&mut self) {
        self.mark_handler_polled();
        if let Owner::Handler(call) = std::mem::replace(&mut self.owner, Owner::None) {
            self.handler.dispatcher.release(call);
        }
    }

    pub(super) fn is_call_polling(&self) -> bool {
        matches!(&self.owner, Owner::Handler(call) if self.handler.dispatcher.is_polling(call))
    }

    /// Cancels the call if one is in progress. Returns whether its outcome is still to come: true
    /// for the first cancellation of an offloaded call.
    pub(super) fn cancel_call(&mut self) -> bool {
        if let Owner::Handler(call) = &self.owner
            && self.handler.dispatcher.cancel(call)
        {
            return true;
        }
        self.release_call();
        false
    }

    fn on_call_failed(&mut self, lost: CallFailure) {
        // Before the call is released: the drop of its connection requests a local close.
        self.begin_close(match lost {
            CallFailure::Panicked => CloseReason::HandlerPanic,
            CallFailure::Dropped => {
                self.report_event(|peer| Event::TaskDropped { peer });
                CloseReason::Local
            }
        });
        self.release_call();
        self.owner = Owner::Engine(Connection::new(Arc::clone(&self.shared)));
    }

    fn on_call_finished(&mut self, outcome: CallOutcome) {
        if let Owner::Handler(call) = std::mem::replace(&mut self.owner, Owner::None) {
            self.handler.dispatcher.release_finished(call);
        }
        if C::OFFLOADED {
            self.shared.metrics.record_activity(Timestamp::now());
        }
        let CallOutcome {
            connection,
            end,
            requests,
        } = outcome;
        self.shared.count_batch(requests);
        match connection {
            Some(connection) if Arc::ptr_eq(connection.shared(), &self.shared) => {
                self.reclaim(connection);
            }
            // The handler returned another connection than it was lent. Both are closed; the owner
            // of this one is the code that has it now.
            Some(other) => {
                self.owner = Owner::Engine(Connection::new(Arc::clone(&self.shared)));
                self.begin_close(CloseReason::Local);
                let _panicked = guard(|| drop(other)).is_err();
            }
            None => {
                self.owner = Owner::User;
                self.check_replacement();
            }
        }
        match end {
            BatchEnd::Failed(error) => {
                // If another reason was first, an error of the user's is dropped here.
                let limit_error = CloseReason::limit_error(&error);
                let reason = DeferredDrop::new(CloseReason::from_handler_error(error));
                if let Some(reason) = reason.get()
                    && !self.has_ended_by_drain(reason)
                {
                    self.begin_close_by(reason.clone(), limit_error.as_ref());
                }
            }
            BatchEnd::NeedsMoreInput => {
                self.backpressure.needs_more_input = true;
                if matches!(&self.owner, Owner::Engine(c) if !c.local.reader.buffer.is_empty()) {
                    self.deadlines.on_input_left();
                }
            }
            BatchEnd::Connected => {
                self.handler.stage = HandlerStage::Request;
                if self.handler.mode == HandlerMode::PerConnection
                    && self.lifecycle.phase() == Phase::Open
                {
                    self.call_handler();
                }
            }
            BatchEnd::Consumed | BatchEnd::Yielded | BatchEnd::Returned => {}
        }
    }

    /// Takes the connection back: appends the input that arrived while the handler ran, moves what
    /// is left into memory of its own size, and frees the rest.
    pub(super) fn reclaim(&mut self, mut connection: Connection) {
        let input = connection.reader_state();
        if let Some(mut input_buffer) = self.shared.input_buffer_if_any() {
            let (arrived, waker) = input_buffer.clear();
            drop(input_buffer);
            drop(waker);
            // A wait that was dropped has left unread bytes in the input buffer. They are no reason
            // to call the handler again.
            if arrived.len() > input.returned() {
                self.backpressure.pending_dispatch = PendingDispatch::Input;
            }
            if !arrived.is_empty() {
                input.take(arrived);
            }
        }
        if input.end_batch() > 0 {
            self.deadlines.on_consumed();
        }
        input.buffer.release();
        self.owner = Owner::Engine(connection);
    }

    /// Wakes a waiting task. If that is the handler on this poller, polls it at once and queues
    /// nothing.
    pub(super) fn wake_waiter(&mut self, waker: Wakeup) {
        if waker.will_wake(&self.waker) {
            self.poll_handler();
        } else {
            waker.wake();
        }
    }
}
