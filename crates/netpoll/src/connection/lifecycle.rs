// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lifecycle of a connection: its phase, and the transitions between phases.
//!
//! ```text
//!            begin_close(reason)         on_flushed        on_linger_end
//!   Open ───────────────────▶ Flushing ─────────▶ Lingering ───────▶ Closed
//!     │                           │                    │                ▲
//!     └──── detach ───────────────┴── close_now(reason) ────────────────┘
//! ```
//!
//! | phase | input | output |
//! |---|---|---|
//! | Open | read and offered, until the peer's FIN | sent |
//! | Flushing | no longer read | what was put before is still sent |
//! | Lingering | read and discarded, so that no reset destroys what was sent | our FIN is sent |
//! | Closed | none | none |
//!
//! A [detached](Lifecycle::detach) socket leaves the connection with both directions as they are.
//!
//! The peer's FIN is not a phase: it ends the *input* of an open connection, and replies are still
//! sent. A half-close is not a phase either: it ends the *output*, and requests still arrive. A
//! connection that breaks is not closed at once: the input that has arrived is offered first. The
//! first reason is kept; later ones only end the connection sooner.
//!
//! Only the connection's poller makes transitions. Other threads *request* an end through the
//! shared state, and see the result in its input and output buffers.

use crate::error::CloseReason;

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    Flushing,
    Lingering,
    Closed,
}

/// Whether bytes can still arrive from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputState {
    Open,
    /// The FIN or an error was read, and so was every byte before it.
    Ended,
}

/// Whether bytes can still be sent to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputState {
    Open,
    /// Our FIN is sent. After a half-close the connection goes on.
    Ended,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    phase: Phase,
    input: InputState,
    output: OutputState,
    /// Boxed, since most connections live for a long time without a reason.
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

    /// Returns whether both directions have ended: the peer's FIN or an error was read, and our FIN
    /// is sent.
    pub(crate) fn has_ended_both(&self) -> bool {
        self.input == InputState::Ended && self.output == OutputState::Ended
    }

    /// Returns whether the connection is open, with open input and no error.
    #[inline]
    pub(crate) fn is_untouched(&self) -> bool {
        self.phase == Phase::Open && self.input == InputState::Open && self.reason.is_none()
    }

    /// Returns why the connection ends. `None` until it does.
    pub(crate) fn reason(&self) -> Option<&CloseReason> {
        self.reason.as_deref()
    }

    /// Sets the reason, unless an earlier one is set.
    fn set_reason(&mut self, reason: CloseReason) {
        self.reason.get_or_insert_with(|| Box::new(reason));
    }

    /// Records that the peer's FIN was read.
    pub(crate) fn end_input(&mut self) {
        self.input = InputState::Ended;
    }

    /// Records that our FIN was sent.
    pub(crate) fn end_output(&mut self) {
        self.output = OutputState::Ended;
    }

    /// Records an error of the kernel: nothing can be sent any more.
    pub(crate) fn set_broken(&mut self, reason: CloseReason) {
        self.set_reason(reason);
    }

    /// Returns the error that broke the connection, if it broke and is still open. It cannot end in
    /// order any more.
    pub(crate) fn broken(&self) -> Option<&CloseReason> {
        self.reason.as_deref().filter(|_| self.phase == Phase::Open)
    }

    /// Starts an orderly close. Returns whether this was the first reason.
    pub(crate) fn begin_close(&mut self, reason: CloseReason) -> bool {
        let first = self.phase == Phase::Open;
        if first {
            self.phase = Phase::Flushing;
            self.set_reason(reason);
        }
        first
    }

    /// Closes the connection while its socket goes on without it.
    pub(crate) fn detach(&mut self) {
        if self.phase == Phase::Open {
            self.close_now(CloseReason::Local);
        }
    }

    /// Records that the kernel has all output and our FIN follows. If the peer's FIN was read
    /// before, nothing is left to wait for.
    pub(crate) fn on_flushed(&mut self) {
        if self.phase == Phase::Flushing {
            self.output = OutputState::Ended;
            self.phase = match self.input {
                InputState::Open => Phase::Lingering,
                InputState::Ended => Phase::Closed,
            };
        }
    }

    /// Records that the linger time is over or the peer's FIN has arrived.
    pub(crate) fn on_linger_end(&mut self) {
        if self.phase == Phase::Lingering {
            self.phase = Phase::Closed;
        }
    }

    /// Closes the connection at once, from any phase. The first reason is kept.
    pub(crate) fn close_now(&mut self, reason: CloseReason) {
        self.phase = Phase::Closed;
        self.set_reason(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(lifecycle: &Lifecycle) -> bool {
        matches!(lifecycle.reason(), Some(CloseReason::Local))
    }

    #[test]
    fn orderly_close_passes_through_every_phase() {
        let mut lifecycle = Lifecycle::new();
        assert!(lifecycle.begin_close(CloseReason::Local));
        assert_eq!(lifecycle.phase(), Phase::Flushing);
        lifecycle.on_flushed();
        assert_eq!(lifecycle.phase(), Phase::Lingering);
        lifecycle.on_linger_end();
        assert_eq!(lifecycle.phase(), Phase::Closed);
        assert!(!lifecycle.has_ended_both(), "the peer sent no FIN");
    }

    #[test]
    fn both_directions_end_with_the_later_fin() {
        let mut first = Lifecycle::new();
        first.end_input();
        first.begin_close(CloseReason::PeerFin);
        assert!(!first.has_ended_both(), "output may be unsent");
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
    fn close_after_the_peers_fin_skips_lingering() {
        let mut lifecycle = Lifecycle::new();
        lifecycle.end_input();
        assert_eq!(
            lifecycle.phase(),
            Phase::Open,
            "a half-close closes nothing"
        );
        lifecycle.begin_close(CloseReason::PeerFin);
        lifecycle.on_flushed();
        assert_eq!(lifecycle.phase(), Phase::Closed);
    }

    #[test]
    fn connection_stays_open_after_either_fin() {
        let mut lifecycle = Lifecycle::new();
        lifecycle.end_output();
        assert_eq!(
            (lifecycle.phase(), lifecycle.input()),
            (Phase::Open, InputState::Open)
        );
        lifecycle.end_input();
        assert_eq!(
            (lifecycle.phase(), lifecycle.output()),
            (Phase::Open, OutputState::Ended)
        );
        assert!(lifecycle.reason().is_none());
    }

    #[test]
    fn first_close_reason_is_kept() {
        let mut lifecycle = Lifecycle::new();
        lifecycle.begin_close(CloseReason::Local);
        assert!(!lifecycle.begin_close(CloseReason::Shutdown));
        lifecycle.close_now(CloseReason::HandlerPanic);
        assert!(is_local(&lifecycle));
        assert_eq!(lifecycle.phase(), Phase::Closed);
    }

    #[test]
    fn broken_connection_stays_open_and_keeps_its_reason() {
        let mut lifecycle = Lifecycle::new();
        lifecycle.set_broken(CloseReason::Local);
        assert_eq!(lifecycle.phase(), Phase::Open);
        assert!(lifecycle.broken().is_some());
        lifecycle.begin_close(CloseReason::Shutdown);
        assert!(is_local(&lifecycle));
        assert!(lifecycle.broken().is_none(), "it is closing");
    }

    #[test]
    fn transition_from_the_wrong_phase_is_ignored() {
        let mut lifecycle = Lifecycle::new();
        lifecycle.on_flushed();
        lifecycle.on_linger_end();
        assert_eq!(lifecycle.phase(), Phase::Open);
        assert!(lifecycle.reason().is_none());
    }
}
