// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a connection waits for, and whether its handler or owner works.
//!
//! The engine sees the waiters in the input and output buffers, and the owner of the connection.
//! From these follows whether the peer's silence counts toward a timeout.

use std::time::Instant;

use crate::connection::backpressure::{MemoryPressure, PauseReason, ReadPolicy};
use crate::connection::dispatcher::{Dispatcher, Owner};
use crate::connection::engine::Engine;
use crate::connection::input_buffer::ReadTimeoutPolicy;
use crate::connection::partial_input::{ByteCounts, PartialInput};
use crate::sync::lock;
use crate::timeouts::Wait;
use crate::timestamp::Timestamp;

/// The waits that are pending on a connection right now.
pub(super) struct PendingWaits {
    /// The wait of a reader, and what its timeout does.
    pub(super) reader: Option<(Wait, ReadTimeoutPolicy)>,
    pub(super) flush: Option<Wait>,
}

/// The part of the input that is awaited.
pub(super) enum AwaitedInput {
    /// The rest of an input that begins at offset `at` of the stream. Awaited since `since`.
    Started { at: usize, since: Instant },
    /// Input of which nothing has arrived.
    NotStarted,
    /// Nothing for now: the handler does something else, or reads are paused.
    None,
}

impl<C: Dispatcher> Engine<C> {
    /// Returns the pending waits, and records whether part of the awaited input has arrived.
    pub(super) fn pending_waits(&mut self, now: Instant) -> PendingWaits {
        let mut reader = None;
        let mut awaited = match &self.owner {
            Owner::Engine(connection) => match self.deadlines.input_left_since() {
                Some(since) => AwaitedInput::Started {
                    at: connection.local.reader.consumed(),
                    since,
                },
                None if connection.local.reader.buffer.is_empty() => AwaitedInput::NotStarted,
                None => AwaitedInput::None,
            },
            _ => AwaitedInput::None,
        };
        if let Some(input_buffer) = self.shared.input_buffer_if_any()
            && let Some(waiter) = &input_buffer.waiter
        {
            reader = Some((waiter.wait, waiter.timeout_policy));
            awaited = match input_buffer.buffer.is_empty() {
                true => AwaitedInput::NotStarted,
                false => AwaitedInput::Started {
                    at: waiter.at,
                    since: waiter.wait.since,
                },
            };
        }
        let flush = if self.backpressure.unsent > 0 {
            lock(&self.shared.output_buffer).flush_wait()
        } else {
            None
        };
        let awaited = if self.is_reading() {
            awaited
        } else {
            AwaitedInput::None
        };
        self.update_partial_input(awaited, now);
        PendingWaits { reader, flush }
    }

    /// Returns whether the poller reads what the peer sends.
    fn is_reading(&self) -> bool {
        self.backpressure.paused == PauseReason::None
            && self.backpressure.memory_pressure == MemoryPressure::None
            && !self.shared.are_reads_paused()
    }

    /// Records that part of the awaited input has arrived, or that none is awaited.
    pub(super) fn update_partial_input(&mut self, awaited: AwaitedInput, now: Instant) {
        match awaited {
            AwaitedInput::NotStarted => {
                if let Some(cold) = &mut self.deadlines.cold {
                    cold.partial = None;
                }
            }
            AwaitedInput::None => {
                let cold = self.deadlines.cold.as_mut();
                if let Some(partial) = cold.and_then(|cold| cold.partial.as_mut()) {
                    partial.pause(now);
                }
            }
            AwaitedInput::Started { at, since } => {
                let (active, moved) = (self.shared.metrics.last_active_at(), self.byte_counts());
                let known = &mut self.deadlines.cold().partial;
                match known {
                    Some(partial) if partial.begins_at(at) => partial.resume(now),
                    // Nothing has arrived since the wait began, or an entry would exist.
                    _ => *known = Some(PartialInput::new(at, since.max(active), moved)),
                }
            }
        }
    }

    /// Returns how many bytes have moved so far.
    pub(super) fn byte_counts(&self) -> ByteCounts {
        ByteCounts {
            received: self.shared.metrics.received.get(),
            sent: lock(&self.shared.output_buffer).sent,
        }
    }

    /// Returns whether the connection waits for its peer alone: the handler or owner does nothing
    /// except wait for input, all output is sent, and reads are not paused.
    pub(super) fn is_input_awaited(&self, waits: &PendingWaits) -> bool {
        let held = matches!(self.owner, Owner::Handler(_) | Owner::User);
        let elsewhere_engaged = held && waits.reader.is_none();
        !elsewhere_engaged && self.backpressure.unsent == 0 && !self.shared.are_reads_paused()
    }

    /// Returns whether work is under way on the connection. If so it is not idle, even without
    /// traffic.
    pub(super) fn is_busy(&self, waits: &PendingWaits) -> bool {
        !self.is_input_awaited(waits)
            || self.shared.work_in_flight() > 0
            || self.awaits_something_else()
            || self.is_reply_pending()
    }

    /// Returns whether the handler awaits something other than its connection: an external future
    /// keeps one of its wakers.
    fn awaits_something_else(&self) -> bool {
        let Owner::Handler(call) = &self.owner else {
            return false;
        };
        let dispatcher = &self.handler.dispatcher;
        let kept = dispatcher.external_wakers(call, &self.shared, self.deadlines.active_timeouts);
        // A read that waits keeps one waker.
        let reads = self
            .shared
            .input_buffer_if_any()
            .is_some_and(|input_buffer| input_buffer.waiter.is_some());
        kept > usize::from(reads)
    }

    /// Returns whether a separate writer may owe the peer a reply, as far as can be seen: it has
    /// put nothing since input arrived. Always false on a connection whose input is the replies.
    fn is_reply_pending(&self) -> bool {
        let Some(extensions) = self.shared.extensions.get() else {
            return false;
        };
        let begun = self
            .deadlines
            .partial()
            .is_some_and(PartialInput::is_counting);
        if self.backpressure.read_policy == ReadPolicy::AlwaysRead
            || !extensions.has_separate_writer()
        {
            return false;
        }
        let put = lock(&self.shared.output_buffer).total_put();
        let consumed = self
            .shared
            .metrics
            .received
            .get()
            .saturating_sub(self.unread());
        extensions
            .reply_tracker
            .is_reply_pending(put, consumed, begun)
    }

    /// Returns how many received bytes are not consumed, as far as the engine knows.
    fn unread(&self) -> u64 {
        let held = match &self.owner {
            Owner::Engine(connection) => connection.local.reader.buffer.len(),
            _ => 0,
        };
        let input_buffer = self
            .shared
            .input_buffer_if_any()
            .map_or(0, |input_buffer| input_buffer.buffer.len());
        (held + input_buffer) as u64
    }

    /// Returns since when the connection is idle: no work was under way, and no byte moved that
    /// counts as a sign of life.
    pub(super) fn idle_since(&self) -> Instant {
        let done = self.shared.work_done();
        match self.deadlines.partial() {
            Some(partial) if partial.is_counting() => partial.idle_since().max(done.to_instant()),
            _ => self.shared.metrics.last_active().max(done).to_instant(),
        }
    }

    /// Records whether work is under way. The idle time starts when it no longer is.
    pub(super) fn set_busy(&mut self, working: bool, now: Instant) {
        let before = std::mem::replace(&mut self.deadlines.busy, working);
        if before && !working {
            self.shared
                .metrics
                .record_activity(Timestamp::from_instant(now));
        }
    }

    /// Records a poll of the handler. If the handler was busy before, it was busy until now.
    #[inline]
    pub(in crate::connection) fn on_handler_polled(&mut self) {
        if self.deadlines.busy {
            self.deadlines.busy = false;
            self.shared.metrics.record_activity(Timestamp::now());
        }
    }
}
