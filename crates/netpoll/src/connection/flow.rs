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

use super::calling::{Caller, Holder};
use super::drain::Drain;
use super::session::Session;
use super::state::{Input, Phase};
use crate::budget::SMALL;
use crate::error::{CloseReason, Limit};
use crate::poll::source::Turn;

/// What of the session's state is about bytes in waiting.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The handler left input it could not use; it is called again when there is more.
    pub(super) stalled: bool,
    /// What the handler is to be called for without another event.
    pub(super) more: More,
    /// The inbox has enough.
    pub(super) paused: Paused,
    /// Memory is short, and the connection holds some of it.
    pub(super) memory: Memory,
    /// Whether unsent output holds up input.
    pub(super) gate: Gate,
    /// Bytes that wait for the socket, as far as is known here.
    pub(super) unsent: usize,
    /// While draining.
    pub(super) drain: Option<Box<Drain>>,
    /// Whether it is known when the end, once begun, is forced.
    pub(super) linger: Linger,
}

/// Whether the time of an end has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Linger {
    #[default]
    NotYet,
    Begun,
}

impl Flow {
    /// Whether everything that a drain waits for has come.
    pub(super) fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.has_all())
    }

    /// What a connection that drains ends for.
    pub(super) fn leaving(&self) -> CloseReason {
        let reason = self.drain.as_ref().map(|drain| drain.reason.clone());
        reason.unwrap_or(CloseReason::Shutdown)
    }
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

/// Whether unsent output above the mark holds up input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It does: what comes makes more output.
    #[default]
    Shut,
    /// It does not: what comes are answers, and a peer that waits for their being read would take no
    /// more output.
    Open,
}

/// Whether there is memory for more input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Memory {
    #[default]
    Enough,
    Short,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Paused {
    #[default]
    No,
    /// Until the inbox is taken: it has enough, and there is more to be read.
    Inbox,
    /// Until the unsent output is below the low mark.
    Output,
}

impl<C: Caller> Session<C> {
    /// Whether the connection is as nearly all are nearly always: open, idle, with nothing waiting
    /// on either side. Then all it wants is input, and nothing else need be asked.
    #[inline]
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_quiet()
            && matches!(&self.holder, Holder::Session(connection) if connection.held.input.chain.is_empty())
    }

    /// Whether nothing is the matter but who has the connection.
    #[inline]
    fn is_quiet(&self) -> bool {
        let quiet = !self.flow.stalled
            && self.flow.more == More::No
            && self.flow.paused == Paused::No
            && self.flow.drain.is_none()
            && self.flow.unsent == 0;
        quiet && self.life.is_untouched() && self.link.is_untouched()
    }

    /// Whether whoever has the connection waits for its input, or may from any moment on, and
    /// nothing else is the matter. Then, too, all that is wanted is input, and the deadline that was
    /// computed for an earlier wait is early enough.
    pub(super) fn is_awaited(&self, turn: &Turn) -> bool {
        if !self.is_quiet() || !self.clock.stands_for_waits() || turn.is_short_of_memory() {
            return false;
        }
        let (waits, some_came) = match self.link.inbox_if_any() {
            Some(inbox) => (inbox.waiter.is_some(), !inbox.chain.is_empty()),
            None => (false, false),
        };
        // A wait that some but not all has come for has a time of its own.
        if self.is_elsewhere() {
            !(waits && some_came)
        } else {
            matches!(self.holder, Holder::Handler(_)) && waits && !some_came
        }
    }

    /// What is left of the input after a burst, and whether it is to be offered again.
    pub(super) fn review_input(&mut self) {
        let Holder::Session(connection) = &mut self.holder else {
            return;
        };
        let chain = &mut connection.input().chain;
        if chain.is_empty() {
            self.flow.more = More::No;
            self.flow.stalled = false;
        } else if !self.flow.stalled {
            self.flow.more = More::Input;
        } else if chain.len() > self.link.options.max_frame {
            // No frame is so long: a handler that wants still more of it will never have enough.
            self.begin_close(CloseReason::Limit(Limit::Frame));
        } else if self.flow.more == More::No {
            chain.settle_down();
        }
    }

    /// Pauses for `why`, and counts that if it is new.
    pub(super) fn pause(&mut self, why: Paused) {
        if self.flow.paused != why {
            let counters = &self.link.bell.counters().poller;
            match why {
                Paused::No => {}
                Paused::Inbox => counters.pauses_for_handler.add(1),
                Paused::Output => counters.pauses_for_peer.add(1),
            }
            self.flow.paused = why;
        }
    }

    /// There is more to be read: pauses if the inbox has enough.
    pub(super) fn pause_for_inbox(&mut self) {
        let paused = match self.link.inbox_if_any() {
            Some(mut inbox) => inbox.pause(),
            None => false,
        };
        if paused {
            self.pause(Paused::Inbox);
        }
    }

    /// Whether the unsent output is above what it may be for input to go on.
    pub(super) fn is_congested(&mut self) -> bool {
        if self.flow.gate == Gate::Open {
            return false;
        }
        let options = &self.link.options;
        // What was put since the last send counts by its mark: a full socket takes no send.
        if self.flow.unsent >= options.write_high || self.link.is_past_write_mark() {
            self.pause(Paused::Output);
        } else if self.flow.paused == Paused::Output && self.flow.unsent <= options.write_low {
            self.flow.paused = Paused::No;
        }
        self.flow.paused == Paused::Output
    }

    /// Whether so much input waits to be offered that more should stay with the kernel.
    fn has_plenty(&self) -> bool {
        let high = self.link.options.read_high;
        matches!(&self.holder, Holder::Session(connection)
            if self.flow.more == More::Input && connection.held.input.chain.len() >= high)
    }

    /// Whether the poller should read.
    pub(super) fn wants_input(&mut self, turn: &Turn) -> bool {
        let open = self.life.phase() == Phase::Open
            && self.life.input() == Input::Open
            && !self.link.are_reads_paused();
        // What comes to a gate that is open are answers.
        let drained = self.flow.is_drained() && self.flow.gate == Gate::Shut;
        let wants = match self.holder {
            Holder::Session(_) => open && !drained && !self.has_plenty() && !self.is_congested(),
            Holder::Handler(_) | Holder::Owner => {
                if self.flow.paused == Paused::Inbox && !self.link.inbox().paused {
                    self.flow.paused = Paused::No;
                }
                open && self.flow.paused != Paused::Inbox
            }
            Holder::Nobody => false,
        };
        self.flow.memory = if wants && turn.is_short_of_memory() && self.holds_input() {
            Memory::Short
        } else {
            Memory::Enough
        };
        wants && self.flow.memory == Memory::Enough
    }

    /// Whether more input is here than a small request is.
    fn holds_input(&self) -> bool {
        let held = match &self.holder {
            Holder::Session(connection) => connection.held.input.chain.len(),
            _ => {
                let inbox = self.link.inbox_if_any();
                inbox.map_or(0, |inbox| inbox.chain.len() + inbox.held)
            }
        };
        held > SMALL
    }
}
