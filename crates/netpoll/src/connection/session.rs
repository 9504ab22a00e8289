// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection as its poller drives it.
//!
//! The session owns the connection while it is idle and lends it to the handler while there is
//! input. It is told what landed and what left, and answers what it wants next. All its
//! transitions are on its poller's thread; how it ends is in [`teardown`](super::teardown).

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use netpoll_sys::{Interest, Readiness};

use super::Connection;
use super::handler::{Finished, Shared, Slot, SpareSlots, Verdict};
use super::inbox::{self, InputEnd};
use super::link::Link;
use super::state::{Input, Life, Phase};
use crate::census::Presence;
use crate::error::CloseReason;
use crate::guard::guard;
use crate::poll::bell::Signal;
use crate::poll::source::{Ask, End, Landed, Next, Outgoing, Room, Source, Turn};
use crate::sync::{Arc, lock};

/// From this size on, a connection that sends such frames gets its next one into a block of its
/// own from the first byte.
const LARGE_FRAME: usize = 32 << 10;

/// What such a block has more than the frame, for its header.
const HEADER_ROOM: usize = 512;

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

/// One connection and its handler.
pub(crate) struct Session<H, M, F> {
    pub(super) link: Arc<Link>,
    waker: Waker,
    script: Script<H, M, F>,
    pub(super) holder: Holder<F>,
    pub(super) life: Life,
    pub(super) presence: Option<Presence>,
    pub(super) flow: Flow,
}

/// What of the session's state is about bytes in waiting.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The handler left input it could not use; it is called again when there is more.
    pub(super) stalled: bool,
    /// What the handler is to be called for without another event.
    pub(super) more: More,
    /// The inbox has enough.
    paused: Paused,
    /// Unsent bytes, as far as the last send knows.
    pub(super) unsent: usize,
    /// While draining: bytes that the kernel still holds of what it held at the request.
    pub(super) backlog: Option<usize>,
    /// When the end, once begun, is forced.
    pub(super) ends_by: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum More {
    #[default]
    No,
    /// There is input that was not offered.
    Input,
    /// The end of the input was not offered.
    Fin,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Paused {
    #[default]
    No,
    /// Until the inbox is taken.
    Inbox,
    /// Until the unsent output is below the low mark.
    Output,
}

impl<H, M, F> Session<H, M, F>
where
    H: 'static,
    M: Fn(Shared<H>, Connection) -> F + 'static,
    F: Future<Output = Finished> + 'static,
{
    /// A session that holds a new connection.
    pub(crate) fn new(
        link: Arc<Link>,
        script: Script<H, M, F>,
        presence: Option<Presence>,
    ) -> Self {
        let connection = Connection::new(Arc::clone(&link));
        Self::held(link, Holder::Session(connection), script, presence)
    }

    /// A session whose connection somebody owns.
    pub(crate) fn owned(link: Arc<Link>, script: Script<H, M, F>) -> Self {
        Self::held(link, Holder::Owner, script, None)
    }

    fn held(
        link: Arc<Link>,
        holder: Holder<F>,
        script: Script<H, M, F>,
        presence: Option<Presence>,
    ) -> Self {
        let waker = Waker::from(Arc::clone(&link));
        Self {
            link,
            waker,
            script,
            holder,
            life: Life::new(),
            presence,
            flow: Flow::default(),
        }
    }

    /// Calls the handler with the connection, if it is here and there is something to call it for.
    fn call_handler(&mut self) {
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
    fn poll_handler(&mut self) {
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
            Verdict::Stalled => self.flow.stalled = true,
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
        if !arrived.is_empty() {
            input.take(arrived);
            self.flow.more = More::Input;
        }
        input.chain.release();
        self.holder = Holder::Session(connection);
    }

    /// What is left of the input after a burst, and whether it is to be offered again.
    fn review_input(&mut self) {
        let Holder::Session(connection) = &mut self.holder else {
            return;
        };
        let chain = &mut connection.input().chain;
        if chain.is_empty() {
            self.flow.more = More::No;
            self.flow.stalled = false;
        } else if !self.flow.stalled {
            self.flow.more = More::Input;
        } else if self.flow.more == More::No {
            chain.settle_down();
        }
    }

    /// Whether the unsent output is above what it may be for input to go on.
    fn is_congested(&mut self) -> bool {
        let options = &self.link.options;
        // What was put since the last send counts by its mark: a full socket takes no send.
        if self.flow.unsent >= options.write_high || self.link.is_past_write_mark() {
            self.flow.paused = Paused::Output;
        } else if self.flow.paused == Paused::Output && self.flow.unsent <= options.write_low {
            self.flow.paused = Paused::No;
        }
        self.flow.paused == Paused::Output
    }

    /// Whether so much input waits to be offered that more should stay with the kernel.
    fn has_plenty(&self) -> bool {
        let high = self.link.options.read_high;
        matches!(&self.holder, Holder::Session(connection)
            if self.flow.more == More::Input && connection.input.chain.len() >= high)
    }

    /// Whether the poller should read.
    fn wants_input(&mut self) -> bool {
        let open = self.life.phase() == Phase::Open && self.life.input() == Input::Open;
        let drained = self.flow.backlog == Some(0);
        match self.holder {
            Holder::Session(_) => open && !drained && !self.has_plenty() && !self.is_congested(),
            Holder::Handler(_) | Holder::Owner => {
                if self.flow.paused == Paused::Inbox && !lock(&self.link.inbox).paused {
                    self.flow.paused = Paused::No;
                }
                open && self.flow.paused != Paused::Inbox
            }
            Holder::Nobody => false,
        }
    }

    /// What the session wants next, as its whole state says.
    fn next(&mut self, turn: &mut Turn) -> Next {
        self.hear_endings();
        if self.life.phase() == Phase::Open {
            self.review_input();
            self.end_if_done();
            if self.flow.backlog == Some(0) {
                self.end_idle_owner();
            }
        }
        if self.life.phase() != Phase::Open {
            return self.next_of_the_end(turn);
        }
        let interest = Interest::READABLE.when(self.wants_input());
        if self.flow.more != More::No && !self.is_congested() {
            Next::Again(interest)
        } else {
            Next::Wait(interest)
        }
    }

    /// An open connection with nothing more to come or to do ends here.
    fn end_if_done(&mut self) {
        let Holder::Session(connection) = &mut self.holder else {
            return;
        };
        let idle = connection.input().chain.is_empty() || self.flow.stalled;
        if !idle || self.flow.more != More::No {
            return;
        }
        if self.life.input() == Input::Ended {
            self.begin_close(CloseReason::PeerFin);
        } else if self.flow.backlog == Some(0) {
            self.begin_close(CloseReason::Shutdown);
        }
    }

    /// Has the handler see what there is: called if it is not running, woken if it waits.
    fn offer(&mut self) {
        match &self.holder {
            Holder::Session(_) if self.script.calls == Calls::PerRequest => {
                if !self.is_congested() {
                    self.call_handler();
                } else if self.flow.more == More::No {
                    self.flow.more = More::Input;
                }
            }
            _ => {}
        }
    }

    /// Wakes a Reader. The handler's own waker needs no queue: it is polled right here.
    fn wake_reader(&mut self, waker: Option<Waker>) {
        match waker {
            Some(waker) if waker.will_wake(&self.waker) => self.poll_handler(),
            Some(waker) => waker.wake(),
            None => {}
        }
    }
}

impl<H, M, F> Source for Session<H, M, F>
where
    H: 'static,
    M: Fn(Shared<H>, Connection) -> F + 'static,
    F: Future<Output = Finished> + 'static,
{
    fn fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    fn born(&mut self, turn: &mut Turn) -> Next {
        if self.script.calls == Calls::Once && matches!(self.holder, Holder::Session(_)) {
            self.call_handler();
        }
        self.next(turn)
    }

    #[inline]
    fn room(&mut self) -> Room {
        if self.life.phase() == Phase::Lingering {
            return Room::Shared;
        }
        if !self.wants_input() {
            return Room::Closed;
        }
        match &mut self.holder {
            Holder::Session(connection) => {
                let input = connection.input();
                if input.largest < LARGE_FRAME {
                    return Room::Shared;
                }
                let block = input.largest + HEADER_ROOM;
                Room::Own(input.chain.landing(block, block))
            }
            _ => lock(&self.link.inbox).room(),
        }
    }

    #[inline]
    fn landed(&mut self, landed: Landed, turn: &mut Turn) -> Next {
        let count = match &landed {
            Landed::Shared(window) => window.len(),
            Landed::Own(_, count) => *count,
        };
        if let Some(backlog) = &mut self.flow.backlog {
            *backlog = backlog.saturating_sub(count);
        }
        if self.life.phase() != Phase::Open {
            return self.next(turn);
        }
        match &mut self.holder {
            Holder::Session(connection) => {
                let input = connection.input();
                inbox::append(&mut input.chain, landed);
                input.count(count);
                if count > 0 {
                    self.offer();
                }
            }
            _ => {
                let mut inbox = lock(&self.link.inbox);
                let waker = inbox.append(landed);
                inbox.paused = inbox.is_full(self.link.options.read_high);
                if inbox.paused {
                    self.flow.paused = Paused::Inbox;
                }
                drop(inbox);
                self.wake_reader(waker);
            }
        }
        self.next(turn)
    }

    fn ended(&mut self, end: End, turn: &mut Turn) -> Next {
        match end {
            End::Fin => {
                self.life.end_input();
                self.life.over();
                let waker = lock(&self.link.inbox).finish(InputEnd::Fin);
                self.wake_reader(waker);
                // What the handler left is offered once more: now it knows there is no more.
                if self.flow.stalled {
                    self.flow.more = More::Fin;
                }
            }
            End::Broken(error) => self.die(CloseReason::Broken(Arc::new(error))),
        }
        self.next(turn)
    }

    fn outgoing(&mut self) -> Option<Outgoing> {
        if self.life.phase() == Phase::Closed {
            None
        } else {
            self.link.take_output()
        }
    }

    #[inline]
    fn sent(&mut self, rest: Outgoing, result: io::Result<usize>, turn: &mut Turn) -> Next {
        match result {
            Ok(_) => {
                let mut outbox = lock(&self.link.outbox);
                let flushed = outbox.give_back(rest);
                self.flow.unsent = outbox.unsent();
                drop(outbox);
                self.wake_reader(flushed);
            }
            Err(error) => self.die(CloseReason::Broken(Arc::new(error))),
        }
        self.next(turn)
    }

    fn ready(&mut self, readiness: Readiness, turn: &mut Turn) -> Next {
        match self.next(turn) {
            // Both directions are over and nothing is read now: the event would come for ever.
            // Whatever wants to read again watches again, and hears of it.
            Next::Wait(interest) if readiness.is_hang_up() && interest == Interest::NONE => {
                Next::Unwatched
            }
            next => next,
        }
    }

    fn woken(&mut self, turn: &mut Turn) -> Next {
        let signals = self.link.bell.take();
        if signals.has(Signal::Poll) {
            self.poll_handler();
        }
        if self.flow.more != More::No && self.life.phase() == Phase::Open {
            self.offer();
        }
        self.next(turn)
    }

    fn expired(&mut self, turn: &mut Turn) -> Next {
        self.time_is_up();
        self.next(turn)
    }

    fn asked(&mut self, ask: Ask, turn: &mut Turn) -> Next {
        match ask {
            Ask::Drain => self.drain(),
            Ask::Force => self.force(),
        }
        self.next(turn)
    }
}

impl<H, M, F> Session<H, M, F> {
    pub(super) fn observer(&self) -> Option<&Observer> {
        self.script.observer.as_ref()
    }

    pub(super) fn calls(&self) -> Calls {
        self.script.calls
    }
}
