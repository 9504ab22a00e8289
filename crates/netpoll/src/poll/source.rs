// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a poller drives: the seam between the kernel's side and a connection's.
//!
//! A [`Source`] is told what has happened and answers what it wants next. The contract has the
//! shape of completions, so that a backend of readiness, one of completions and a simulated kernel
//! fit alike: a source gives *room* and is told what *landed* in it; it gives an *outgoing* chain
//! and gets the same back, so much of it sent. All memory moves by value; nothing here is borrowed
//! over a system call.
//!
//! A source is *out of its slot while it runs*: whatever it wants of its poller it leaves in the
//! [`Turn`], and whatever it wants of other sources goes through their bells.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use netpoll_buffer::{LinkBuffer, Segment, Tail};
use netpoll_sys::{Interest, Readiness};

use super::bell::Bell;
use crate::budget::Budget;
use crate::moment::Moment;
use crate::per_thread::PerThread;

/// Committed bytes on their way to the kernel.
pub(crate) type Outgoing = LinkBuffer;

/// Makes a source on the thread of the poller that will drive it.
pub(crate) type Birth = Box<dyn FnOnce(Place) -> Box<dyn Source> + Send>;

/// Where the next bytes of a source should land.
pub(crate) enum Room {
    /// In the poller's shared read block.
    Shared,
    /// Behind this tail, which comes back with what landed.
    Own(Tail),
    /// Nowhere: the source takes no bytes now, or takes readiness instead.
    Closed,
}

/// Bytes that have landed.
pub(crate) enum Landed {
    /// A window of the shared read block.
    Shared(Segment),
    /// So many bytes at the end of what the tail has filled.
    Own(Tail, usize),
}

/// How the input of a source ended.
pub(crate) enum End {
    /// The peer's FIN.
    Fin,
    /// An error of the kernel's.
    Broken(io::Error),
}

/// What is asked of every source of a poller at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Let nobody in any more. What is there goes on.
    StopAccepting,
    /// Finish what is there and take nothing more.
    Drain,
    /// End now.
    Force,
    /// The poller has failed and begins anew. What has a connection ends; what can go on without what the
    /// kernel knew of it goes on.
    Fail,
}

/// What a source wants after it was told something. It is computed from all of the source's
/// state, so the latest one stands.
pub(crate) enum Next {
    /// Nothing until this becomes possible. The poller itself adds the interest in writing while
    /// an outgoing chain is blocked.
    Wait(Interest),
    /// As `Wait`, but call `woken` again in this poller's next turn, behind the others.
    Again(Interest),
    /// As `Wait` for input, from [`Source::sent`]: and nothing has been put since, so that there is
    /// no need to ask for more to send.
    Rest,
    /// What was wanted before: from [`Source::woken`], where there was nothing to do.
    AsBefore,
    /// No events at all any more, not even hang-ups; the source stays for other reasons.
    Unwatched,
    /// Put this source in my place, with my token and my descriptor.
    Become(Box<dyn Source>),
    /// It is over: remove and drop me.
    Gone,
}

/// One thing a poller drives. All calls are on the poller's thread, one at a time.
pub(crate) trait Source {
    /// What the events are of. The same descriptor for the life of a token; `None` for a source
    /// that lives by its bell and its deadline.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Whether a read that brings less than there is room for has emptied the descriptor, unless its
    /// event said that there is [more behind](Readiness::has_more_behind). Asked before the first call.
    fn short_read_empties(&self) -> bool {
        false
    }

    /// Whether nothing will arrive any more, since both streams are over. Then the kernel need not be
    /// told to watch no more, which it finds by itself when the last descriptor is closed.
    fn is_silent(&self) -> bool {
        false
    }

    /// The first call, before any event.
    fn born(&mut self, turn: &mut Turn) -> Next;

    /// Where the next bytes should land.
    fn room(&mut self, _turn: &mut Turn) -> Room {
        Room::Closed
    }

    /// Bytes have landed.
    fn landed(&mut self, _landed: Landed, turn: &mut Turn) -> Next {
        self.woken(turn)
    }

    /// No more bytes will land.
    fn ended(&mut self, _end: End, turn: &mut Turn) -> Next {
        self.woken(turn)
    }

    /// A chain to send, if there is one. Asked again after each [`Source::sent`] that left nothing.
    fn outgoing(&mut self) -> Option<Outgoing> {
        None
    }

    /// What came of sending: so many bytes left, and these stay; or an error, and these never
    /// will leave.
    fn sent(&mut self, _rest: Outgoing, _result: io::Result<usize>, turn: &mut Turn) -> Next {
        self.woken(turn)
    }

    /// The descriptor is ready, for a source whose room is [`Room::Closed`].
    fn ready(&mut self, _readiness: Readiness, turn: &mut Turn) -> Next {
        self.woken(turn)
    }

    /// The bell rang.
    fn woken(&mut self, turn: &mut Turn) -> Next;

    /// [`Next::Again`] was the answer, or there was more to send than is sent at once.
    fn again(&mut self, turn: &mut Turn) -> Next {
        self.woken(turn)
    }

    /// The deadline left in the turn had passed when the poller [woke](Turn::woke), and what came by
    /// then has landed.
    fn expired(&mut self, turn: &mut Turn) -> Next {
        self.woken(turn)
    }

    /// Every source of the poller is asked this.
    fn asked(&mut self, ask: Ask, turn: &mut Turn) -> Next;

    /// It panicked when it was asked to [`Fail`](Ask::Fail), and is dropped after this.
    fn abandoned(&mut self) {}
}

/// What a new source is given: its bell, and what sources of its poller share.
pub(crate) struct Place {
    pub(crate) bell: Bell,
    pub(crate) shared: Rc<PerThread>,
}

/// How many sources may run between two laps, without any of its own: what they take counts to the
/// next one's.
const RUNS: u32 = 16;

/// How long it is between two complaints.
const PATIENCE: Duration = Duration::from_secs(1);

/// What sources leave for their poller to do, and the time.
#[derive(Default)]
pub(crate) struct Turn {
    now: Option<Moment>,
    /// When the last wait was over, if timers run.
    woke: Option<Moment>,
    budget: Option<Budget>,
    /// How many sources have run since the last lap.
    runs: u32,
    /// Whether the running source has noted that bytes moved.
    noted: bool,
    /// Whether anything moved for the running source.
    moved: Moved,
    /// When somebody was last told of something slow.
    complained: Option<Instant>,
    /// Sources to register.
    pub(super) births: VecDeque<Birth>,
    /// The running source's new deadline: `Some(None)` is none.
    pub(super) deadline: Option<Option<Instant>>,
}

/// Whether an event was of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Moved {
    #[default]
    Nothing,
    Something,
}

impl Turn {
    /// The time: read when it is first asked for after a wait, and as the last [`lap`](Self::lap)
    /// has read it.
    pub(crate) fn now(&mut self) -> Instant {
        self.moment().instant()
    }

    /// As [`now`](Self::now), in the cheaper form.
    #[inline]
    pub(crate) fn moment(&mut self) -> Moment {
        *self.now.get_or_insert_with(Moment::now)
    }

    /// Turns of a poller whose sources share `budget`.
    pub(super) fn within(budget: Budget) -> Self {
        Self {
            budget: Some(budget),
            ..Self::default()
        }
    }

    /// Whether memory is short: nothing should grow. One load.
    #[inline]
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.budget.as_ref().is_some_and(Budget::is_short)
    }

    /// The poller has waited.
    pub(super) fn begin(&mut self) {
        self.forget();
        self.woke = None;
    }

    /// Timers run: the time is read now, before anything else is done.
    pub(super) fn begin_timed(&mut self) {
        self.begin();
        self.woke = Some(self.moment());
    }

    /// When the last wait was over; `None` if no timers ran then. What was due by then is over: whatever
    /// came before has been read since. What has come due later is not yet: it may have come meanwhile,
    /// and lie with the kernel.
    pub(crate) fn woke(&self) -> Option<Moment> {
        self.woke
    }

    /// A source is about to run. Where many have that took no laps, the time is out of date for the
    /// next.
    #[inline]
    pub(super) fn begin_run(&mut self) {
        self.runs += 1;
        self.noted = false;
        self.moved = Moved::Nothing;
        if self.runs > RUNS {
            self.forget();
        }
    }

    /// The event for which a source runs was of use: something moved.
    #[inline]
    pub(crate) fn progressed(&mut self) {
        self.moved = Moved::Something;
    }

    /// Whether anything moved for the source that ran last.
    #[inline]
    pub(super) fn has_progress(&self) -> bool {
        self.moved == Moved::Something
    }

    /// The time, for a source to note that bytes have moved now; `None` if the running one has noted
    /// it already and not been slow since.
    #[inline]
    pub(crate) fn note(&mut self) -> Option<Moment> {
        let first = !std::mem::replace(&mut self.noted, true);
        first.then(|| self.moment())
    }

    /// Reads the time, and says how long it is since it was read before, if that is longer than
    /// `limit`. `None` too if it was not read since the wait.
    #[inline]
    pub(crate) fn lap(&mut self, limit: Duration) -> Option<Duration> {
        let before = self.now?;
        let now = Moment::now();
        self.now = Some(now);
        self.runs = 0;
        let lap = now.since(before);
        let is_over = lap > limit;
        if is_over {
            self.noted = false;
        }
        is_over.then_some(lap)
    }

    /// The time is not what was read.
    pub(crate) fn forget(&mut self) {
        self.now = None;
        self.runs = 0;
    }

    /// Whether something slow may be told of: once a second.
    pub(crate) fn may_complain(&mut self) -> bool {
        let now = self.now();
        let due = self
            .complained
            .is_none_or(|last| now.saturating_duration_since(last) >= PATIENCE);
        if due {
            self.complained = Some(now);
        }
        due
    }

    /// Has the time be `now` until the next wait.
    #[cfg(all(test, any(netpoll_loom, netpoll_shuttle)))]
    pub(super) fn pretend(&mut self, now: Instant) {
        self.now = Some(Moment::of(now));
        self.woke = self.now;
    }

    /// Registers a source with this poller once the running one has returned.
    pub(crate) fn register(&mut self, birth: Birth) {
        self.births.push_back(birth);
    }

    /// Calls the running source's `expired` at `deadline`, or no more. Replaces the one before.
    pub(crate) fn expire_at(&mut self, deadline: Option<Instant>) {
        self.deadline = Some(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lap_begins_at_the_last_reading_and_is_one() {
        let mut turn = Turn::default();
        assert_eq!(turn.lap(Duration::ZERO), None, "nothing was read");
        let before = turn.now();
        let lap = turn.lap(Duration::ZERO).unwrap();
        assert_eq!(turn.now(), before + lap);
        turn.begin();
        assert_eq!(turn.lap(Duration::ZERO), None, "the wait lies between");
    }

    #[test]
    fn what_many_sources_took_counts_to_none() {
        let mut turn = Turn::default();
        turn.now();
        (0..RUNS).for_each(|_| turn.begin_run());
        assert!(
            turn.lap(Duration::ZERO).is_some(),
            "and a lap begins the count anew"
        );
        (0..=RUNS).for_each(|_| turn.begin_run());
        assert_eq!(turn.lap(Duration::ZERO), None);
    }

    #[test]
    fn as_many_sources_may_run_after_a_lap_or_a_wait_as_before() {
        let mut turn = Turn::default();
        let run_all = |turn: &mut Turn| (0..RUNS).for_each(|_| turn.begin_run());
        turn.now();
        for _ in 0..3 {
            run_all(&mut turn);
            assert!(turn.lap(Duration::ZERO).is_some());
        }
        run_all(&mut turn);
        turn.begin();
        turn.now();
        run_all(&mut turn);
        assert!(turn.lap(Duration::ZERO).is_some());
    }

    #[test]
    fn a_lap_that_is_within_its_limit_is_none_and_the_next_begins_there() {
        let mut turn = Turn::default();
        let before = turn.moment();
        assert_eq!(turn.lap(Duration::MAX), None);
        let between = turn.moment();
        assert!(between > before);
        let lap = turn.lap(Duration::ZERO).unwrap();
        assert_eq!(lap, turn.moment().since(between));
    }

    #[test]
    fn a_source_notes_the_time_once_and_again_only_when_it_was_slow() {
        let mut turn = Turn::default();
        turn.begin_run();
        let first = turn.note().unwrap();
        assert_eq!(first, turn.moment());
        assert_eq!(turn.note(), None);
        assert_eq!(turn.lap(Duration::MAX), None);
        assert_eq!(turn.note(), None, "it was not slow");
        assert!(turn.lap(Duration::ZERO).is_some());
        let later = turn.note().unwrap();
        assert!(later > first);
        assert_eq!(turn.note(), None);
        turn.begin_run();
        assert_eq!(turn.note(), Some(later), "another one notes for itself");
    }

    #[test]
    fn a_complaint_is_made_once_a_second() {
        let mut turn = Turn::default();
        assert!(turn.may_complain());
        assert!(!turn.may_complain());
        turn.complained = turn.now().checked_sub(PATIENCE);
        assert!(turn.may_complain());
    }
}
