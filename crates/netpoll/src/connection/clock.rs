// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a connection's time is up, and for what.
//!
//! The session notes *since when*: it began, bytes moved ([`tally`](super::tally)), input was left,
//! output was blocked. When
//! the first of its [`Timeouts`] may be over follows from these and from who waits
//! in the inbox and the outbox. It is computed when something has changed on a connection that is
//! not at rest, and when the poller looks because an earlier time has passed. For a connection at
//! rest nothing is computed: what was computed before it came to rest is never later than what
//! would be now, so the poller looks early and computes anew.
//!
//! A time that does not count right now, because somebody works on the connection, may count from
//! any moment on without this being told. It stands for the earliest that can become of it: as if
//! it began now.

mod activity;

use std::time::{Duration, Instant};

use self::activity::{Awaited, Waits};
use super::calling::{Caller, Holder};
use super::flow::Memory;
use super::inbox::Patience;
use super::partial::{Moved, Partial};
use super::session::Session;
use super::state::Phase;
use crate::error::{CloseReason, Timeout};
use crate::moment::Moment;
use crate::poll::balance::random;
use crate::poll::source::Turn;
use crate::timeouts::{Timeouts, Wait, is_over};

/// When a connection that is not read for want of memory looks for some again.
const MEMORY_AGAIN: Duration = Duration::from_millis(10);

/// Since when what is so on a connection.
#[derive(Debug)]
pub(super) struct Clock {
    born: Moment,
    /// Which part of a tenth of its age a connection goes earlier, in 255ths.
    jitter: u8,
    /// What the deadline was computed for.
    stands: Stands,
    /// Whether somebody worked on the connection when it was last looked at.
    worked_on: bool,
    /// How many bounds of time the handler keeps.
    limits: u32,
    /// Boxed, because most connections never have any; kept from then on.
    unusual: Option<Box<Unusual>>,
}

/// Which waits a deadline covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// For none of a Reader's.
    ForNoWait,
    /// For a Reader's wait: none that comes later ends earlier.
    ForWaits,
}

/// What is not so on most connections.
#[derive(Debug, Default)]
struct Unusual {
    /// When the handler returned and left input, while it is left.
    left: Option<Instant>,
    blocked: Option<Blocked>,
    partial: Option<Partial>,
}

/// The kernel took no more.
#[derive(Debug)]
struct Blocked {
    since: Instant,
    /// What was unsent at that moment and still is.
    left: usize,
}

/// The earliest of several times.
#[derive(Default)]
struct Earliest(Option<Instant>);

impl Earliest {
    fn add(&mut self, when: Option<Instant>) {
        self.0 = [self.0, when].into_iter().flatten().min();
    }

    /// `time` after `since`. What cannot be counted never comes.
    fn after(&mut self, since: Instant, time: Option<Duration>) {
        self.add(time.and_then(|time| since.checked_add(time)));
    }

    /// The end of a wait that may take `time`.
    fn end_of(&mut self, wait: Wait, time: Option<Duration>) {
        self.after(wait.since, time);
        self.add(wait.deadline);
    }
}

impl Clock {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            born: now,
            jitter: random() as u8,
            stands: Stands::ForNoWait,
            worked_on: false,
            limits: 0,
            unusual: None,
        }
    }

    /// How many bounds of time the handler keeps.
    #[inline]
    pub(super) fn limits(&mut self) -> &mut u32 {
        &mut self.limits
    }

    fn unusual(&mut self) -> &mut Unusual {
        self.unusual.get_or_insert_default()
    }

    fn left(&self) -> Option<Instant> {
        self.unusual.as_ref()?.left
    }

    fn partial(&self) -> Option<&Partial> {
        self.unusual.as_ref()?.partial.as_ref()
    }

    fn blocked(&self) -> Option<&Blocked> {
        self.unusual.as_ref()?.blocked.as_ref()
    }

    /// So many bytes have left, and so many stay.
    #[inline]
    pub(super) fn sent(&mut self, bytes: usize, unsent: usize) {
        if unsent > 0 || self.blocked().is_some() {
            self.block(bytes, unsent);
        }
    }

    #[cold]
    fn block(&mut self, bytes: usize, unsent: usize) {
        let state = &mut self.unusual().blocked;
        let blocked = state.get_or_insert_with(|| Blocked {
            since: Instant::now(),
            left: unsent.saturating_add(bytes),
        });
        blocked.left = blocked.left.saturating_sub(bytes);
        if blocked.left == 0 || unsent == 0 {
            *state = (unsent > 0).then(|| Blocked {
                since: Instant::now(),
                left: unsent,
            });
        }
    }

    /// The handler has returned and left input.
    pub(super) fn left_input(&mut self) {
        self.unusual().left.get_or_insert_with(Instant::now);
    }

    /// The handler has consumed input.
    pub(super) fn consumed(&mut self) {
        if let Some(unusual) = &mut self.unusual {
            unusual.left = None;
        }
    }

    /// Whether the deadline is early enough for whatever a Reader may wait for.
    #[inline]
    pub(super) fn stands_for_waits(&self) -> bool {
        let usual = |unusual: &Unusual| unusual.partial.is_none() && unusual.blocked.is_none();
        self.stands == Stands::ForWaits && self.unusual.as_deref().is_none_or(usual)
    }

    pub(super) fn born(&self) -> Instant {
        self.born.instant()
    }

    /// The age at which it goes.
    fn age(&self, max: Option<Duration>) -> Option<Duration> {
        max.map(|max| max - max / 2550 * u32::from(self.jitter))
    }
}

impl<C: Caller> Session<C> {
    /// Has the poller look when the first of the timeouts may be over.
    pub(super) fn set_deadline(&mut self, turn: &mut Turn) {
        if self.life.phase() == Phase::Open {
            let now = turn.now();
            let deadline = self.deadline(now);
            turn.expire_at(deadline);
        }
    }

    fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let timeouts = self.link.timeouts();
        let waits = self.waits(now);
        let working = self.is_worked_on(&waits);
        self.note_work(working, now);
        self.clock.stands = if waits.reader.is_some() || self.is_elsewhere() {
            Stands::ForWaits
        } else {
            Stands::ForNoWait
        };
        let mut first = Earliest::default();
        let idle_since = if working { now } else { self.idle_since() };
        first.after(idle_since, timeouts.idle);
        if self.link.tally.received.get() == 0 {
            let awaited = self.is_input_awaited(&waits);
            let since = if awaited { self.clock.born() } else { now };
            first.after(since, timeouts.first_byte);
        }
        if self.flow.drain.is_none() {
            first.after(self.clock.born(), self.clock.age(timeouts.max_age));
        }
        first.add(self.end_of_grace());
        match waits.reader {
            Some((wait, Patience::OfCall)) => first.end_of(wait, timeouts.read),
            Some((wait, Patience::OfConnection)) => first.add(wait.deadline),
            None if self.is_elsewhere() => {
                // Whoever has it may wait from any moment on, and tells nobody.
                first.after(now, timeouts.read);
                first.after(now, timeouts.min_rate.map(|rate| rate.over));
            }
            None => {}
        }
        if let Some(partial) = self.clock.partial() {
            for (since, time) in partial.times(&timeouts) {
                first.after(since, time);
            }
        }
        if let Some(blocked) = self.clock.blocked() {
            first.after(blocked.since, timeouts.write);
        }
        if let Some(wait) = waits.flush {
            first.end_of(wait, timeouts.write);
        }
        if self.flow.memory == Memory::Short {
            first.after(now, Some(MEMORY_AGAIN));
        }
        first.0
    }

    /// Whether the connection is with somebody on another thread, or in another source.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self.holder, Holder::Owner)
            || (C::ELSEWHERE && matches!(self.holder, Holder::Handler(_)))
    }

    /// Ends, or has the waiting call fail, for whatever is over.
    pub(super) fn look_at_the_clock(&mut self, now: Instant) {
        // Others may have sent since.
        self.link.count_all_elsewhere();
        self.look_at_the_grace(now);
        let timeouts = self.link.timeouts();
        let waits = self.waits(now);
        self.note_work(self.is_worked_on(&waits), now);
        let call = waits
            .reader
            .filter(|(wait, patience)| match patience {
                Patience::OfCall => wait.is_over(timeouts.read, now),
                Patience::OfConnection => wait.is_over(None, now),
            })
            .map(|(wait, _)| wait);
        if self.is_write_over(&timeouts, &waits, now) {
            self.die(CloseReason::Timeout(Timeout::Write));
        } else if let Some(wait) = call {
            if is_over(wait.since, timeouts.read, now) {
                // Whoever is told so and waits again has decided to.
                self.note_partial(Awaited::Next, now);
            }
            let waker = self.link.inbox().time_out();
            self.wake_waiter(waker);
        } else if let Some(which) = self.what_is_over(&timeouts, &waits, now) {
            self.begin_close(CloseReason::Timeout(which));
        } else if self.flow.drain.is_none()
            && is_over(self.clock.born(), self.clock.age(timeouts.max_age), now)
        {
            self.drain_for(CloseReason::Timeout(Timeout::MaxAge), now);
        }
    }

    fn is_write_over(&self, timeouts: &Timeouts, waits: &Waits, now: Instant) -> bool {
        let blocked = self.clock.blocked();
        blocked.is_some_and(|blocked| is_over(blocked.since, timeouts.write, now))
            || waits
                .flush
                .is_some_and(|wait| wait.is_over(timeouts.write, now))
    }

    /// What ends the connection in order, if anything does.
    fn what_is_over(
        &mut self,
        timeouts: &Timeouts,
        waits: &Waits,
        now: Instant,
    ) -> Option<Timeout> {
        let moved = self.moved();
        let unusual = self.clock.unusual.as_mut();
        if let Some(partial) = unusual.and_then(|unusual| unusual.partial.as_mut()) {
            if partial.is_late(timeouts.read, now) {
                return Some(Timeout::Read);
            }
            if partial.is_too_slow(timeouts.min_rate, moved, now) {
                return Some(Timeout::MinRate);
            }
        }
        if self.link.tally.received.get() == 0
            && self.is_input_awaited(waits)
            && is_over(self.clock.born(), timeouts.first_byte, now)
        {
            return Some(Timeout::FirstByte);
        }
        let over = !self.is_worked_on(waits)
            && is_over(self.idle_since(), timeouts.idle, now)
            && self.is_idle(timeouts, moved, now);
        over.then_some(Timeout::Idle)
    }

    /// Whether what has come meanwhile of something that is not complete was too little to count.
    fn is_idle(&mut self, timeouts: &Timeouts, moved: Moved, now: Instant) -> bool {
        let unusual = self.clock.unusual.as_mut();
        match unusual.and_then(|unusual| unusual.partial.as_mut()) {
            Some(partial) if partial.counts() => partial.is_idle(timeouts, moved, now),
            _ => true,
        }
    }
}
