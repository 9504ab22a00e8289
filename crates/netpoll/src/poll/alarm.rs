// SPDX-License-Identifier: MIT OR Apache-2.0
//! A time of its own, for what is no connection: a sleep, the deadlines of calls.
//!
//! An [`Alarm`] is a source without a descriptor. Whoever has it says when, as often as he likes and
//! on any thread; the poller looks at the latest word and wakes him. It costs its poller nothing in
//! between. If the poller ends first, the alarm is *lost*, and wakes for that: the time is not up,
//! and there are other pollers.

use std::io;
use std::os::fd::BorrowedFd;
use std::task::Waker;
use std::time::Instant;

use super::bell::{Bell, Signal};
use super::home::hand_over;
use super::source::{Ask, Birth, Next, Place, Source, Turn};
use crate::foreign::{NotCloned, Offer, WakerSlot, Wakeup, register};
use crate::sync::{Arc, Mutex, lock};

/// Wakes somebody at a time. Dropping it takes it out of its poller.
#[derive(Debug)]
pub(crate) struct Alarm {
    shared: Arc<Shared>,
}

/// What an alarm and its source share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    at: Option<Instant>,
    waker: WakerSlot,
    stage: Stage,
    /// Its source's, once there is one.
    bell: Option<Arc<Bell>>,
}

/// Where an alarm is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Live,
    /// Its poller has ended.
    Lost,
    /// Nobody wants it any more.
    Dropped,
}

/// What became of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rang {
    NotYet,
    /// The time that was set last has come.
    Yes,
    /// Its poller has ended: nothing will wake anybody.
    Lost,
}

impl Alarm {
    /// An alarm on the poller that belongs to the caller. A few allocations, and a hop to the poller.
    pub(crate) fn new() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let unborn = Unborn(Arc::clone(&shared));
        let birth: Birth = Box::new(move |place: Place| Box::new(Clock::of(unborn, place.bell)));
        hand_over(birth)?;
        Ok(Self { shared })
    }

    /// Wakes `waker` at `at` instead of what was set before.
    pub(crate) fn set(&self, at: Instant, waker: &Waker) {
        register(waker, |offer| self.try_set(at, offer));
    }

    /// As [`set`](Self::set), for an attempt that may hold a lock of its own.
    ///
    /// # Errors
    ///
    /// As [`WakerSlot::set`].
    pub(crate) fn try_set(&self, at: Instant, offer: &mut Offer<'_>) -> Result<(), NotCloned> {
        let mut state = lock(&self.shared.state);
        state.waker.set(offer)?;
        if state.at == Some(at) {
            return Ok(());
        }
        // The poller looks when an earlier time comes, and finds this one then.
        let looks_anyway = state.at.is_some_and(|before| before <= at);
        state.at = Some(at);
        let bell = state.bell.clone();
        drop(state);
        if !looks_anyway {
            bell.into_iter().for_each(|bell| bell.ring(Signal::Clock));
        }
        Ok(())
    }

    /// Whether it rang for what was set last.
    pub(crate) fn rang(&self) -> Rang {
        let state = lock(&self.shared.state);
        match (state.stage, state.at) {
            (Stage::Lost, _) => Rang::Lost,
            (_, None) => Rang::Yes,
            _ => Rang::NotYet,
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.stage = Stage::Dropped;
        let (waker, bell) = (state.waker.take(), state.bell.take());
        drop(state);
        drop(waker);
        bell.into_iter().for_each(|bell| bell.ring(Signal::Close));
    }
}

impl Shared {
    fn lose(&self) {
        let mut state = lock(&self.state);
        if state.stage == Stage::Live {
            state.stage = Stage::Lost;
        }
        state.bell = None;
        let waker = state.waker.take();
        drop(state);
        waker.wake();
    }
}

/// An alarm without its source: lost, if it never gets one, and when the source is dropped.
struct Unborn(Arc<Shared>);

impl Drop for Unborn {
    fn drop(&mut self) {
        self.0.lose();
    }
}

/// The source of an alarm.
struct Clock {
    shared: Unborn,
    bell: Arc<Bell>,
}

impl Clock {
    fn of(shared: Unborn, bell: Bell) -> Self {
        let bell = Arc::new(bell);
        lock(&shared.0.state).bell = Some(Arc::clone(&bell));
        Self { shared, bell }
    }

    /// Has the poller look when the time comes; wakes if it has.
    fn look(&self, turn: &mut Turn) -> Next {
        let mut state = lock(&self.shared.0.state);
        if state.stage == Stage::Dropped {
            return Next::Gone;
        }
        let due = state.at.is_some_and(|at| at <= turn.now());
        if due {
            state.at = None;
        }
        turn.expire_at(state.at);
        let waker = due.then(|| state.waker.take());
        drop(state);
        waker.into_iter().for_each(Wakeup::wake);
        Next::Unwatched
    }
}

impl Source for Clock {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn born(&mut self, turn: &mut Turn) -> Next {
        self.look(turn)
    }

    fn woken(&mut self, turn: &mut Turn) -> Next {
        self.bell.take();
        self.look(turn)
    }

    fn expired(&mut self, turn: &mut Turn) -> Next {
        self.look(turn)
    }

    fn asked(&mut self, ask: Ask, turn: &mut Turn) -> Next {
        match ask {
            Ask::StopAccepting | Ask::Drain | Ask::Fail => self.look(turn),
            Ask::Force => Next::Gone,
        }
    }
}
