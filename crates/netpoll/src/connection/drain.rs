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
//!   [`draining`](super::drain_notify) decides itself.
//! * Something is owed while a [`WriteQueue`](super::write_queue::WriteQueue) of the connection is held:
//!   whoever holds it may send an answer. So it is while [work](super::in_flight) is under way. The
//!   connection stays open for it after its handler has returned.
//!
//! Nothing here bounds how long that takes: the deadline of the shutdown does, and cuts what is left.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netpoll_sys::transfer;

use super::backpressure::ReadPolicy;
use super::dispatcher::{Dispatcher, HandlerMode, Owner};
use super::engine::Engine;
use super::input_buffer::{InputEnd, WaitNotice};
use super::lifecycle::Phase;
use super::shared::Shared;
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
    pub(super) fn is_complete(&self) -> bool {
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

impl<C: Dispatcher> Engine<C> {
    /// Serves what the kernel holds for this connection now and what is under way, and then ends it for
    /// `reason`.
    pub(super) fn begin_drain(&mut self, reason: CloseReason, now: Instant) {
        if self.backpressure.drain.is_some() || self.lifecycle.phase() != Phase::Open {
            return;
        }
        let backlog = transfer::bytes_waiting(self.shared.as_fd()).unwrap_or(0);
        self.shared.notify_closing(&reason);
        self.backpressure.drain = Some(Box::new(Drain {
            backlog,
            reason,
            grace: self.grace(now),
            has_ended_input: false,
        }));
        if self.handler.mode == HandlerMode::PerConnection {
            self.shared.input_buffer().on_wait = WaitNotice::NotifyPoller;
        }
        self.publish_drained();
        self.shared.notify_drain();
    }

    /// Until when a request of a new connection may come.
    fn grace(&self, now: Instant) -> Option<Instant> {
        if self.shared.metrics.received.get() > 0 || self.handler.mode == HandlerMode::None {
            return None;
        }
        let first_byte = self.shared.timeouts().first_byte;
        let grace = first_byte.map_or(GRACE, |time| time.min(GRACE));
        let until = self.deadlines.created().checked_add(grace);
        until.filter(|until| *until > now)
    }

    /// When the grace of a new connection is over, while it drains.
    pub(super) fn grace_deadline(&self) -> Option<Instant> {
        self.backpressure
            .drain
            .as_ref()
            .and_then(|drain| drain.grace)
    }

    /// Ends a grace that is over.
    pub(super) fn check_grace(&mut self, now: Instant) {
        if let Some(drain) = &mut self.backpressure.drain
            && drain.grace.is_some_and(|until| until <= now)
        {
            drain.grace = None;
            self.publish_drained();
        }
    }

    /// So many bytes have come, before they are anywhere.
    pub(super) fn drain_received(&mut self, count: usize) {
        if let Some(drain) = &mut self.backpressure.drain {
            drain.received(count);
            self.publish_drained();
        }
    }

    /// Has whoever reads by the request know once all has come that is waited for.
    fn publish_drained(&self) {
        if self.backpressure.is_drained() {
            self.shared.set_drained();
        }
    }

    /// Whether the connection drains, and something may yet be sent that it owes.
    pub(super) fn owes_replies(&self) -> bool {
        // A client holds its queue for as long as it lives, and counts its calls.
        let is_owed = || {
            self.backpressure.read_policy == ReadPolicy::PauseOnBackpressure
                && self.shared.has_write_queues()
        };
        self.backpressure.drain.is_some() && (is_owed() || self.shared.watch_in_flight() > 0)
    }

    /// Whether the end that its owner's drop asked for waits for what is owed.
    pub(super) fn is_close_deferred(&self) -> bool {
        self.handler.mode == HandlerMode::PerConnection
            && self.lifecycle.broken().is_none()
            && self.owes_replies()
    }

    /// A handler of a whole life that waits with nothing at hand is idle: its input ends.
    pub(super) fn end_idle_owner_input(&mut self) {
        if self.handler.mode != HandlerMode::PerConnection || !self.backpressure.is_drained() {
            return;
        }
        let input_buffer = self.shared.input_buffer_if_any();
        let idle = input_buffer.is_some_and(|input_buffer| {
            input_buffer.waiter.is_some() && input_buffer.buffer.is_empty()
        });
        if idle
            && !self.shared.owner_handles_drain()
            && let Some(drain) = &mut self.backpressure.drain
        {
            drain.has_ended_input = true;
            let reason = drain.reason.clone();
            self.shared.end_input(InputEnd::Drained(reason));
        }
    }

    /// Whether a handler that owned the connection has ended for `reason` because its input has: then
    /// the connection ends as after its return.
    pub(super) fn has_ended_by_drain(&self, reason: &CloseReason) -> bool {
        let drain = self.backpressure.drain.as_ref();
        drain.is_some_and(|drain| drain.has_ended_input && is_same(&drain.reason, reason))
    }

    /// Whether a connection that is cut has been asked for nothing, and nobody works on it.
    pub(super) fn awaits_first_request(&self) -> bool {
        let waits = match self.owner {
            Owner::Engine(_) => true,
            _ => {
                let input_buffer = self.shared.input_buffer_if_any();
                input_buffer.is_some_and(|input_buffer| input_buffer.waiter.is_some())
            }
        };
        waits && self.grace_deadline().is_some()
    }

    /// Whether others than the loop use it, to ask: what it is used for is under way elsewhere, and a
    /// handler that drains may need it.
    pub(super) fn is_client(&self) -> bool {
        let asks = self.handler.mode == HandlerMode::None
            || self.backpressure.read_policy == ReadPolicy::AlwaysRead;
        asks && self.tracked.is_none()
    }
}

impl Shared {
    /// Whether `error` says of a read that the connection drains and takes no more.
    pub(crate) fn has_drained_for(&self, error: &io::Error) -> bool {
        let report = error.get_ref();
        let closed = report.and_then(|report| report.downcast_ref::<Closed>());
        let input_buffer = self.input_buffer_if_any();
        match (
            closed,
            input_buffer
                .as_deref()
                .and_then(|input_buffer| input_buffer.end.as_ref()),
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
