// SPDX-License-Identifier: MIT OR Apache-2.0
//! The drain of a connection: it accepts no new request, answers those in flight, and ends in
//! order.
//!
//! A shutdown of the loop begins it, and so does [`max_age`](crate::options::Timeouts::max_age).
//! The engine owns the [`Drain`], from which the rest follows:
//!
//! * Bytes that the kernel holds when the drain begins are read and served. A new connection whose
//!   peer has sent nothing yet has a *grace* period: its request may be on its way.
//! * A connection that is served by request is closed after that, unless it owes a reply.
//! * A handler that owns the connection reaches the end of its input when it waits with none
//!   buffered: its read fails with the reason, and its output is sent. A handler that has called
//!   [`draining`](super::drain_notify) decides on its own.
//! * A reply is owed while a [`WriteQueue`](super::write_queue::WriteQueue) of the connection is
//!   held, since its holder may send one, and while [work](super::in_flight) is in flight. The
//!   connection stays open for it after its handler has returned.
//!
//! This module sets no limit on the time this takes. The deadline of the shutdown does, and cuts
//! the connections that are left.

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
use crate::error::{CloseReason, ErrorKind};

/// How long after its accept a connection is new. A request that arrives later than that after its
/// connect is not waited for. Go's `http.Server.Shutdown` allows five seconds, too.
const GRACE: Duration = Duration::from_secs(5);

/// The work that a draining connection has left, and the reason of the drain.
#[derive(Debug)]
pub(super) struct Drain {
    /// How many of the bytes that the kernel held when the drain began it still holds.
    pub(super) backlog: usize,
    pub(super) reason: CloseReason,
    /// Until when a peer that has sent nothing yet may send a request.
    grace: Option<Instant>,
    /// Whether the owner of the connection has reached the end of its input.
    has_ended_input: bool,
}

impl Drain {
    /// Returns whether all the input that the drain waits for has arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.backlog == 0 && self.grace.is_none()
    }

    /// Records `count` received bytes.
    pub(super) fn received(&mut self, count: usize) {
        self.backlog = self.backlog.saturating_sub(count);
        if count > 0 {
            self.grace = None;
        }
    }
}

impl<C: Dispatcher> Engine<C> {
    /// Serves the bytes that the kernel holds now and the requests in flight, and then ends the
    /// connection for `reason`.
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

    /// Returns until when a new connection may send its first request.
    fn grace(&self, now: Instant) -> Option<Instant> {
        if self.shared.metrics.received.get() > 0 || self.handler.mode == HandlerMode::None {
            return None;
        }
        let first_byte = self.shared.timeouts().first_byte;
        let grace = first_byte.map_or(GRACE, |time| time.min(GRACE));
        let until = self.deadlines.created().checked_add(grace);
        until.filter(|until| *until > now)
    }

    /// Returns when the grace period of a draining new connection ends.
    pub(super) fn grace_deadline(&self) -> Option<Instant> {
        self.backpressure
            .drain
            .as_ref()
            .and_then(|drain| drain.grace)
    }

    /// Ends the grace period if it is over.
    pub(super) fn check_grace(&mut self, now: Instant) {
        if let Some(drain) = &mut self.backpressure.drain
            && drain.grace.is_some_and(|until| until <= now)
        {
            drain.grace = None;
            self.publish_drained();
        }
    }

    /// Records `count` received bytes, before they are appended to any buffer.
    pub(super) fn drain_received(&mut self, count: usize) {
        if let Some(drain) = &mut self.backpressure.drain {
            drain.received(count);
            self.publish_drained();
        }
    }

    /// Publishes, for request loops, that all awaited input has arrived.
    fn publish_drained(&self) {
        if self.backpressure.is_drained() {
            self.shared.set_drained();
        }
    }

    /// Returns whether the connection drains and may still owe a reply.
    pub(super) fn owes_replies(&self) -> bool {
        // A client holds its queue as long as it lives, and counts its calls.
        let is_owed = || {
            self.backpressure.read_policy == ReadPolicy::PauseOnBackpressure
                && self.shared.has_write_queues()
        };
        self.backpressure.drain.is_some() && (is_owed() || self.shared.watch_in_flight() > 0)
    }

    /// Returns whether the close that the owner's drop requested waits for owed replies.
    pub(super) fn is_close_deferred(&self) -> bool {
        self.handler.mode == HandlerMode::PerConnection
            && self.lifecycle.broken().is_none()
            && self.owes_replies()
    }

    /// Ends the input of a connection handler that is idle: it waits with no input buffered.
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

    /// Returns whether a connection handler failed with `reason` because a drain ended its input.
    /// The connection then ends as after a return without error.
    pub(super) fn has_ended_by_drain(&self, reason: &CloseReason) -> bool {
        let drain = self.backpressure.drain.as_ref();
        drain.is_some_and(|drain| drain.has_ended_input && is_same(&drain.reason, reason))
    }

    /// Returns whether a connection that is cut has received no request and does no work.
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

    /// Returns whether this is a client's connection. The requests it carries are in flight
    /// elsewhere, and a draining handler may need it.
    pub(super) fn is_client(&self) -> bool {
        let asks = self.handler.mode == HandlerMode::None
            || self.backpressure.read_policy == ReadPolicy::AlwaysRead;
        asks && self.tracked.is_none()
    }
}

impl Shared {
    /// Returns whether a read failed with `error` because the connection drains and takes no more.
    pub(crate) fn has_drained_for(&self, error: &io::Error) -> bool {
        let input_buffer = self.input_buffer_if_any();
        match (
            ErrorKind::payload(error),
            input_buffer
                .as_deref()
                .and_then(|input_buffer| input_buffer.end.as_ref()),
        ) {
            (Some(ErrorKind::Closed { reason: closed }), Some(InputEnd::Drained(reason))) => {
                is_same(closed, reason)
            }
            _ => false,
        }
    }
}

/// Returns whether both are the same reason for a drain.
fn is_same(one: &CloseReason, other: &CloseReason) -> bool {
    match (one, other) {
        (CloseReason::Shutdown, CloseReason::Shutdown) => true,
        (CloseReason::Timeout(one), CloseReason::Timeout(other)) => one == other,
        _ => false,
    }
}
