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

use std::time::{Duration, Instant};

use super::calling::{Caller, Holder};
use super::flow::Memory;
use super::session::Session;
use super::state::Phase;
use crate::error::{CloseReason, Timeout};
use crate::moment::Moment;
use crate::poll::balance::random;
use crate::poll::source::Turn;
use crate::sync::lock;
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

/// Some of what is awaited has come, and not all.
#[derive(Debug)]
struct Partial {
    /// Which wait that is.
    wait: Instant,
    since: Instant,
    /// What had been received then.
    received: u64,
}

/// What is waited for on a connection right now.
struct Waits {
    /// A Reader.
    reader: Option<Wait>,
    flush: Option<Wait>,
    /// Since when the handler is not called because it left input.
    left: Option<Instant>,
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
            unusual: None,
        }
    }

    fn unusual(&mut self) -> &mut Unusual {
        self.unusual.get_or_insert_default()
    }

    fn left(&self) -> Option<Instant> {
        self.unusual.as_ref()?.left
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
        let waits = self.waits();
        let working = self.is_worked_on(&waits);
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
        if let Some(wait) = waits.reader {
            first.end_of(wait, timeouts.read);
        } else if self.is_elsewhere() {
            // Whoever has it may wait from any moment on, and tells nobody.
            first.after(now, timeouts.read);
            first.after(now, timeouts.min_rate.map(|rate| rate.over));
        }
        if let Some(left) = waits.left {
            first.after(left, timeouts.read);
        }
        let unusual = self.clock.unusual.as_ref();
        if let Some(partial) = unusual.and_then(|unusual| unusual.partial.as_ref()) {
            first.after(partial.since, timeouts.min_rate.map(|rate| rate.over));
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

    /// Who waits for what; notes when some of what is awaited has come.
    fn waits(&mut self) -> Waits {
        let (reader, some_came) = match self.link.inbox_if_any() {
            Some(inbox) => (inbox.wait(), !inbox.chain.is_empty()),
            None => (None, false),
        };
        let left = match self.holder {
            Holder::Session(_) => self.clock.left(),
            _ => None,
        };
        let flush = if self.flow.unsent > 0 {
            lock(&self.link.outbox).wait_to_leave()
        } else {
            None
        };
        let wait = reader.filter(|_| some_came).map(|wait| wait.since);
        self.note_partial(wait.or(left));
        Waits {
            reader,
            flush,
            left,
        }
    }

    /// Notes that some of what is awaited since `wait` has come, or that nothing is awaited so.
    fn note_partial(&mut self, wait: Option<Instant>) {
        let Some(wait) = wait else {
            if let Some(unusual) = &mut self.clock.unusual {
                unusual.partial = None;
            }
            return;
        };
        let (active, received) = (self.link.tally.active(), self.link.tally.received.get());
        let partial = &mut self.clock.unusual().partial;
        if partial.as_ref().is_none_or(|known| known.wait != wait) {
            // Nothing has come since the wait began, or it would have been noted then.
            *partial = Some(Partial {
                wait,
                since: wait.max(active),
                received,
            });
        }
    }

    /// Whether the connection is with somebody on another thread, or in another source.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self.holder, Holder::Owner)
            || (C::ELSEWHERE && matches!(self.holder, Holder::Handler(_)))
    }

    /// Whether the peer's silence is what keeps the connection: the handler, or the owner, does
    /// nothing else than to wait for input, all output has left, and what comes is read.
    fn is_input_awaited(&self, waits: &Waits) -> bool {
        let held = matches!(self.holder, Holder::Handler(_) | Holder::Owner);
        let elsewhere_engaged = held && waits.reader.is_none();
        !elsewhere_engaged && self.flow.unsent == 0 && !self.link.are_reads_paused()
    }

    /// Whether somebody works on the connection: then it is not idle, however silent it is.
    fn is_worked_on(&self, waits: &Waits) -> bool {
        !self.is_input_awaited(waits) || self.link.work_in_flight() > 0
    }

    /// Since when nobody has worked on the connection and no byte has moved, where nobody does.
    fn idle_since(&self) -> Instant {
        let active = self.link.tally.last_active();
        active.max(self.link.work_done()).instant()
    }

    /// Ends, or has the waiting call fail, for whatever is over.
    pub(super) fn look_at_the_clock(&mut self, now: Instant) {
        // Others may have sent since.
        self.link.count_all_elsewhere();
        self.look_at_the_grace(now);
        let timeouts = self.link.timeouts();
        let waits = self.waits();
        if self.is_write_over(&timeouts, &waits, now) {
            self.die(CloseReason::Timeout(Timeout::Write));
        } else if waits
            .reader
            .is_some_and(|wait| wait.is_over(timeouts.read, now))
        {
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
        if waits
            .left
            .is_some_and(|left| is_over(left, timeouts.read, now))
        {
            return Some(Timeout::Read);
        }
        if self.is_too_slow(timeouts, now) {
            return Some(Timeout::MinRate);
        }
        if self.link.tally.received.get() == 0
            && self.is_input_awaited(waits)
            && is_over(self.clock.born(), timeouts.first_byte, now)
        {
            return Some(Timeout::FirstByte);
        }
        let over = !self.is_worked_on(waits) && is_over(self.idle_since(), timeouts.idle, now);
        over.then_some(Timeout::Idle)
    }

    /// Whether less has come in the time of the rate than must; if enough has, it begins anew.
    fn is_too_slow(&mut self, timeouts: &Timeouts, now: Instant) -> bool {
        let received = self.link.tally.received.get();
        let unusual = self.clock.unusual.as_mut();
        let partial = unusual.and_then(|unusual| unusual.partial.as_mut());
        let (Some(rate), Some(partial)) = (timeouts.min_rate, partial) else {
            return false;
        };
        if !is_over(partial.since, Some(rate.over), now) {
            return false;
        }
        let slow = received - partial.received < rate.bytes();
        partial.since = now;
        partial.received = received;
        slow
    }
}
