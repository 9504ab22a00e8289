// SPDX-License-Identifier: MIT OR Apache-2.0
//! Watches how long user code holds a poller.
//!
//! A handler that blocks or computes holds up every connection of its poller, and none of them can
//! tell why. So the time is read once after each poll of a handler, and what lies between this
//! reading and the one before is counted, and told, if it is too long. The reading before is that
//! of the last poll, or of the arrival of what this one is about: between the two there is nothing
//! but a read and a send, and never more than a few sources that ran no user code
//! ([`Turn::lap`](crate::poll::source::Turn::lap)). It is not read for each request of a burst, nor
//! for handlers that run elsewhere, which hold no poller.

use std::time::Duration;

use super::calling::{Caller, Holder};
use super::service::Terms;
use super::session::Session;
use crate::addr::Addr;
use crate::event::{Callback, Event};
use crate::poll::source::Turn;
use crate::stats::counters::Counters;

/// What of the user's has run since the time was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    Nothing,
    Handler,
}

impl Terms {
    /// `callback` is about to run: the time is known.
    #[inline]
    pub(crate) fn before_call(&self, turn: &mut Turn) {
        if self.slow.is_some() {
            turn.moment();
        }
    }

    /// `callback` has run, for `peer`: counts and tells it, if it took too long.
    #[inline]
    pub(crate) fn after_call(
        &self,
        callback: Callback,
        peer: impl FnOnce() -> Addr,
        turn: &mut Turn,
        counters: &Counters,
    ) {
        if let Some(slow) = self.slow
            && let Some(took) = turn.lap(slow)
        {
            counters.poller.slow_calls.add(1);
            self.tell_slow(callback, peer(), took, turn);
        }
    }

    #[cold]
    fn tell_slow(&self, callback: Callback, peer: Addr, took: Duration, turn: &mut Turn) {
        if turn.may_complain() {
            self.listening.tell(&Event::SlowCall {
                callback,
                handler: self.handler,
                peer,
                took,
            });
            // That may have taken time, too.
            turn.forget();
        }
    }
}

impl<C: Caller> Session<C> {
    /// The handler may be about to run.
    #[inline]
    pub(super) fn before_handler(&self, turn: &mut Turn) {
        if !C::ELSEWHERE
            && let Some(terms) = &self.script.terms
        {
            terms.before_call(turn);
        }
    }

    /// The handler is polled, or its future dropped, here.
    #[inline]
    pub(super) fn note_handler(&mut self) {
        if !C::ELSEWHERE && matches!(self.holder, Holder::Handler(_)) {
            self.script.ran = Ran::Handler;
        }
    }

    /// The handler may have run.
    #[inline]
    pub(super) fn after_handler(&mut self, turn: &mut Turn) {
        if self.script.ran == Ran::Handler {
            self.script.ran = Ran::Nothing;
            self.after_call(Callback::Handler, turn);
        }
    }

    /// A callback is about to run that is certain to be there: what lies before it is not its own.
    pub(super) fn restart_lap(&self, turn: &mut Turn) {
        if let Some(terms) = &self.script.terms {
            turn.forget();
            terms.before_call(turn);
        }
    }

    /// `callback` has run.
    pub(super) fn after_call(&self, callback: Callback, turn: &mut Turn) {
        if let Some(terms) = &self.script.terms {
            let link = &self.link;
            terms.after_call(callback, || link.peer(), turn, link.bell.counters());
        }
    }

    /// Tells an event of this connection.
    pub(super) fn tell_event(&self, event: impl FnOnce(Addr) -> Event) {
        if let Some(terms) = &self.script.terms {
            terms.listening.tell(&event(self.link.peer()));
        }
    }
}
