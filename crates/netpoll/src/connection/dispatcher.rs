// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a session has its handler called, and gets the connection back.
//!
//! The session gives the connection to its [`Dispatcher`], which knows the handler and where it runs:
//! [on this thread](super::inline_dispatcher) or [elsewhere](super::offloaded_task). In between the session has only
//! the call; everything else it needs is in the link. When the call is done the connection comes
//! back with what came of it. A panic in user code ends this connection, and nothing else.

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

/// Is told how a connection ended.
pub(crate) type Observer = Arc<dyn Fn(&mut Connection, &CloseReason) + Send + Sync>;

/// When the handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerMode {
    /// Whenever there is input.
    PerRequest,
    /// Once, with the owned connection.
    PerConnection,
    /// Never: somebody else owns the connection.
    None,
}

/// Calls user code with a connection.
pub(crate) trait Dispatcher: 'static {
    /// A call under way.
    type Call;

    /// Whether calls run on other threads than the poller's.
    const OFFLOADED: bool;

    /// Begins a call. It runs no user code but what makes the call, and nothing of the call.
    fn begin(&self, connection: Connection, stage: HandlerStage)
    -> Result<Self::Call, CaughtPanic>;

    /// What came of the call, if it is done. A call of this thread's runs here.
    fn poll(
        &self,
        call: &mut Self::Call,
        context: &mut Context<'_>,
    ) -> Poll<Result<CallOutcome, CallFailure>>;

    /// Whether another thread is at work on the call right now. When it no longer is, the bell rings
    /// if the end was asked for.
    fn is_polling(&self, call: &Self::Call) -> bool;

    /// How many wakers of the call are kept by what it waits for, whatever that is; its bounds of
    /// time are no such thing. `limits` is how many it has, of a call of this thread's.
    fn external_wakers(&self, call: &Self::Call, shared: &Arc<Shared>, limits: u32) -> usize;

    /// Asks for the end of a call that is not done. Whether it will be heard of once more, by
    /// [`poll`](Self::poll).
    fn cancel(&self, call: &Self::Call) -> bool;

    /// Lets the call go, done or not.
    fn release(&self, call: Self::Call);

    /// Lets a call go that has finished: nothing of the user's is left in it.
    fn release_finished(&self, call: Self::Call) {
        self.release(call);
    }
}

/// How a call ended that did not return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallFailure {
    Panicked,
    /// Whoever carried it out has dropped it.
    Dropped,
}

/// How user code is called for one connection, and what has become of that.
pub(crate) struct HandlerSlot<C> {
    pub(crate) dispatcher: C,
    pub(crate) mode: HandlerMode,
    /// Which call is under way, or else the next one. It stays at `on_connect` until that has
    /// returned, and a connection that ends there is not told of.
    pub(crate) stage: HandlerStage,
    /// Those of its service; `None` if it has none.
    pub(crate) config: Option<Arc<ServiceConfig>>,
    pub(crate) observer_state: ObserverState,
    pub(super) close_count: CloseCount,
    pub(super) activity: HandlerActivity,
}

impl<C> HandlerSlot<C> {
    /// A script of which nothing has been called.
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

/// Whether the observer has been told of the end, or is not to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObserverState {
    Pending,
    Done,
}

/// Who has the connection.
pub(super) enum Owner<T> {
    /// The session: nothing runs.
    Engine(Connection),
    /// The handler, by this call.
    Handler(T),
    /// Somebody who owns it.
    User,
    /// Nobody any more.
    None,
}

impl<C: Dispatcher> Engine<C> {
    /// Calls the handler with the connection, if it is here and there is something to call it for.
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
                    // A handler that awaits something else is not fed meanwhile.
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

    /// What goes along counts to what may be read meanwhile.
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

    /// Polls the call, and takes the connection back if it is done.
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

    /// Lets the call go.
    pub(super) fn release_call(&mut self) {
        self.mark_handler_polled();
        if let Owner::Handler(call) = std::mem::replace(&mut self.owner, Owner::None) {
            self.handler.dispatcher.release(call);
        }
    }

    pub(super) fn is_call_polling(&self) -> bool {
        matches!(&self.owner, Owner::Handler(call) if self.handler.dispatcher.is_polling(call))
    }

    /// Asks for the end of the call, if one is under way. Whether it is to be waited for: one that
    /// runs elsewhere is, once.
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
        // Before the call is let go: the drop of its connection asks for a local end.
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
            // The handler gave back another connection than it was lent: both are closed. This
            // one's owner is whoever has it now.
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
                // Where another reason stands, an error of the user's is dropped here.
                let reason = DeferredDrop::new(CloseReason::from_handler_error(error));
                if let Some(reason) = reason.get()
                    && !self.has_ended_by_drain(reason)
                {
                    self.begin_close(reason.clone());
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

    /// Parks the connection: what arrived while the handler ran is added to its input, what is
    /// left is moved into memory of its own size, and all else is let go.
    pub(super) fn reclaim(&mut self, mut connection: Connection) {
        let input = connection.reader_state();
        if let Some(mut input_buffer) = self.shared.input_buffer_if_any() {
            let (arrived, waker) = input_buffer.clear();
            drop(input_buffer);
            drop(waker);
            // A wait that was dropped has left what was unread in the inbox: that is no reason to
            // call the handler again.
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

    /// Wakes whoever waits. The handler's own waker needs no queue: it is polled right here.
    pub(super) fn wake_waiter(&mut self, waker: Wakeup) {
        if waker.will_wake(&self.waker) {
            self.poll_handler();
        } else {
            waker.wake();
        }
    }
}
