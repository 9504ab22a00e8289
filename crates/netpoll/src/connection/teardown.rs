// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only way a connection ends.
//!
//! Whatever the cause, it comes through [`Session::begin_close`], if what was put should still
//! leave, or [`Session::die`], if nothing can. From there the phases of
//! [`state`](super::state) follow:
//!
//! 1. *Flushing*: the outbox takes no more, what is in it is sent, for at most `linger`;
//! 2. *Lingering*: our FIN is out; what the peer still sends is read and thrown away until its
//!    FIN, for at most `linger` and at most four frames of `max_frame` bytes, because a close with unread input would be a reset that destroys
//!    the reply on its way;
//! 3. *Closed*: out of the poller. A handler that still runs is let run: its reads and flushes
//!    return the reason, its puts are discarded. Once it has returned, or its owner has let go,
//!    the observer is told, once, then whoever has [asked](super::notices) for this connection's
//!    end, and the session goes.
//!
//! The descriptor is closed by the drop of the last link.

use std::net::Shutdown;
use std::os::fd::AsFd;

use netpoll_sys::{Interest, socket};

use super::Connection;
use super::burst::Stage;
use super::calling::{Caller, Holder, Observed};
use super::flow::{Linger, More};
use super::inbox::InputEnd;
use super::link::{Ending, Link};
use super::session::Session;
use super::state::{Input, Phase};
use crate::error::CloseReason;
use crate::event::{Callback, Event};
use crate::guard::guard;
use crate::poll::source::{Next, Turn};
use crate::sync::{Arc, Ordering, lock};

/// A peer may send at least so many bytes after an end has begun.
const LEAST_LINGER: usize = 64 << 10;

/// And this many of the largest frames: those that it had on its way, or an upload that was refused.
const LATE_FRAMES: usize = 4;

/// Whether the end of a connection was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    NotYet,
    Once,
}

impl<C: Caller> Session<C> {
    /// Does what was asked for through the link. What a call asks for holds when it has returned or
    /// waits, wherever it runs: what it returns is the first cause, and a close that an abort
    /// follows is none.
    pub(super) fn hear_endings(&mut self) {
        if C::ELSEWHERE && self.link.ending() != Ending::None {
            if self.is_call_at_work() {
                return;
            }
            self.poll_handler();
        }
        match self.link.ending() {
            Ending::None | Ending::Finish | Ending::Leave => {}
            // The peer was reset when it was asked for.
            Ending::Abort => self.die(CloseReason::Local),
            Ending::Drop if self.is_end_put_off() => {}
            // An owner that lets go after the peer's FIN follows the peer.
            Ending::Drop | Ending::Close if self.life.input() == Input::Ended => {
                self.begin_close(CloseReason::PeerFin);
            }
            Ending::Drop if self.flow.drain.is_some() => self.begin_close(self.flow.leaving()),
            ending => self.begin_close(Link::reason_of(ending)),
        }
    }

    /// An open connection with nothing more to come or to do ends here.
    pub(super) fn end_if_done(&mut self) {
        self.end_idle_owner();
        self.end_owned();
        let Holder::Session(connection) = &mut self.holder else {
            return;
        };
        let idle = connection.input().chain.is_empty() || self.flow.stalled;
        if !idle || self.flow.more != More::No || self.owes_answers() {
            return;
        }
        if self.life.input() == Input::Ended {
            match self.life.broken().cloned() {
                Some(reason) => self.die(reason),
                None => self.begin_close(CloseReason::PeerFin),
            }
        } else if self.flow.is_drained() {
            self.begin_close(self.flow.leaving());
        }
    }

    /// Whether nobody has asked for the end: a handler that has is not called again.
    pub(super) fn stays_open(&mut self) -> bool {
        self.hear_endings();
        self.life.phase() == Phase::Open
    }

    /// Starts an orderly end, unless one is under way.
    pub(super) fn begin_close(&mut self, reason: CloseReason) {
        if self.life.begin_close(reason.clone()) {
            self.flow.more = More::No;
            let closed = lock(&self.link.outbox).close_and_tell(reason.clone());
            let (waker, uncommitted) = closed;
            drop(uncommitted);
            waker.wake();
            self.link.tell_line();
            self.link.tell_drain();
            if self.life.input() == Input::Open {
                self.link.finish_input(InputEnd::Closed(reason.clone()));
            }
            self.link.tell_input_over(&reason);
        }
    }

    /// Ends at once.
    pub(super) fn die(&mut self, reason: CloseReason) {
        if self.life.phase() == Phase::Closed {
            return;
        }
        self.life.die(reason.clone());
        // Whoever looks only now has the first cause, too.
        let reason = self.life.reason().cloned().unwrap_or(reason);
        if !self.link.is_aborted() {
            // Handlers, owners and wakers may hold the descriptor for long: the peer learns now.
            let _ended = socket::shutdown(self.link.as_fd(), Shutdown::Both).ok();
        }
        self.flow.more = More::No;
        self.link.finish_input(InputEnd::Closed(reason.clone()));
        self.link.discard_output(reason.clone());
        self.link.tell_drain();
        self.link.tell_input_over(&reason);
    }

    /// The peer has had its time: for taking what is unsent, or for its FIN.
    pub(super) fn time_is_up(&mut self) {
        if matches!(self.life.phase(), Phase::Flushing | Phase::Lingering) {
            self.die(CloseReason::Local);
        }
    }

    /// Ends now, the handler's future included. One that is elsewhere is asked to end, and is heard
    /// of when it has, or given up when this is asked again.
    pub(super) fn force(&mut self) {
        let ended = matches!(self.life.phase(), Phase::Lingering | Phase::Closed);
        let answered = ended || self.is_new();
        let presence = self.presence.take();
        if let Some(presence) = &presence
            && !answered
        {
            presence.cut();
        }
        self.die(CloseReason::Shutdown);
        if self.call_off() {
            self.presence = presence;
        }
    }

    /// Ends now, since the poller has failed. A handler that is elsewhere is asked to end, and the
    /// observer is called when it has.
    pub(super) fn fail(&mut self) {
        if self.life.phase() != Phase::Closed {
            self.die(CloseReason::PollerFailed);
            self.call_off();
        }
    }

    /// Has those who wait learn of the end: nothing else of the session can be relied on.
    pub(super) fn abandon_waits(&self) {
        let reason = CloseReason::PollerFailed;
        let _ended = socket::shutdown(self.link.as_fd(), Shutdown::Both).ok();
        self.link.finish_input(InputEnd::Closed(reason.clone()));
        self.link.discard_output(reason);
    }

    /// What an ending connection wants next.
    pub(super) fn next_of_the_end(&mut self, turn: &mut Turn) -> Next {
        if self.life.phase() == Phase::Flushing && lock(&self.link.outbox).unsent() == 0 {
            self.life.flushed();
            // A peer that has torn the connection down needs no FIN.
            let _sent = socket::shutdown(self.link.as_fd(), Shutdown::Write).ok();
        }
        match self.life.phase() {
            Phase::Open | Phase::Flushing => {
                self.set_linger(turn);
                Next::Wait(Interest::NONE)
            }
            Phase::Lingering => {
                self.set_linger(turn);
                Next::Wait(Interest::READABLE)
            }
            Phase::Closed => self.last_word(turn),
        }
    }

    /// One deadline for flushing and lingering, from when the end began.
    fn set_linger(&mut self, turn: &mut Turn) {
        if self.flow.linger == Linger::NotYet {
            self.flow.linger = Linger::Begun;
            let deadline = turn.now().checked_add(self.link.timeouts().linger);
            turn.expire_at(deadline);
        }
    }

    /// Discards what comes after the end has begun. A peer that sends on without end is reset.
    pub(super) fn throw_away(&mut self, count: usize) {
        if count > 0 && self.life.phase() != Phase::Closed {
            // Relaxed: only the poller counts here.
            let late = &self.link.rare.get_or_make().late;
            let before = late.fetch_add(count, Ordering::Relaxed);
            let frames = self.link.options.max_frame.saturating_mul(LATE_FRAMES);
            if before + count > frames.max(LEAST_LINGER) {
                self.die(CloseReason::Local);
            }
        }
    }

    /// Tells the observer and goes, once nobody holds the connection.
    fn last_word(&mut self, turn: &mut Turn) -> Next {
        turn.expire_at(None);
        match std::mem::replace(&mut self.holder, Holder::Nobody) {
            Holder::Handler(slot) => {
                self.holder = Holder::Handler(slot);
                return Next::Unwatched;
            }
            Holder::Owner if !self.link.ending().is_of_all() => {
                self.holder = Holder::Owner;
                self.tell_over(turn);
                return Next::Unwatched;
            }
            Holder::Session(connection) => self.tell(connection, turn),
            Holder::Owner | Holder::Nobody => {
                self.tell(Connection::new(Arc::clone(&self.link)), turn);
            }
        }
        self.tell_over(turn);
        // Whoever leaves one from here on finds that it is over, and takes it out himself.
        self.link.drop_successor();
        self.presence = None;
        Next::Gone
    }

    /// Counts the end, once.
    pub(super) fn count_end(&mut self) {
        if std::mem::replace(&mut self.script.counted, Counted::Once) == Counted::NotYet {
            self.link.count_end(self.life.reason());
        }
    }

    /// Runs what was to run when the connection is over.
    fn tell_over(&mut self, turn: &mut Turn) {
        // Before anybody hears of it.
        self.count_end();
        let Some(reason) = self.life.reason() else {
            return;
        };
        let called = self.link.has_callbacks();
        if called {
            self.restart_lap(turn);
        }
        let counters = self.link.bell.counters();
        let tell = || self.link.tell_over(reason);
        let panics = counters.during(Callback::OnClose, tell);
        let callback = Callback::OnClose;
        for _ in 0..panics {
            self.tell_event(|peer| Event::Panicked { callback, peer });
        }
        if called {
            self.after_call(callback, turn);
        }
    }

    /// Tells the observer, if the connection was ever let in, and drops what is attached to it.
    fn tell(&mut self, mut connection: Connection, turn: &mut Turn) {
        // Before anybody hears of it.
        self.count_end();
        // Set before, so that it is told once whatever comes after.
        let observed = std::mem::replace(&mut self.script.observed, Observed::Done);
        let terms = self.script.terms.as_ref();
        if let (Stage::Request, Observed::NotYet, Some(observer), Some(reason)) = (
            self.script.stage,
            observed,
            terms.and_then(|terms| terms.observer.as_ref()),
            self.life.reason(),
        ) {
            self.restart_lap(turn);
            let callback = Callback::OnDisconnect;
            // The connection is over whatever the observer does.
            let counters = self.link.bell.counters();
            let call = || guard(|| observer(&mut connection, reason));
            if counters.during(callback, call).is_err() {
                self.tell_event(|peer| Event::Panicked { callback, peer });
            }
            self.after_call(callback, turn);
        }
        let has_state = connection.has_attached();
        if has_state {
            self.restart_lap(turn);
        }
        let _panicked = guard(|| drop(connection)).is_err();
        if has_state {
            self.after_call(Callback::Attached, turn);
        }
    }
}

impl<C: Caller> Drop for Session<C> {
    fn drop(&mut self) {
        // One whose owner had it to the end of the loop was not asked for a last word.
        self.count_end();
    }
}
