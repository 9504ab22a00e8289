// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits on the bytes that wait on either side of a connection.
//!
//! Toward the handler: while it runs, the input buffer fills up to the high watermark. Then the
//! poller stops reading, unless the handler waits for more. The poller keeps its read interest
//! until more input is ready. By then the handler has usually taken the buffer, which saves the two
//! system calls of a change of interest for every watermark's worth of a stream.
//!
//! Toward the peer: above the high watermark of unsent output the handler is not called and nothing
//! is read, until the unsent output is down to the low watermark. A peer that sends and never reads
//! therefore costs at most two watermarks of memory.

use super::dispatcher::{Dispatcher, Owner};
use super::drain::Drain;
use super::engine::Engine;
use super::lifecycle::{InputState, Phase};
use crate::budget::SHORTAGE_ALLOWANCE;
use crate::error::{CloseReason, Limit};
use crate::poll::source::SourceContext;

/// The part of the engine's state that concerns waiting bytes.
#[derive(Debug, Default)]
pub(super) struct Backpressure {
    /// The handler left input it could not use; it is called again when more arrives.
    pub(super) needs_more_input: bool,
    /// The reason to call the handler without another event.
    pub(super) pending_dispatch: PendingDispatch,
    /// Why reading is paused, if it is.
    pub(super) paused: PauseReason,
    /// Whether memory is short while the connection holds some of it.
    pub(super) memory_pressure: MemoryPressure,
    /// Whether unsent output pauses reads.
    pub(super) read_policy: ReadPolicy,
    /// Bytes that wait for the socket, as far as the engine knows.
    pub(super) unsent: usize,
    /// The drain, while the connection drains.
    pub(super) drain: Option<Box<Drain>>,
    /// Whether the linger deadline of a close is set.
    pub(super) linger: LingerState,
}

/// Whether the linger time of a close has started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LingerState {
    #[default]
    NotStarted,
    Started,
}

impl Backpressure {
    /// Returns whether all the input that a drain waits for has arrived.
    pub(super) fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.is_complete())
    }

    /// Returns the reason with which a draining connection closes.
    pub(super) fn drain_reason(&self) -> CloseReason {
        let reason = self.drain.as_ref().map(|drain| drain.reason.clone());
        reason.unwrap_or(CloseReason::Shutdown)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PendingDispatch {
    #[default]
    None,
    /// Some input was not offered to the handler.
    Input,
    /// The end of the input was not offered to the handler.
    Fin,
}

/// Whether unsent output above the high watermark pauses reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReadPolicy {
    /// Reads pause: input causes more output.
    #[default]
    PauseOnBackpressure,
    /// Reads go on: the input is replies, and a peer that waits for them to be read would take no
    /// more output.
    AlwaysRead,
}

/// Whether memory is short for more input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MemoryPressure {
    #[default]
    None,
    High,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PauseReason {
    #[default]
    None,
    /// Until the input buffer is taken: it is full, and more input is ready.
    Input,
    /// Until the unsent output is down to the low watermark.
    Output,
}

impl<C: Dispatcher> Engine<C> {
    /// Returns whether the connection is in the usual state: open and idle, with nothing waiting on
    /// either side. It then wants only input, and no other check is needed.
    #[inline]
    pub(super) fn is_quiescent(&self) -> bool {
        self.is_otherwise_quiescent()
            && matches!(&self.owner, Owner::Engine(connection) if connection.local.reader.buffer.is_empty())
    }

    /// Returns whether the connection is quiescent apart from its owner.
    #[inline]
    fn is_otherwise_quiescent(&self) -> bool {
        let quiet = !self.backpressure.needs_more_input
            && self.backpressure.pending_dispatch == PendingDispatch::None
            && self.backpressure.paused == PauseReason::None
            && self.backpressure.drain.is_none()
            && self.backpressure.unsent == 0;
        quiet && self.lifecycle.is_untouched() && self.shared.is_untouched()
    }

    /// Returns whether the owner waits for input, or may start to at any moment, and the connection
    /// is otherwise quiescent. It then wants only input, and the deadline that was computed for an
    /// earlier wait is early enough. Out of line, so that a quiescent connection saves no registers.
    #[inline(never)]
    pub(super) fn is_only_reading(&self, context: &SourceContext) -> bool {
        if !self.is_otherwise_quiescent()
            || !self.deadlines.covers_reads()
            || context.is_short_of_memory()
        {
            return false;
        }
        let (waits, some_came) = match self.shared.input_buffer_if_any() {
            Some(input_buffer) => (
                input_buffer.waiter.is_some(),
                !input_buffer.buffer.is_empty(),
            ),
            None => (false, false),
        };
        // A wait for which part of the input has arrived has a deadline of its own.
        if self.is_off_poller() {
            !(waits && some_came)
        } else {
            matches!(self.owner, Owner::Handler(_)) && waits && !some_came
        }
    }

    /// Checks the input that a request batch left, and whether to offer it again.
    pub(super) fn review_input(&mut self) {
        let Owner::Engine(connection) = &mut self.owner else {
            return;
        };
        let buffer = &mut connection.reader_state().buffer;
        if buffer.is_empty() {
            self.backpressure.pending_dispatch = PendingDispatch::None;
            self.backpressure.needs_more_input = false;
        } else if !self.backpressure.needs_more_input {
            self.backpressure.pending_dispatch = PendingDispatch::Input;
        } else if buffer.len() > self.shared.options.max_frame {
            // No frame may be this long: a handler that still needs more would never have enough.
            self.begin_close(CloseReason::Limit(Limit::Frame));
        } else if self.backpressure.pending_dispatch == PendingDispatch::None {
            buffer.compact();
        }
    }

    /// Pauses reads for `reason`, and counts the pause if the reason is new.
    pub(super) fn pause(&mut self, reason: PauseReason) {
        if self.backpressure.paused != reason {
            let counters = &self.shared.notifier.counters().poller;
            match reason {
                PauseReason::None => {}
                PauseReason::Input => counters.pauses_for_handler.add(1),
                PauseReason::Output => counters.pauses_for_peer.add(1),
            }
            self.backpressure.paused = reason;
        }
    }

    /// Pauses reads if the input buffer is full, now that more input is ready.
    pub(super) fn pause_for_input_buffer(&mut self) {
        let paused = match self.shared.input_buffer_if_any() {
            Some(mut input_buffer) => input_buffer.pause(),
            None => false,
        };
        if paused {
            self.pause(PauseReason::Input);
        }
    }

    /// Returns whether too much output is unsent for input to go on.
    pub(super) fn is_backpressured(&mut self) -> bool {
        if self.backpressure.read_policy == ReadPolicy::AlwaysRead {
            return false;
        }
        let options = &self.shared.options;
        // Output since the last send counts through its watermark flag: a full socket accepts no
        // send.
        if self.backpressure.unsent >= options.write_high || self.shared.is_past_high_watermark() {
            self.pause(PauseReason::Output);
        } else if self.backpressure.paused == PauseReason::Output
            && self.backpressure.unsent <= options.write_low
        {
            self.backpressure.paused = PauseReason::None;
        }
        self.backpressure.paused == PauseReason::Output
    }

    /// Returns whether so much input waits to be offered that the rest should stay in the kernel.
    fn has_enough_input(&self) -> bool {
        let high = self.shared.options.read_high;
        matches!(&self.owner, Owner::Engine(connection)
            if self.backpressure.pending_dispatch == PendingDispatch::Input && connection.local.reader.buffer.len() >= high)
    }

    /// Returns whether the poller should read.
    pub(super) fn wants_input(&mut self, context: &SourceContext) -> bool {
        let open = self.lifecycle.phase() == Phase::Open
            && self.lifecycle.input() == InputState::Open
            && !self.shared.are_reads_paused();
        // With `ReadPolicy::AlwaysRead` the input is replies.
        let drained = self.backpressure.is_drained()
            && self.backpressure.read_policy == ReadPolicy::PauseOnBackpressure;
        let wants = match self.owner {
            Owner::Engine(_) => {
                open && !drained && !self.has_enough_input() && !self.is_backpressured()
            }
            Owner::Handler(_) | Owner::User => {
                if self.backpressure.paused == PauseReason::Input
                    && !self.shared.input_buffer().paused
                {
                    self.backpressure.paused = PauseReason::None;
                }
                open && self.backpressure.paused != PauseReason::Input
            }
            Owner::None => false,
        };
        self.backpressure.memory_pressure =
            if wants && context.is_short_of_memory() && self.holds_input() {
                MemoryPressure::High
            } else {
                MemoryPressure::None
            };
        wants && self.backpressure.memory_pressure == MemoryPressure::None
    }

    /// Returns whether more input is held than a small request has.
    fn holds_input(&self) -> bool {
        let held = match &self.owner {
            Owner::Engine(connection) => connection.local.reader.buffer.len(),
            _ => {
                let input_buffer = self.shared.input_buffer_if_any();
                input_buffer.map_or(0, |input_buffer| {
                    input_buffer.buffer.len() + input_buffer.reader_held
                })
            }
        };
        held > SHORTAGE_ALLOWANCE
    }
}
