// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much may wait on either side of a connection, and what follows from it.
//!
//! Towards the handler: while it runs, the inbox fills up to a mark and then the poller reads no
//! more, unless the handler waits for more. It goes on watching all the same until there is more to
//! be read: whoever takes the inbox has mostly done so by then, and the kernel need not be told to
//! stop watching and to begin again, which would be two system calls for every mark's worth of a
//! stream. Towards the peer: above a mark of unsent output the handler is not called and nothing is
//! read, until the rest is below the lower mark. So a peer that sends and never reads costs two marks
//! and no more.

use super::dispatcher::{Dispatcher, Owner};
use super::drain::Drain;
use super::engine::Engine;
use super::lifecycle::{InputState, Phase};
use crate::budget::SHORTAGE_ALLOWANCE;
use crate::error::{CloseReason, Limit};
use crate::poll::source::SourceContext;

/// What of the session's state is about bytes in waiting.
#[derive(Debug, Default)]
pub(super) struct Backpressure {
    /// The handler left input it could not use; it is called again when there is more.
    pub(super) needs_more_input: bool,
    /// What the handler is to be called for without another event.
    pub(super) pending_dispatch: PendingDispatch,
    /// The inbox has enough.
    pub(super) paused: PauseReason,
    /// Memory is short, and the connection holds some of it.
    pub(super) memory_pressure: MemoryPressure,
    /// Whether unsent output holds up input.
    pub(super) read_policy: ReadPolicy,
    /// Bytes that wait for the socket, as far as is known here.
    pub(super) unsent: usize,
    /// While draining.
    pub(super) drain: Option<Box<Drain>>,
    /// Whether it is known when the end, once begun, is forced.
    pub(super) linger: LingerState,
}

/// Whether the time of an end has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LingerState {
    #[default]
    NotStarted,
    Started,
}

impl Backpressure {
    /// Whether everything that a drain waits for has come.
    pub(super) fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.is_complete())
    }

    /// What a connection that drains ends for.
    pub(super) fn drain_reason(&self) -> CloseReason {
        let reason = self.drain.as_ref().map(|drain| drain.reason.clone());
        reason.unwrap_or(CloseReason::Shutdown)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PendingDispatch {
    #[default]
    None,
    /// There is input that was not offered.
    Input,
    /// The end of the input was not offered.
    Fin,
}

/// Whether unsent output above the mark holds up input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReadPolicy {
    /// It does: what comes makes more output.
    #[default]
    PauseOnBackpressure,
    /// It does not: what comes are answers, and a peer that waits for their being read would take no
    /// more output.
    AlwaysRead,
}

/// Whether there is memory for more input.
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
    /// Until the inbox is taken: it has enough, and there is more to be read.
    Input,
    /// Until the unsent output is below the low mark.
    Output,
}

impl<C: Dispatcher> Engine<C> {
    /// Whether the connection is as nearly all are nearly always: open, idle, with nothing waiting
    /// on either side. Then all it wants is input, and nothing else need be asked.
    #[inline]
    pub(super) fn is_quiescent(&self) -> bool {
        self.is_otherwise_quiescent()
            && matches!(&self.owner, Owner::Engine(connection) if connection.local.reader.buffer.is_empty())
    }

    /// Whether nothing is the matter but who has the connection.
    #[inline]
    fn is_otherwise_quiescent(&self) -> bool {
        let quiet = !self.backpressure.needs_more_input
            && self.backpressure.pending_dispatch == PendingDispatch::None
            && self.backpressure.paused == PauseReason::None
            && self.backpressure.drain.is_none()
            && self.backpressure.unsent == 0;
        quiet && self.lifecycle.is_untouched() && self.shared.is_untouched()
    }

    /// Whether whoever has the connection waits for its input, or may from any moment on, and
    /// nothing else is the matter. Then, too, all that is wanted is input, and the deadline that was
    /// computed for an earlier wait is early enough.
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
        // A wait that some but not all has come for has a time of its own.
        if self.is_off_poller() {
            !(waits && some_came)
        } else {
            matches!(self.owner, Owner::Handler(_)) && waits && !some_came
        }
    }

    /// What is left of the input after a burst, and whether it is to be offered again.
    pub(super) fn review_input(&mut self) {
        let Owner::Engine(connection) = &mut self.owner else {
            return;
        };
        let chain = &mut connection.reader_state().buffer;
        if chain.is_empty() {
            self.backpressure.pending_dispatch = PendingDispatch::None;
            self.backpressure.needs_more_input = false;
        } else if !self.backpressure.needs_more_input {
            self.backpressure.pending_dispatch = PendingDispatch::Input;
        } else if chain.len() > self.shared.options.max_frame {
            // No frame is so long: a handler that wants still more of it will never have enough.
            self.begin_close(CloseReason::Limit(Limit::Frame));
        } else if self.backpressure.pending_dispatch == PendingDispatch::None {
            chain.compact();
        }
    }

    /// Pauses for `why`, and counts that if it is new.
    pub(super) fn pause(&mut self, why: PauseReason) {
        if self.backpressure.paused != why {
            let counters = &self.shared.notifier.counters().poller;
            match why {
                PauseReason::None => {}
                PauseReason::Input => counters.pauses_for_handler.add(1),
                PauseReason::Output => counters.pauses_for_peer.add(1),
            }
            self.backpressure.paused = why;
        }
    }

    /// There is more to be read: pauses if the inbox has enough.
    pub(super) fn pause_for_input_buffer(&mut self) {
        let paused = match self.shared.input_buffer_if_any() {
            Some(mut input_buffer) => input_buffer.pause(),
            None => false,
        };
        if paused {
            self.pause(PauseReason::Input);
        }
    }

    /// Whether the unsent output is above what it may be for input to go on.
    pub(super) fn is_backpressured(&mut self) -> bool {
        if self.backpressure.read_policy == ReadPolicy::AlwaysRead {
            return false;
        }
        let options = &self.shared.options;
        // What was put since the last send counts by its mark: a full socket takes no send.
        if self.backpressure.unsent >= options.write_high || self.shared.is_past_high_watermark() {
            self.pause(PauseReason::Output);
        } else if self.backpressure.paused == PauseReason::Output
            && self.backpressure.unsent <= options.write_low
        {
            self.backpressure.paused = PauseReason::None;
        }
        self.backpressure.paused == PauseReason::Output
    }

    /// Whether so much input waits to be offered that more should stay with the kernel.
    fn has_enough_input(&self) -> bool {
        let high = self.shared.options.read_high;
        matches!(&self.owner, Owner::Engine(connection)
            if self.backpressure.pending_dispatch == PendingDispatch::Input && connection.local.reader.buffer.len() >= high)
    }

    /// Whether the poller should read.
    pub(super) fn wants_input(&mut self, context: &SourceContext) -> bool {
        let open = self.lifecycle.phase() == Phase::Open
            && self.lifecycle.input() == InputState::Open
            && !self.shared.are_reads_paused();
        // What comes to a gate that is open are answers.
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

    /// Whether more input is here than a small request is.
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
