// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a session calls its handler, and gets the connection back.
//!
//! The session moves the connection into a future, which gives it back when it is done. In between
//! the session has only the future: it polls it, and everything else it needs is in the link. What
//! the future does is user code, so it is entered through [`guard`] alone; a panic in it ends this
//! connection.

use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::Connection;
use super::flow::More;
use super::handler::{Finished, Shared, Slot, SpareSlots, Verdict};
use super::session::Session;
use crate::error::CloseReason;
use crate::guard::guard;
use crate::sync::{Arc, lock};

/// Is told how a connection ended.
pub(crate) type Observer = Arc<dyn Fn(&Connection, &CloseReason) + Send + Sync>;

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

/// How user code is called for the connections of one poller.
pub(crate) struct Script<H, M, F> {
    pub(crate) handler: Shared<H>,
    pub(crate) make: M,
    pub(crate) calls: Calls,
    pub(crate) spare: Rc<SpareSlots<F>>,
    pub(crate) observer: Option<Observer>,
}

/// Who has the connection.
pub(super) enum Holder<F> {
    /// The session: nothing runs.
    Session(Connection),
    /// The handler, whose future this is.
    Handler(Slot<F>),
    /// Somebody who owns it.
    Owner,
    /// Nobody any more.
    Nobody,
}

impl<H, M, F> Session<H, M, F>
where
    H: 'static,
    M: Fn(Shared<H>, Connection) -> F + 'static,
    F: Future<Output = Finished> + 'static,
{
    /// Calls the handler with the connection, if it is here and there is something to call it for.
    pub(super) fn call_handler(&mut self) {
        self.flow.more = More::No;
        self.flow.stalled = false;
        match std::mem::replace(&mut self.holder, Holder::Nobody) {
            Holder::Session(connection) => {
                let mut slot = self.script.spare.take();
                let (handler, make) = (Rc::clone(&self.script.handler), &self.script.make);
                let made = guard(|| slot.set(Some(make(handler, connection))));
                self.holder = Holder::Handler(slot);
                match made {
                    Ok(()) => self.poll_handler(),
                    Err(_) => self.handler_panicked(),
                }
            }
            other => self.holder = other,
        }
    }

    /// Polls the handler's future, and takes the connection back if it is done.
    pub(super) fn poll_handler(&mut self) {
        let Holder::Handler(slot) = &mut self.holder else {
            return;
        };
        let Some(future) = slot.as_mut().as_pin_mut() else {
            return;
        };
        let mut context = Context::from_waker(&self.waker);
        match guard(|| future.poll(&mut context)) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(finished)) => self.handler_finished(finished),
            Err(_) => self.handler_panicked(),
        }
    }

    /// Drops the handler's future.
    pub(super) fn drop_future(&mut self) {
        if let Holder::Handler(slot) = std::mem::replace(&mut self.holder, Holder::Nobody) {
            self.script.spare.give_back(slot);
        }
    }

    fn handler_panicked(&mut self) {
        // Before the future is dropped: the drop of its connection asks for a local end.
        self.begin_close(CloseReason::HandlerPanic);
        self.drop_future();
        self.holder = Holder::Session(Connection::new(Arc::clone(&self.link)));
    }

    fn handler_finished(&mut self, finished: Finished) {
        self.drop_future();
        let Finished {
            connection,
            verdict,
        } = finished;
        match connection {
            Some(connection) if Arc::ptr_eq(connection.link(), &self.link) => {
                self.take_back(connection);
            }
            // The handler gave back another connection than it was lent: both are closed. This
            // one's owner is whoever has it now.
            Some(_other) => {
                self.holder = Holder::Session(Connection::new(Arc::clone(&self.link)));
                self.begin_close(CloseReason::Local);
            }
            None => self.holder = Holder::Owner,
        }
        match verdict {
            Verdict::Failed(error) => self.begin_close(CloseReason::of_handler_error(error)),
            Verdict::Stalled => {
                self.flow.stalled = true;
                if matches!(&self.holder, Holder::Session(c) if !c.input.chain.is_empty()) {
                    self.clock.left_input();
                }
            }
            Verdict::Spent | Verdict::Yielded | Verdict::Returned => {}
        }
    }

    /// Parks the connection: what arrived while the handler ran is added to its input, what is
    /// left is moved into memory of its own size, and all else is let go.
    fn take_back(&mut self, mut connection: Connection) {
        let input = connection.input();
        let mut inbox = lock(&self.link.inbox);
        inbox.waiter = None;
        inbox.paused = false;
        let arrived = std::mem::take(&mut inbox.chain);
        drop(inbox);
        // A wait that was dropped has left what was unread in the inbox: that is no reason to call
        // the handler again.
        if arrived.len() > input.given() {
            self.flow.more = More::Input;
        }
        if !arrived.is_empty() {
            input.take(arrived);
        }
        if input.end_burst() > 0 {
            self.clock.consumed();
        }
        input.chain.release();
        self.holder = Holder::Session(connection);
    }

    /// Wakes whoever waits. The handler's own waker needs no queue: it is polled right here.
    pub(super) fn wake_waiter(&mut self, waker: Option<Waker>) {
        match waker {
            Some(waker) if waker.will_wake(&self.waker) => self.poll_handler(),
            Some(waker) => waker.wake(),
            None => {}
        }
    }
}

impl<H, M, F> Session<H, M, F> {
    pub(super) fn take_observer(&mut self) -> Option<Observer> {
        self.script.observer.take()
    }
}
