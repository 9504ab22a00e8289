// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of a connection: one word, named transitions, nothing else.
//!
//! ```text
//!            begin_close(why)            flushed              over
//!   Open ───────────────────▶ Flushing ─────────▶ Lingering ───────▶ Closed
//!     │                           │                    │                ▲
//!     └─────── leave ─────────────┴────── die(why) ────┴────────────────┘
//! ```
//!
//! | phase | input | output |
//! |---|---|---|
//! | Open | read and offered, until the peer's FIN | sent |
//! | Flushing | no longer read | what was put before is still sent |
//! | Lingering | read and thrown away, so that no reset destroys what was sent | our FIN is out |
//! | Closed | none | none |
//!
//! Who [leaves](Life::leave) takes the socket along, with both streams as they are.
//!
//! The peer's FIN is not a phase: it ends the *input* of an open connection, and replies still go
//! out. Neither is ours, when only the *output* was to end: requests still come in. Nor is a connection that broke at once closed: what had arrived is offered first. The first
//! cause of the end is kept; later ones change nothing but the speed.
//!
//! Only the connection's poller makes transitions. Other threads *ask* for an end through the
//! link, and see what became of it in the link's inbox and outbox.

use crate::error::CloseReason;

/// Where a connection is between its first and its last moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    Flushing,
    Lingering,
    Closed,
}

/// Whether bytes can still come from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Open,
    /// The FIN was read, or an error, so every byte before it was too.
    Ended,
}

/// Whether bytes can still go to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Open,
    /// Our FIN is out. The connection may go on, if that was all that was asked for.
    Ended,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Life {
    phase: Phase,
    input: Input,
    output: Output,
    /// Boxed, since most connections live for a long time without one.
    reason: Option<Box<CloseReason>>,
}

impl Life {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Open,
            input: Input::Open,
            output: Output::Open,
            reason: None,
        }
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    #[inline]
    pub(crate) fn input(&self) -> Input {
        self.input
    }

    pub(crate) fn output(&self) -> Output {
        self.output
    }

    /// Whether nothing more comes or goes: the peer's FIN was read, or a break, and our FIN is out.
    pub(crate) fn has_ended_both_ways(&self) -> bool {
        self.input == Input::Ended && self.output == Output::Ended
    }

    /// Whether nothing has happened to it yet.
    #[inline]
    pub(crate) fn is_untouched(&self) -> bool {
        self.phase == Phase::Open && self.input == Input::Open && self.reason.is_none()
    }

    /// Why it ends, once it does.
    pub(crate) fn reason(&self) -> Option<&CloseReason> {
        self.reason.as_deref()
    }

    /// The first cause stands.
    fn because_of(&mut self, reason: CloseReason) {
        self.reason.get_or_insert_with(|| Box::new(reason));
    }

    /// The peer's FIN was read.
    pub(crate) fn end_input(&mut self) {
        self.input = Input::Ended;
    }

    /// Our FIN was sent.
    pub(crate) fn end_output(&mut self) {
        self.output = Output::Ended;
    }

    /// The kernel gave a direction up: nothing can be sent any more.
    pub(crate) fn break_off(&mut self, reason: CloseReason) {
        self.because_of(reason);
    }

    /// Why the connection cannot end in order any more, if it is still open and broke.
    pub(crate) fn broken(&self) -> Option<&CloseReason> {
        self.reason.as_deref().filter(|_| self.phase == Phase::Open)
    }

    /// Starts an orderly end. Says whether this was the first cause.
    pub(crate) fn begin_close(&mut self, reason: CloseReason) -> bool {
        let first = self.phase == Phase::Open;
        if first {
            self.phase = Phase::Flushing;
            self.because_of(reason);
        }
        first
    }

    /// The socket goes on without the connection.
    pub(crate) fn leave(&mut self) {
        if self.phase == Phase::Open {
            self.die(CloseReason::Local);
        }
    }

    /// Everything that was to be sent is with the kernel, and our FIN follows. With the peer's FIN read
    /// there is nothing left to wait for.
    pub(crate) fn flushed(&mut self) {
        if self.phase == Phase::Flushing {
            self.output = Output::Ended;
            self.phase = match self.input {
                Input::Open => Phase::Lingering,
                Input::Ended => Phase::Closed,
            };
        }
    }

    /// The peer has had its time, or its FIN has come.
    pub(crate) fn over(&mut self) {
        if self.phase == Phase::Lingering {
            self.phase = Phase::Closed;
        }
    }

    /// Ends at once, from any phase. The first cause stands.
    pub(crate) fn die(&mut self, reason: CloseReason) {
        self.phase = Phase::Closed;
        self.because_of(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(life: &Life) -> bool {
        matches!(life.reason(), Some(CloseReason::Local))
    }

    #[test]
    fn an_orderly_end_goes_through_every_phase() {
        let mut life = Life::new();
        assert!(life.begin_close(CloseReason::Local));
        assert_eq!(life.phase(), Phase::Flushing);
        life.flushed();
        assert_eq!(life.phase(), Phase::Lingering);
        life.over();
        assert_eq!(life.phase(), Phase::Closed);
        assert!(!life.has_ended_both_ways(), "the peer has not");
    }

    #[test]
    fn both_ways_have_ended_with_the_later_fin_whichever_that_is() {
        let mut first = Life::new();
        first.end_input();
        first.begin_close(CloseReason::PeerFin);
        assert!(!first.has_ended_both_ways(), "something may be unsent");
        first.flushed();
        assert!(first.has_ended_both_ways());
        let mut last = Life::new();
        last.begin_close(CloseReason::Local);
        last.flushed();
        last.end_input();
        last.over();
        assert!(last.has_ended_both_ways());
        let mut cut = Life::new();
        cut.end_input();
        cut.die(CloseReason::Shutdown);
        assert!(!cut.has_ended_both_ways());
    }

    #[test]
    fn after_the_peers_fin_nothing_lingers() {
        let mut life = Life::new();
        life.end_input();
        assert_eq!(life.phase(), Phase::Open, "half-close is not the end");
        life.begin_close(CloseReason::PeerFin);
        life.flushed();
        assert_eq!(life.phase(), Phase::Closed);
    }

    #[test]
    fn either_stream_may_end_and_the_connection_is_open() {
        let mut life = Life::new();
        life.end_output();
        assert_eq!((life.phase(), life.input()), (Phase::Open, Input::Open));
        life.end_input();
        assert_eq!((life.phase(), life.output()), (Phase::Open, Output::Ended));
        assert!(life.reason().is_none());
    }

    #[test]
    fn the_first_cause_stands() {
        let mut life = Life::new();
        life.begin_close(CloseReason::Local);
        assert!(!life.begin_close(CloseReason::Shutdown));
        life.die(CloseReason::HandlerPanic);
        assert!(is_local(&life));
        assert_eq!(life.phase(), Phase::Closed);
    }

    #[test]
    fn a_break_is_the_first_cause_and_not_yet_the_end() {
        let mut life = Life::new();
        life.break_off(CloseReason::Local);
        assert_eq!(life.phase(), Phase::Open);
        assert!(life.broken().is_some());
        life.begin_close(CloseReason::Shutdown);
        assert!(is_local(&life));
        assert!(life.broken().is_none(), "it is ending");
    }

    #[test]
    fn a_transition_out_of_turn_changes_nothing() {
        let mut life = Life::new();
        life.flushed();
        life.over();
        assert_eq!(life.phase(), Phase::Open);
        assert!(life.reason().is_none());
    }
}
