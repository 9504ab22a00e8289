// SPDX-License-Identifier: MIT OR Apache-2.0
//! The deadlines of a connection: when its next timeout expires, and what happens then.
//!
//! The engine records the time of each event: creation, last movement of bytes
//! ([`metrics`](super::metrics)), input left by the handler, blocked output. From these and from
//! the waiters in the input and output buffers it computes when the first of the [`Timeouts`] may
//! expire.
//!
//! It does so when something changed on an active connection, and when the poller checks because an
//! earlier deadline passed. For a quiescent connection nothing is computed: the deadline from
//! before is never later than a new one would be. The poller then checks early and computes the
//! deadline again.
//!
//! A timeout that does not run because the connection is busy may start to run at any moment,
//! without notice. It counts with its earliest possible end: as if it started now.

mod activity;

use std::time::{Duration, Instant};

use self::activity::{AwaitedInput, PendingWaits};
use super::backpressure::MemoryPressure;
use super::dispatcher::{Dispatcher, Owner};
use super::engine::Engine;
use super::input_buffer::ReadTimeoutPolicy;
use super::lifecycle::Phase;
use super::partial_input::{ByteCounts, PartialInput};
use crate::error::{CloseReason, Timeout};
use crate::poll::balance::random;
use crate::poll::source::SourceContext;
use crate::timeouts::{Timeouts, Wait, has_elapsed};
use crate::timestamp::Timestamp;

/// How soon a connection that is not read for lack of memory is checked again.
const MEMORY_RETRY: Duration = Duration::from_millis(10);

/// The times from which the deadlines of a connection follow.
#[derive(Debug)]
pub(super) struct DeadlineTracker {
    created: Timestamp,
    /// How much earlier than `max_age` the connection ends: 255 stands for a tenth of `max_age`.
    jitter: u8,
    /// Which waits the current deadline covers.
    coverage: DeadlineCoverage,
    /// Whether work was under way when the connection was last checked.
    busy: bool,
    /// How many timeouts the handler's future waits on.
    active_timeouts: u32,
    /// Boxed, because most connections never need it; kept once allocated.
    cold: Option<Box<ColdDeadlines>>,
}

/// Which waits a deadline covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeadlineCoverage {
    /// No wait of a reader.
    WithoutReads,
    /// The wait of a reader: no wait that begins later ends earlier.
    WithReads,
}

/// State that most connections never need.
#[derive(Debug, Default)]
struct ColdDeadlines {
    /// When the handler returned and left input, while that input is left.
    input_left_since: Option<Instant>,
    blocked: Option<BlockedOutput>,
    partial: Option<PartialInput>,
}

/// Output that the kernel did not take.
#[derive(Debug)]
struct BlockedOutput {
    since: Instant,
    /// How many of the bytes that were unsent at `since` are still unsent.
    remaining: usize,
}

/// The earliest of several deadlines.
#[derive(Default)]
struct EarliestDeadline(Option<Instant>);

impl EarliestDeadline {
    fn add(&mut self, when: Option<Instant>) {
        self.0 = [self.0, when].into_iter().flatten().min();
    }

    /// Adds the moment `time` after `since`. A moment beyond the range of [`Instant`] never comes.
    fn after(&mut self, since: Instant, time: Option<Duration>) {
        self.add(time.and_then(|time| since.checked_add(time)));
    }

    /// Adds the end of `wait`, which may take `time`.
    fn end_of(&mut self, wait: Wait, time: Option<Duration>) {
        self.after(wait.since, time);
        self.add(wait.deadline);
    }
}

impl DeadlineTracker {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            created: now,
            jitter: random() as u8,
            coverage: DeadlineCoverage::WithoutReads,
            busy: false,
            active_timeouts: 0,
            cold: None,
        }
    }

    /// Returns how many timeouts the handler's future waits on.
    #[inline]
    pub(super) fn active_timeouts(&mut self) -> &mut u32 {
        &mut self.active_timeouts
    }

    fn cold(&mut self) -> &mut ColdDeadlines {
        self.cold.get_or_insert_default()
    }

    fn input_left_since(&self) -> Option<Instant> {
        self.cold.as_ref()?.input_left_since
    }

    fn partial(&self) -> Option<&PartialInput> {
        self.cold.as_ref()?.partial.as_ref()
    }

    fn blocked(&self) -> Option<&BlockedOutput> {
        self.cold.as_ref()?.blocked.as_ref()
    }

    /// Records that `bytes` were sent and `unsent` are left.
    #[inline]
    pub(super) fn on_sent(&mut self, bytes: usize, unsent: usize) {
        if unsent > 0 || self.blocked().is_some() {
            self.on_blocked(bytes, unsent);
        }
    }

    #[cold]
    fn on_blocked(&mut self, bytes: usize, unsent: usize) {
        let state = &mut self.cold().blocked;
        let blocked = state.get_or_insert_with(|| BlockedOutput {
            since: Instant::now(),
            remaining: unsent.saturating_add(bytes),
        });
        blocked.remaining = blocked.remaining.saturating_sub(bytes);
        if blocked.remaining == 0 || unsent == 0 {
            *state = (unsent > 0).then(|| BlockedOutput {
                since: Instant::now(),
                remaining: unsent,
            });
        }
    }

    /// Records that the handler has returned and left input.
    pub(super) fn on_input_left(&mut self) {
        self.cold()
            .input_left_since
            .get_or_insert_with(Instant::now);
    }

    /// Records that the handler has consumed input.
    pub(super) fn on_consumed(&mut self) {
        if let Some(cold) = &mut self.cold {
            cold.input_left_since = None;
        }
    }

    /// Returns whether the deadline is early enough for any wait of a reader.
    #[inline]
    pub(super) fn covers_reads(&self) -> bool {
        let usual = |cold: &ColdDeadlines| cold.partial.is_none() && cold.blocked.is_none();
        self.coverage == DeadlineCoverage::WithReads && self.cold.as_deref().is_none_or(usual)
    }

    pub(super) fn created(&self) -> Instant {
        self.created.to_instant()
    }

    /// Returns the age at which the connection ends, with its jitter.
    fn max_age(&self, max: Option<Duration>) -> Option<Duration> {
        max.map(|max| max - max / 2550 * u32::from(self.jitter))
    }
}

impl<C: Dispatcher> Engine<C> {
    /// Sets the deadline of the source to the first timeout that may expire.
    pub(super) fn set_deadline(&mut self, context: &mut SourceContext) {
        if self.lifecycle.phase() == Phase::Open {
            let now = context.now();
            let deadline = self.deadline(now);
            context.set_deadline(deadline);
        }
    }

    fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let timeouts = self.shared.timeouts();
        let waits = self.pending_waits(now);
        let working = self.is_busy(&waits);
        self.set_busy(working, now);
        self.deadlines.coverage = if waits.reader.is_some() || self.is_off_poller() {
            DeadlineCoverage::WithReads
        } else {
            DeadlineCoverage::WithoutReads
        };
        let mut first = EarliestDeadline::default();
        let idle_since = if working { now } else { self.idle_since() };
        first.after(idle_since, timeouts.idle);
        if self.shared.metrics.received.get() == 0 {
            let awaited = self.is_input_awaited(&waits);
            let since = if awaited {
                self.deadlines.created()
            } else {
                now
            };
            first.after(since, timeouts.first_byte);
        }
        if self.backpressure.drain.is_none() {
            first.after(
                self.deadlines.created(),
                self.deadlines.max_age(timeouts.max_age),
            );
        }
        first.add(self.grace_deadline());
        match waits.reader {
            Some((wait, ReadTimeoutPolicy::FailCall)) => first.end_of(wait, timeouts.read),
            Some((wait, ReadTimeoutPolicy::AllowIdle)) => first.add(wait.deadline),
            None if self.is_off_poller() => {
                // The owner may start to wait at any moment, without notice.
                first.after(now, timeouts.read);
                first.after(now, timeouts.min_rate.map(|rate| rate.over));
            }
            None => {}
        }
        if let Some(partial) = self.deadlines.partial() {
            for (since, time) in partial.times(&timeouts) {
                first.after(since, time);
            }
        }
        if let Some(blocked) = self.deadlines.blocked() {
            first.after(blocked.since, timeouts.write);
        }
        if let Some(wait) = waits.flush {
            first.end_of(wait, timeouts.write);
        }
        if self.backpressure.memory_pressure == MemoryPressure::High {
            first.after(now, Some(MEMORY_RETRY));
        }
        first.0
    }

    /// Returns whether the owner is on another thread or in another source.
    pub(super) fn is_off_poller(&self) -> bool {
        matches!(self.owner, Owner::User)
            || (C::OFFLOADED && matches!(self.owner, Owner::Handler(_)))
    }

    /// Closes the connection or fails the waiting call, if a timeout has expired.
    pub(super) fn check_deadlines(&mut self, now: Instant) {
        // Other threads may have sent since.
        self.shared.collect_off_poller_sends();
        self.check_grace(now);
        let timeouts = self.shared.timeouts();
        let waits = self.pending_waits(now);
        self.set_busy(self.is_busy(&waits), now);
        let call = waits
            .reader
            .filter(|(wait, patience)| match patience {
                ReadTimeoutPolicy::FailCall => wait.is_over(timeouts.read, now),
                ReadTimeoutPolicy::AllowIdle => wait.is_over(None, now),
            })
            .map(|(wait, _)| wait);
        if self.is_write_expired(&timeouts, &waits, now) {
            self.close_now(CloseReason::Timeout(Timeout::Write));
        } else if let Some(wait) = call {
            if has_elapsed(wait.since, timeouts.read, now) {
                // A caller that waits again after the error starts anew.
                self.update_partial_input(AwaitedInput::NotStarted, now);
            }
            let waker = self.shared.input_buffer().time_out();
            self.wake_waiter(waker);
        } else if let Some(which) = self.expired_timeout(&timeouts, &waits, now) {
            self.begin_close(CloseReason::Timeout(which));
        } else if self.backpressure.drain.is_none()
            && has_elapsed(
                self.deadlines.created(),
                self.deadlines.max_age(timeouts.max_age),
                now,
            )
        {
            self.begin_drain(CloseReason::Timeout(Timeout::MaxAge), now);
        }
    }

    fn is_write_expired(&self, timeouts: &Timeouts, waits: &PendingWaits, now: Instant) -> bool {
        let blocked = self.deadlines.blocked();
        blocked.is_some_and(|blocked| has_elapsed(blocked.since, timeouts.write, now))
            || waits
                .flush
                .is_some_and(|wait| wait.is_over(timeouts.write, now))
    }

    /// Returns the timeout that ends the connection in order, if one has expired.
    fn expired_timeout(
        &mut self,
        timeouts: &Timeouts,
        waits: &PendingWaits,
        now: Instant,
    ) -> Option<Timeout> {
        let moved = self.byte_counts();
        let cold = self.deadlines.cold.as_mut();
        if let Some(partial) = cold.and_then(|cold| cold.partial.as_mut()) {
            if partial.is_read_expired(timeouts.read, now) {
                return Some(Timeout::Read);
            }
            if partial.is_too_slow(timeouts.min_rate, moved, now) {
                return Some(Timeout::MinRate);
            }
        }
        if self.shared.metrics.received.get() == 0
            && self.is_input_awaited(waits)
            && has_elapsed(self.deadlines.created(), timeouts.first_byte, now)
        {
            return Some(Timeout::FirstByte);
        }
        let over = !self.is_busy(waits)
            && has_elapsed(self.idle_since(), timeouts.idle, now)
            && self.is_partial_input_idle(timeouts, moved, now);
        over.then_some(Timeout::Idle)
    }

    /// Returns whether too little of an incomplete input has arrived meanwhile to count as a sign
    /// of life.
    fn is_partial_input_idle(
        &mut self,
        timeouts: &Timeouts,
        moved: ByteCounts,
        now: Instant,
    ) -> bool {
        let cold = self.deadlines.cold.as_mut();
        match cold.and_then(|cold| cold.partial.as_mut()) {
            Some(partial) if partial.is_counting() => partial.is_idle(timeouts, moved, now),
            _ => true,
        }
    }
}
