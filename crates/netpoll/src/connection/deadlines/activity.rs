// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who waits for what on a connection, and who works for it.
//!
//! A session sees who waits in the inbox and the outbox, and whose hands the connection is in. From
//! that follows whether the peer's silence counts, and against whom.

use std::time::Instant;

use crate::connection::backpressure::{MemoryPressure, PauseReason, ReadPolicy};
use crate::connection::dispatcher::{Dispatcher, Owner};
use crate::connection::engine::Engine;
use crate::connection::input_buffer::ReadTimeoutPolicy;
use crate::connection::partial_input::{ByteCounts, PartialInput};
use crate::sync::lock;
use crate::timeouts::Wait;
use crate::timestamp::Timestamp;

/// What is waited for on a connection right now.
pub(super) struct PendingWaits {
    /// A Reader, and what becomes of a wait that takes too long.
    pub(super) reader: Option<(Wait, ReadTimeoutPolicy)>,
    pub(super) flush: Option<Wait>,
}

/// What of the input is awaited.
pub(super) enum AwaitedInput {
    /// What has begun at `at` in the stream. It has been awaited since.
    Started { at: usize, since: Instant },
    /// What has not begun.
    NotStarted,
    /// Nothing for now: the handler does something else, or nothing is read.
    None,
}

impl<C: Dispatcher> Engine<C> {
    /// Who waits for what; notes when some of what is awaited has come.
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

    /// Whether what the peer sends is read.
    fn is_reading(&self) -> bool {
        self.backpressure.paused == PauseReason::None
            && self.backpressure.memory_pressure == MemoryPressure::None
            && !self.shared.are_reads_paused()
    }

    /// Notes that some of what is awaited has come, or that nothing is awaited so.
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
                    // Nothing has come since the wait began, or it would have been noted then.
                    _ => *known = Some(PartialInput::new(at, since.max(active), moved)),
                }
            }
        }
    }

    /// What has moved so far.
    pub(super) fn byte_counts(&self) -> ByteCounts {
        ByteCounts {
            received: self.shared.metrics.received.get(),
            sent: lock(&self.shared.output_buffer).sent,
        }
    }

    /// Whether the peer's silence is what keeps the connection: the handler, or the owner, does
    /// nothing else than to wait for input, all output has left, and what comes is read.
    pub(super) fn is_input_awaited(&self, waits: &PendingWaits) -> bool {
        let held = matches!(self.owner, Owner::Handler(_) | Owner::User);
        let elsewhere_engaged = held && waits.reader.is_none();
        !elsewhere_engaged && self.backpressure.unsent == 0 && !self.shared.are_reads_paused()
    }

    /// Whether somebody works on the connection: then it is not idle, however silent it is.
    pub(super) fn is_busy(&self, waits: &PendingWaits) -> bool {
        !self.is_input_awaited(waits)
            || self.shared.work_in_flight() > 0
            || self.awaits_something_else()
            || self.is_reply_pending()
    }

    /// Whether the handler waits for something else than its connection, and will be woken by it:
    /// somebody keeps a waker of it who is not of the connection.
    fn awaits_something_else(&self) -> bool {
        let Owner::Handler(call) = &self.owner else {
            return false;
        };
        let dispatcher = &self.handler.dispatcher;
        let kept = dispatcher.external_wakers(call, &self.shared, self.deadlines.active_timeouts);
        // Whatever wakes the handler for its reader keeps one.
        let reads = self
            .shared
            .input_buffer_if_any()
            .is_some_and(|input_buffer| input_buffer.waiter.is_some());
        kept > usize::from(reads)
    }

    /// Whether somebody beside the reader may owe the peer an answer, as far as can be seen: he has
    /// put nothing since input came. Not on a connection on which what comes are the answers.
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

    /// Bytes that have come and were not consumed, as far as is known here.
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

    /// So much input has come, which whoever answers aside may owe an answer to.
    #[inline]
    pub(in crate::connection) fn track_reply(&self, count: usize) {
        if let Some(extensions) = self.shared.extensions.get()
            && extensions.has_separate_writer()
        {
            let before = self.shared.metrics.received.get() - count as u64;
            extensions
                .reply_tracker
                .on_input(lock(&self.shared.output_buffer).total_put(), before);
        }
    }

    /// Since when nobody has worked on the connection and no byte has moved that is a sign of life,
    /// where nobody does.
    pub(super) fn idle_since(&self) -> Instant {
        let done = self.shared.work_done();
        match self.deadlines.partial() {
            Some(partial) if partial.is_counting() => partial.idle_since().max(done.to_instant()),
            _ => self.shared.metrics.last_active().max(done).to_instant(),
        }
    }

    /// Notes whether somebody works on the connection: it is idle from when nobody does any more.
    pub(super) fn set_busy(&mut self, working: bool, now: Instant) {
        let before = std::mem::replace(&mut self.deadlines.busy, working);
        if before && !working {
            self.shared
                .metrics
                .record_activity(Timestamp::from_instant(now));
        }
    }

    /// The handler was polled. If it was at work before, it was till now.
    #[inline]
    pub(in crate::connection) fn on_handler_polled(&mut self) {
        if self.deadlines.busy {
            self.deadlines.busy = false;
            self.shared.metrics.record_activity(Timestamp::now());
        }
    }
}
