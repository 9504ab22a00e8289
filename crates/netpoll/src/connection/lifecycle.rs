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
//! Who [leaves](Lifecycle::detach) takes the socket along, with both streams as they are.
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
pub(crate) enum InputState {
    Open,
    /// The FIN was read, or an error, so every byte before it was too.
    Ended,
}

/// Whether bytes can still go to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputState {
    Open,
    /// Our FIN is out. The connection may go on, if that was all that was asked for.
    Ended,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    phase: Phase,
    input: InputState,
    output: OutputState,
    /// Boxed, since most connections live for a long time without one.
    reason: Option<Box<CloseReason>>,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Open,
            input: InputState::Open,
            output: OutputState::Open,
            reason: None,
        }
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    #[inline]
    pub(crate) fn input(&self) -> InputState {
        self.input
    }

    pub(crate) fn output(&self) -> OutputState {
        self.output
    }

    /// Whether nothing more comes or goes: the peer's FIN was read, or a break, and our FIN is out.
    pub(crate) fn has_ended_both(&self) -> bool {
        self.input == InputState::Ended && self.output == OutputState::Ended
    }

    /// Whether nothing has happened to it yet.
    #[inline]
    pub(crate) fn is_untouched(&self) -> bool {
        self.phase == Phase::Open && self.input == InputState::Open && self.reason.is_none()
    }

    /// Why it ends, once it does.
    pub(crate) fn reason(&self) -> Option<&CloseReason> {
        self.reason.as_deref()
    }

    /// The first cause stands.
    fn set_reason(&mut self, reason: CloseReason) {
        self.reason.get_or_insert_with(|| Box::new(reason));
    }

    /// The peer's FIN was read.
    pub(crate) fn end_input(&mut self) {
        self.input = InputState::Ended;
    }

    /// Our FIN was sent.
    pub(crate) fn end_output(&mut self) {
        self.output = OutputState::Ended;
    }

    /// The kernel gave a direction up: nothing can be sent any more.
    pub(crate) fn set_broken(&mut self, reason: CloseReason) {
        self.set_reason(reason);
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
            self.set_reason(reason);
        }
        first
    }

    /// The socket goes on without the connection.
    pub(crate) fn detach(&mut self) {
        if self.phase == Phase::Open {
            self.close_now(CloseReason::Local);
        }
    }

    /// Everything that was to be sent is with the kernel, and our FIN follows. With the peer's FIN read
    /// there is nothing left to wait for.
    pub(crate) fn on_flushed(&mut self) {
        if self.phase == Phase::Flushing {
            self.output = OutputState::Ended;
            self.phase = match self.input {
                InputState::Open => Phase::Lingering,
                InputState::Ended => Phase::Closed,
            };
        }
    }

    /// The peer has had its time, or its FIN has come.
    pub(crate) fn on_linger_end(&mut self) {
        if self.phase == Phase::Lingering {
            self.phase = Phase::Closed;
        }
    }

    /// Ends at once, from any phase. The first cause stands.
    pub(crate) fn close_now(&mut self, reason: CloseReason) {
        self.phase = Phase::Closed;
        self.set_reason(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(life: &Lifecycle) -> bool {
        matches!(life.reason(), Some(CloseReason::Local))
    }

    #[test]
    fn an_orderly_end_goes_through_every_phase() {
        let mut life = Lifecycle::new();
        assert!(life.begin_close(CloseReason::Local));
        assert_eq!(life.phase(), Phase::Flushing);
        life.on_flushed();
        assert_eq!(life.phase(), Phase::Lingering);
        life.on_linger_end();
        assert_eq!(life.phase(), Phase::Closed);
        assert!(!life.has_ended_both(), "the peer has not");
    }

    #[test]
    fn both_ways_have_ended_with_the_later_fin_whichever_that_is() {
        let mut first = Lifecycle::new();
        first.end_input();
        first.begin_close(CloseReason::PeerFin);
        assert!(!first.has_ended_both(), "something may be unsent");
        first.on_flushed();
        assert!(first.has_ended_both());
        let mut last = Lifecycle::new();
        last.begin_close(CloseReason::Local);
        last.on_flushed();
        last.end_input();
        last.on_linger_end();
        assert!(last.has_ended_both());
        let mut cut = Lifecycle::new();
        cut.end_input();
        cut.close_now(CloseReason::Shutdown);
        assert!(!cut.has_ended_both());
    }

    #[test]
    fn after_the_peers_fin_nothing_lingers() {
        let mut life = Lifecycle::new();
        life.end_input();
        assert_eq!(life.phase(), Phase::Open, "half-close is not the end");
        life.begin_close(CloseReason::PeerFin);
        life.on_flushed();
        assert_eq!(life.phase(), Phase::Closed);
    }

    #[test]
    fn either_stream_may_end_and_the_connection_is_open() {
        let mut life = Lifecycle::new();
        life.end_output();
        assert_eq!(
            (life.phase(), life.input()),
            (Phase::Open, InputState::Open)
        );
        life.end_input();
        assert_eq!(
            (life.phase(), life.output()),
            (Phase::Open, OutputState::Ended)
        );
        assert!(life.reason().is_none());
    }

    #[test]
    fn the_first_cause_stands() {
        let mut life = Lifecycle::new();
        life.begin_close(CloseReason::Local);
        assert!(!life.begin_close(CloseReason::Shutdown));
        life.close_now(CloseReason::HandlerPanic);
        assert!(is_local(&life));
        assert_eq!(life.phase(), Phase::Closed);
    }

    #[test]
    fn a_break_is_the_first_cause_and_not_yet_the_end() {
        let mut life = Lifecycle::new();
        life.set_broken(CloseReason::Local);
        assert_eq!(life.phase(), Phase::Open);
        assert!(life.broken().is_some());
        life.begin_close(CloseReason::Shutdown);
        assert!(is_local(&life));
        assert!(life.broken().is_none(), "it is ending");
    }

    #[test]
    fn a_transition_out_of_turn_changes_nothing() {
        let mut life = Lifecycle::new();
        life.on_flushed();
        life.on_linger_end();
        assert_eq!(life.phase(), Phase::Open);
        assert!(life.reason().is_none());
    }
}
