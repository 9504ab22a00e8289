// SPDX-License-Identifier: MIT OR Apache-2.0
//! The drain of a connection: it takes no new request, answers what is under way, and ends in order.
//!
//! A shutdown of the loop begins it, and so does [`max_age`](crate::Timeouts::max_age). The session
//! owns the [`Drain`], from which the rest follows:
//!
//! * What the kernel holds at that moment is read and served. A new connection whose peer has not sent
//!   anything yet has a *grace*: its request may be on its way.
//! * A connection that is served by the request is closed then, unless it owes something.
//! * A handler that owns the connection finds the end of its input when it waits with nothing at hand:
//!   its read fails with the reason, and what it puts is sent. One that has asked for
//!   [`draining`](super::draining) decides itself.
//! * Something is owed while a [`WriteQueue`](super::write_queue::WriteQueue) of the connection is held:
//!   whoever holds it may send an answer. So it is while [work](super::in_flight) is under way. The
//!   connection stays open for it after its handler has returned.
//!
//! Nothing here bounds how long that takes: the deadline of the shutdown does, and cuts what is left.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netpoll_sys::transfer;

use super::calling::{Caller, Calls, Holder};
use super::flow::Gate;
use super::inbox::{InputEnd, Waits};
use super::link::Link;
use super::session::Session;
use super::state::Phase;
use crate::error::{CloseReason, Closed};

/// How long after its accept a connection is new. A request that takes longer than this to follow its
/// connect is not waited for; five seconds are what Go's `http.Server.Shutdown` allows.
const GRACE: Duration = Duration::from_secs(5);

/// What a connection that drains has left to do, and why it does.
#[derive(Debug)]
pub(super) struct Drain {
    /// Bytes that the kernel still holds of what it held at the request.
    pub(super) backlog: usize,
    pub(super) reason: CloseReason,
    /// Until when a peer that has sent nothing yet may send a request.
    grace: Option<Instant>,
    /// Whether whoever owns the connection has found the end of its input.
    has_ended_input: bool,
}

impl Drain {
    /// Whether all has come that it waits for.
    pub(super) fn has_all(&self) -> bool {
        self.backlog == 0 && self.grace.is_none()
    }

    /// So many bytes have come.
    pub(super) fn received(&mut self, count: usize) {
        self.backlog = self.backlog.saturating_sub(count);
        if count > 0 {
            self.grace = None;
        }
    }
}

impl<C: Caller> Session<C> {
    /// Serves what the kernel holds for this connection now and what is under way, and then ends it for
    /// `reason`.
    pub(super) fn drain_for(&mut self, reason: CloseReason, now: Instant) {
        if self.flow.drain.is_some() || self.life.phase() != Phase::Open {
            return;
        }
        let backlog = transfer::bytes_waiting(self.link.as_fd()).unwrap_or(0);
        self.link.tell_end_begun(&reason);
        self.flow.drain = Some(Box::new(Drain {
            backlog,
            reason,
            grace: self.grace(now),
            has_ended_input: false,
        }));
        if self.script.calls == Calls::Once {
            self.link.inbox().waits = Waits::Told;
        }
        self.note_drained();
        self.link.tell_drain();
    }

    /// Until when a request of a new connection may come.
    fn grace(&self, now: Instant) -> Option<Instant> {
        if self.link.tally.received.get() > 0 || self.script.calls == Calls::Never {
            return None;
        }
        let first_byte = self.link.timeouts().first_byte;
        let grace = first_byte.map_or(GRACE, |time| time.min(GRACE));
        let until = self.clock.born().checked_add(grace);
        until.filter(|until| *until > now)
    }

    /// When the grace of a new connection is over, while it drains.
    pub(super) fn end_of_grace(&self) -> Option<Instant> {
        self.flow.drain.as_ref().and_then(|drain| drain.grace)
    }

    /// Ends a grace that is over.
    pub(super) fn look_at_the_grace(&mut self, now: Instant) {
        if let Some(drain) = &mut self.flow.drain
            && drain.grace.is_some_and(|until| until <= now)
        {
            drain.grace = None;
            self.note_drained();
        }
    }

    /// So many bytes have come, before they are anywhere.
    pub(super) fn drain_received(&mut self, count: usize) {
        if let Some(drain) = &mut self.flow.drain {
            drain.received(count);
            self.note_drained();
        }
    }

    /// Has whoever reads by the request know once all has come that is waited for.
    fn note_drained(&self) {
        if self.flow.is_drained() {
            self.link.note_drained();
        }
    }

    /// Whether the connection drains, and something may yet be sent that it owes.
    pub(super) fn owes_answers(&self) -> bool {
        // A client holds its queue for as long as it lives, and counts its calls.
        let is_owed = || self.flow.gate == Gate::Shut && self.link.is_owed();
        self.flow.drain.is_some() && (is_owed() || self.link.watch_in_flight() > 0)
    }

    /// Whether the end that its owner's drop asked for waits for what is owed.
    pub(super) fn is_end_put_off(&self) -> bool {
        self.script.calls == Calls::Once && self.life.broken().is_none() && self.owes_answers()
    }

    /// A handler of a whole life that waits with nothing at hand is idle: its input ends.
    pub(super) fn end_idle_owner(&mut self) {
        if self.script.calls != Calls::Once || !self.flow.is_drained() {
            return;
        }
        let inbox = self.link.inbox_if_any();
        let idle = inbox.is_some_and(|inbox| inbox.waiter.is_some() && inbox.chain.is_empty());
        if idle
            && !self.link.does_owner_ask()
            && let Some(drain) = &mut self.flow.drain
        {
            drain.has_ended_input = true;
            let reason = drain.reason.clone();
            self.link.finish_input(InputEnd::Drained(reason));
        }
    }

    /// Whether a handler that owned the connection has ended for `reason` because its input has: then
    /// the connection ends as after its return.
    pub(super) fn has_ended_by_drain(&self, reason: &CloseReason) -> bool {
        let drain = self.flow.drain.as_ref();
        drain.is_some_and(|drain| drain.has_ended_input && is_same(&drain.reason, reason))
    }

    /// Whether a connection that is cut has been asked for nothing, and nobody works on it.
    pub(super) fn is_new(&self) -> bool {
        let waits = match self.holder {
            Holder::Session(_) => true,
            _ => {
                let inbox = self.link.inbox_if_any();
                inbox.is_some_and(|inbox| inbox.waiter.is_some())
            }
        };
        waits && self.end_of_grace().is_some()
    }

    /// Whether others than the loop use it, to ask: what it is used for is under way elsewhere, and a
    /// handler that drains may need it.
    pub(super) fn is_of_a_client(&self) -> bool {
        let asks = self.script.calls == Calls::Never || self.flow.gate == Gate::Open;
        asks && self.presence.is_none()
    }
}

impl Link {
    /// Whether `error` says of a read that the connection drains and takes no more.
    pub(crate) fn has_drained_for(&self, error: &io::Error) -> bool {
        let report = error.get_ref();
        let closed = report.and_then(|report| report.downcast_ref::<Closed>());
        let inbox = self.inbox_if_any();
        match (
            closed,
            inbox.as_deref().and_then(|inbox| inbox.end.as_ref()),
        ) {
            (Some(closed), Some(InputEnd::Drained(reason))) => is_same(&closed.reason, reason),
            _ => false,
        }
    }
}

/// Whether both are one reason for which connections drain.
fn is_same(one: &CloseReason, other: &CloseReason) -> bool {
    match (one, other) {
        (CloseReason::Shutdown, CloseReason::Shutdown) => true,
        (CloseReason::Timeout(one), CloseReason::Timeout(other)) => one == other,
        _ => false,
    }
}
