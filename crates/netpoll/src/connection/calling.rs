// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a session has its handler called, and gets the connection back.
//!
//! The session gives the connection to its [`Caller`], which knows the handler and where it runs:
//! [on this thread](super::inline) or [elsewhere](super::errand). In between the session has only
//! the call; everything else it needs is in the link. When the call is done the connection comes
//! back with what came of it. A panic in user code ends this connection, and nothing else.

use std::task::{Context, Poll};

use super::Connection;
use super::burst::{Finished, Stage, Verdict};
use super::flow::{More, Paused};
use super::link::Link;
use super::service::Terms;
use super::session::Session;
use super::state::Phase;
use super::teardown::Counted;
use super::watchdog::Ran;
use crate::error::CloseReason;
use crate::event::Event;
use crate::foreign::{Deferred, Wakeup};
use crate::guard::{Panicked, guard};
use crate::limits;
use crate::moment::Moment;
use crate::sync::Arc;

/// Is told how a connection ended.
pub(crate) type Observer = Arc<dyn Fn(&mut Connection, &CloseReason) + Send + Sync>;

/// When the handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Whenever there is input.
    PerRequest,
    /// Once, with the owned connection.
    Once,
    /// Never: somebody else owns the connection.
    Never,
}

/// Calls user code with a connection.
pub(crate) trait Caller: 'static {
    /// A call under way.
    type Call;

    /// Whether calls run on other threads than the poller's.
    const ELSEWHERE: bool;

    /// Begins a call. It runs no user code but what makes the call, and nothing of the call.
    fn begin(&self, connection: Connection, stage: Stage) -> Result<Self::Call, Panicked>;

    /// What came of the call, if it is done. A call of this thread's runs here.
    fn poll(
        &self,
        call: &mut Self::Call,
        context: &mut Context<'_>,
    ) -> Poll<Result<Finished, Lost>>;

    /// Whether another thread is at work on the call right now. When it no longer is, the bell rings
    /// if the end was asked for.
    fn is_at_work(&self, call: &Self::Call) -> bool;

    /// How many wakers of the call are kept by what it waits for, whatever that is; its bounds of
    /// time are no such thing. `limits` is how many it has, of a call of this thread's.
    fn wakers_kept(&self, call: &Self::Call, link: &Arc<Link>, limits: u32) -> usize;

    /// Asks for the end of a call that is not done. Whether it will be heard of once more, by
    /// [`poll`](Self::poll).
    fn call_off(&self, call: &Self::Call) -> bool;

    /// Lets the call go, done or not.
    fn end(&self, call: Self::Call);

    /// Lets a call go that has finished: nothing of the user's is left in it.
    fn finish(&self, call: Self::Call) {
        self.end(call);
    }
}

/// How a call ended that did not return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    Panicked,
    /// Whoever carried it out has dropped it.
    Dropped,
}

/// How user code is called for one connection, and what has become of that.
pub(crate) struct Script<C> {
    pub(crate) caller: C,
    pub(crate) calls: Calls,
    /// Which call is under way, or else the next one. It stays at `on_connect` until that has
    /// returned, and a connection that ends there is not told of.
    pub(crate) stage: Stage,
    /// Those of its service; `None` if it has none.
    pub(crate) terms: Option<Arc<Terms>>,
    pub(crate) observed: Observed,
    pub(super) counted: Counted,
    pub(super) ran: Ran,
}

impl<C> Script<C> {
    /// A script of which nothing has been called.
    pub(crate) fn new(caller: C, calls: Calls, stage: Stage, terms: Option<Arc<Terms>>) -> Self {
        Self {
            caller,
            calls,
            stage,
            terms,
            observed: Observed::NotYet,
            counted: Counted::NotYet,
            ran: Ran::Nothing,
        }
    }
}

/// Whether the observer has been told of the end, or is not to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    NotYet,
    Done,
}

/// Who has the connection.
pub(super) enum Holder<T> {
    /// The session: nothing runs.
    Session(Connection),
    /// The handler, by this call.
    Handler(T),
    /// Somebody who owns it.
    Owner,
    /// Nobody any more.
    Nobody,
}

impl<C: Caller> Session<C> {
    /// Calls the handler with the connection, if it is here and there is something to call it for.
    pub(super) fn call_handler(&mut self) {
        self.flow.more = More::No;
        self.flow.stalled = false;
        match std::mem::replace(&mut self.holder, Holder::Nobody) {
            Holder::Session(connection) => {
                let stage = self.script.stage;
                let held = connection.held.input.chain.len();
                if C::ELSEWHERE {
                    self.send_away(&connection);
                } else if held >= self.link.options.read_high {
                    // A handler that awaits something else is not fed meanwhile.
                    self.link.inbox().hold(held, self.link.options.read_high);
                }
                match self.script.caller.begin(connection, stage) {
                    Ok(call) => {
                        self.holder = Holder::Handler(call);
                        self.poll_handler();
                    }
                    Err(Panicked) => self.handler_lost(Lost::Panicked),
                }
            }
            other => self.holder = other,
        }
    }

    /// What goes along counts to what may be read meanwhile.
    fn send_away(&mut self, connection: &Connection) {
        let mut inbox = self.link.inbox();
        inbox.held = connection.held.input.chain.len();
        inbox.paused = inbox.is_full(self.link.options.read_high);
        let paused = inbox.paused;
        drop(inbox);
        if paused {
            self.pause(Paused::Inbox);
        }
    }

    /// Polls the call, and takes the connection back if it is done.
    pub(super) fn poll_handler(&mut self) {
        self.note_handler();
        let Holder::Handler(call) = &mut self.holder else {
            return;
        };
        let mut context = Context::from_waker(&self.waker);
        let caller = &self.script.caller;
        let polled = match C::ELSEWHERE {
            true => caller.poll(call, &mut context),
            false => {
                let span = &self.link.span;
                limits::within(self.clock.limits(), || {
                    span.within(|| caller.poll(call, &mut context))
                })
            }
        };
        if !C::ELSEWHERE {
            self.has_worked();
        }
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(finished)) => self.handler_finished(finished),
            Poll::Ready(Err(lost)) => self.handler_lost(lost),
        }
    }

    /// Lets the call go.
    pub(super) fn end_call(&mut self) {
        self.note_handler();
        if let Holder::Handler(call) = std::mem::replace(&mut self.holder, Holder::Nobody) {
            self.script.caller.end(call);
        }
    }

    pub(super) fn is_call_at_work(&self) -> bool {
        matches!(&self.holder, Holder::Handler(call) if self.script.caller.is_at_work(call))
    }

    /// Asks for the end of the call, if one is under way. Whether it is to be waited for: one that
    /// runs elsewhere is, once.
    pub(super) fn call_off(&mut self) -> bool {
        if let Holder::Handler(call) = &self.holder
            && self.script.caller.call_off(call)
        {
            return true;
        }
        self.end_call();
        false
    }

    fn handler_lost(&mut self, lost: Lost) {
        // Before the call is let go: the drop of its connection asks for a local end.
        self.begin_close(match lost {
            Lost::Panicked => CloseReason::HandlerPanic,
            Lost::Dropped => {
                self.tell_event(|peer| Event::TaskDropped { peer });
                CloseReason::Local
            }
        });
        self.end_call();
        self.holder = Holder::Session(Connection::new(Arc::clone(&self.link)));
    }

    fn handler_finished(&mut self, finished: Finished) {
        if let Holder::Handler(call) = std::mem::replace(&mut self.holder, Holder::Nobody) {
            self.script.caller.finish(call);
        }
        if C::ELSEWHERE {
            self.link.tally.moved(Moment::now());
        }
        let Finished {
            connection,
            verdict,
            requests,
        } = finished;
        self.link.count_burst(requests);
        match connection {
            Some(connection) if Arc::ptr_eq(connection.link(), &self.link) => {
                self.take_back(connection);
            }
            // The handler gave back another connection than it was lent: both are closed. This
            // one's owner is whoever has it now.
            Some(other) => {
                self.holder = Holder::Session(Connection::new(Arc::clone(&self.link)));
                self.begin_close(CloseReason::Local);
                let _panicked = guard(|| drop(other)).is_err();
            }
            None => {
                self.holder = Holder::Owner;
                self.look_for_successor();
            }
        }
        match verdict {
            Verdict::Failed(error) => {
                // Where another reason stands, an error of the user's is dropped here.
                let reason = Deferred::new(CloseReason::of_handler_error(error));
                if let Some(reason) = reason.get()
                    && !self.has_ended_by_drain(reason)
                {
                    self.begin_close(reason.clone());
                }
            }
            Verdict::Stalled => {
                self.flow.stalled = true;
                if matches!(&self.holder, Holder::Session(c) if !c.held.input.chain.is_empty()) {
                    self.clock.left_input();
                }
            }
            Verdict::Greeted => {
                self.script.stage = Stage::Request;
                if self.script.calls == Calls::Once && self.life.phase() == Phase::Open {
                    self.call_handler();
                }
            }
            Verdict::Spent | Verdict::Yielded | Verdict::Returned => {}
        }
    }

    /// Parks the connection: what arrived while the handler ran is added to its input, what is
    /// left is moved into memory of its own size, and all else is let go.
    pub(super) fn take_back(&mut self, mut connection: Connection) {
        let input = connection.input();
        if let Some(mut inbox) = self.link.inbox_if_any() {
            let (arrived, waker) = inbox.clear();
            drop(inbox);
            drop(waker);
            // A wait that was dropped has left what was unread in the inbox: that is no reason to
            // call the handler again.
            if arrived.len() > input.given() {
                self.flow.more = More::Input;
            }
            if !arrived.is_empty() {
                input.take(arrived);
            }
        }
        if input.end_burst() > 0 {
            self.clock.consumed();
        }
        input.chain.release();
        self.holder = Holder::Session(connection);
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
