// SPDX-License-Identifier: MIT OR Apache-2.0
//! Admission control: how many connections an event loop accepts, and how fast.
//!
//! All acceptors of a loop call [`AdmissionControl::admit`] before each `accept(2)`. Success
//! returns an [`AcceptPermit`]; an accepted connection turns it into a [`ConnectionPermit`] and
//! holds that until its descriptor is closed. A rejected acceptor leaves its waker and stops
//! polling its listener, so the kernel queues the next connections. The next released permit wakes
//! it.
//!
//! An acceptor whose `accept(2)` failed for lack of descriptors waits, too. Only a released
//! `ConnectionPermit` wakes it, because only that frees a descriptor: two failing acceptors would
//! otherwise wake each other without end. One lock protects the count and the wakers, so a permit
//! that is released between the check and the wait is not missed.

use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::budget::Budget;
use crate::event::{AcceptPauseReason, Event, EventSink};
use crate::foreign::{CallerWaker, CloneRequired, WakerSlot, Wakeups, register};
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// The upper bound of the default limit, for any descriptor limit.
const DEFAULT_MAX_CONNECTIONS: usize = 65_536;

/// The minimum time between two reported pauses.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How far a connection may be ahead of the rate: a burst of this length is admitted at once.
const BURST_TOLERANCE: Duration = Duration::from_millis(100);

/// Admits the connections of an event loop.
#[derive(Debug)]
pub(crate) struct AdmissionControl {
    limit: usize,
    /// The time between two connections at the maximum rate; `None` is no limit.
    interval: Option<Duration>,
    budget: Budget,
    event_sink: EventSink,
    state: Mutex<AdmissionState>,
}

#[derive(Debug, Default)]
struct AdmissionState {
    open: usize,
    /// Acceptors that are paused until a permit is released.
    waiting_for_slot: Vec<WakerSlot>,
    /// Acceptors that are paused until a descriptor is closed.
    waiting_for_descriptor: Vec<WakerSlot>,
    /// When the next connection is due at the maximum rate.
    next_admission: Option<Instant>,
    stats: AcceptStats,
    /// The current pause.
    pause: Option<ActivePause>,
    /// When a pause was last reported.
    last_report: Option<Instant>,
}

/// A pause that has not ended.
#[derive(Clone, Copy, Debug)]
struct ActivePause {
    reason: AcceptPauseReason,
    since: Instant,
    reported: bool,
}

/// Counters of the connections that arrived at the listeners of a loop, or at one [listener without
/// a loop](crate::Listener::accept). A snapshot; the counts start when the loop is built, or with
/// the first call of `accept`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptStats {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that [`on_accept`](crate::Builder::on_accept) rejected.
    pub rejected: u64,
    /// How often accepting paused at [`max_connections`](crate::Builder::max_connections).
    pub pauses_at_limit: u64,
    /// How often accepting paused because of [`accept_rate`](crate::Builder::accept_rate).
    pub pauses_for_rate: u64,
    /// How often accepting paused because connections held 98 % of their [`Budget`].
    pub pauses_for_memory: u64,
    /// Connections that were aborted in the kernel's queue, or failed with an error of their own.
    pub aborted_in_queue: u64,
    /// Accepts that failed because the process has no descriptor left (`EMFILE`).
    pub process_out_of_descriptors: u64,
    /// Accepts that failed because the system has no open file left (`ENFILE`).
    pub system_out_of_files: u64,
    /// Accepts that failed for lack of kernel memory (`ENOBUFS`, `ENOMEM`).
    pub out_of_memory: u64,
}

/// The scope of an accept failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptFailure {
    /// A resource is exhausted: the next accept fails too, until time passes or a connection ends.
    ResourceExhausted(AcceptPauseReason),
    /// Only this connection failed.
    ConnectionOnly,
}

impl AdmissionState {
    /// Records a pause. Returns the event to report, if any.
    #[cold]
    fn pause(&mut self, reason: AcceptPauseReason) -> Option<Event> {
        let now = Instant::now();
        let pause = self.pause.get_or_insert(ActivePause {
            reason,
            since: now,
            reported: false,
        });
        pause.reason = reason;
        let quiet = |last| now.saturating_duration_since(last) >= REPORT_INTERVAL;
        if pause.reported || !self.last_report.is_none_or(quiet) {
            return None;
        }
        pause.reported = true;
        self.last_report = Some(now);
        Some(Event::AcceptingPaused { reason })
    }

    /// Ends the current pause if `is_over` accepts its reason. Returns the event to report, if any.
    fn resume(&mut self, is_over: impl FnOnce(AcceptPauseReason) -> bool) -> Option<Event> {
        let ActivePause {
            reason,
            since,
            reported,
        } = self.pause.take_if(|pause| is_over(pause.reason))?;
        let after = since.elapsed();
        reported.then_some(Event::AcceptingResumed { reason, after })
    }
}

impl AcceptPauseReason {
    /// Returns whether a granted permit ends the pause. Other pauses end with an accepted
    /// connection.
    fn is_admission_limit(self) -> bool {
        matches!(self, Self::Limit | Self::Rate | Self::Budget)
    }
}

impl AcceptStats {
    fn count_failure(&mut self, error: &io::Error) -> AcceptFailure {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        const ENOMEM: i32 = 12;
        const ENOBUFS: i32 = 105;
        let exhausted = |reason| AcceptFailure::ResourceExhausted(reason);
        let (counter, failure) = match error.raw_os_error() {
            Some(EMFILE) => (
                &mut self.process_out_of_descriptors,
                exhausted(AcceptPauseReason::Descriptors),
            ),
            Some(ENFILE) => (
                &mut self.system_out_of_files,
                exhausted(AcceptPauseReason::Files),
            ),
            Some(ENOMEM | ENOBUFS) => (
                &mut self.out_of_memory,
                exhausted(AcceptPauseReason::Memory),
            ),
            _ => (&mut self.aborted_in_queue, AcceptFailure::ConnectionOnly),
        };
        *counter += 1;
        failure
    }
}

/// Why a permit was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The connection limit is reached. The waker is called when a permit is released.
    AtLimit,
    /// Connections hold 98 % of the memory budget. No waker is called when that ends.
    OverBudget,
    /// The accept rate is reached. The next permit is available at this time.
    RateLimited(Instant),
}

/// Whether the accept rate applies. Connections that were queued before a shutdown are exempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RatePolicy {
    Limited,
    Exempt,
}

impl AdmissionControl {
    /// Creates an admission control for at most `limit` connections at once, and `rate` a second if
    /// that is limited.
    pub(crate) fn new(
        limit: usize,
        rate: Option<u32>,
        budget: Budget,
        event_sink: EventSink,
    ) -> Self {
        let interval = rate.map(|rate| Duration::from_secs(1) / rate.max(1));
        Self {
            limit,
            interval,
            budget,
            event_sink,
            state: Mutex::default(),
        }
    }

    /// Returns the default connection limit for a process with this descriptor limit: seven eighths
    /// of it, so that listeners, pollers and the rest of the program keep an eighth.
    pub(crate) fn limit_for(descriptors: u64) -> usize {
        let most = usize::try_from(descriptors)
            .unwrap_or(usize::MAX)
            .min(DEFAULT_MAX_CONNECTIONS * 2);
        (most / 8 * 7).clamp(1, DEFAULT_MAX_CONNECTIONS)
    }

    /// Requests a permit. Calls `now` only if the rate is limited.
    pub(crate) fn admit(
        self: &Arc<Self>,
        waker: &Waker,
        rate_policy: RatePolicy,
        mut now: impl FnMut() -> Instant,
    ) -> Result<AcceptPermit, Rejection> {
        register(waker, |caller_waker| {
            self.try_admit(caller_waker, rate_policy, &mut now)
        })
    }

    fn try_admit(
        self: &Arc<Self>,
        caller_waker: &mut CallerWaker<'_>,
        rate_policy: RatePolicy,
        now: &mut impl FnMut() -> Instant,
    ) -> Result<Result<AcceptPermit, Rejection>, CloneRequired> {
        let mut state = lock(&self.state);
        if state.open >= self.limit {
            add_waiter(&mut state.waiting_for_slot, caller_waker)?;
            state.stats.pauses_at_limit += 1;
            let event = state.pause(AcceptPauseReason::Limit);
            self.report(state, event);
            return Ok(Err(Rejection::AtLimit));
        }
        if self.budget.is_exhausted() {
            state.stats.pauses_for_memory += 1;
            let event = state.pause(AcceptPauseReason::Budget);
            self.report(state, event);
            return Ok(Err(Rejection::OverBudget));
        }
        if self.interval.is_some() && rate_policy == RatePolicy::Limited {
            let ahead = now() + BURST_TOLERANCE;
            if let Some(next) = state.next_admission.filter(|&next| next > ahead) {
                state.stats.pauses_for_rate += 1;
                let event = state.pause(AcceptPauseReason::Rate);
                self.report(state, event);
                return Ok(Err(Rejection::RateLimited(next - BURST_TOLERANCE)));
            }
        }
        state.open += 1;
        let event = state.resume(AcceptPauseReason::is_admission_limit);
        self.report(state, event);
        Ok(Ok(AcceptPermit(Some(Arc::clone(self)))))
    }

    /// Records that a connection was accepted with `permit`.
    pub(crate) fn record_accepted(
        self: &Arc<Self>,
        mut permit: AcceptPermit,
        now: impl FnOnce() -> Instant,
    ) -> ConnectionPermit {
        debug_assert!(permit.0.as_ref().is_some_and(|own| Arc::ptr_eq(own, self)));
        let permit = ConnectionPermit(permit.0.take().unwrap_or_else(|| Arc::clone(self)));
        let mut state = lock(&self.state);
        state.stats.accepted += 1;
        if let Some(interval) = self.interval {
            let now = now();
            let admitted_at = state.next_admission.map_or(now, |next| next.max(now));
            state.next_admission = admitted_at.checked_add(interval);
        }
        let event = state.resume(|_| true);
        self.report(state, event);
        permit
    }

    /// Records that the filter rejected a connection.
    pub(crate) fn record_rejected(&self) {
        lock(&self.state).stats.rejected += 1;
    }

    /// Records a failed accept. If a resource is exhausted, `waker` is called when a connection
    /// closes.
    pub(crate) fn record_failure(&self, error: &io::Error, waker: &Waker) -> AcceptFailure {
        let failure = lock(&self.state).stats.count_failure(error);
        if let AcceptFailure::ResourceExhausted(reason) = failure {
            register(waker, |caller_waker| {
                let mut state = lock(&self.state);
                add_waiter(&mut state.waiting_for_descriptor, caller_waker)?;
                let event = state.pause(reason);
                self.report(state, event);
                Ok(())
            });
        }
        failure
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Returns when to report the current pause, if it was not reported because it followed
    /// another.
    pub(crate) fn next_report_at(&self) -> Option<Instant> {
        let state = lock(&self.state);
        let unreported = state.pause.is_some_and(|pause| !pause.reported);
        state
            .last_report
            .filter(|_| unreported)?
            .checked_add(REPORT_INTERVAL)
    }

    /// Unlocks `state` and reports `event`, if there is one.
    fn report(&self, state: MutexGuard<'_, AdmissionState>, event: Option<Event>) {
        drop(state);
        if let Some(event) = event {
            self.event_sink.report(&event);
        }
    }

    pub(crate) fn stats(&self) -> AcceptStats {
        lock(&self.state).stats
    }
}

/// Adds a waker once: an acceptor that retries stays registered.
fn add_waiter(
    waiting: &mut Vec<WakerSlot>,
    caller_waker: &mut CallerWaker<'_>,
) -> Result<(), CloneRequired> {
    if !waiting.iter().any(|known| known.has(caller_waker)) {
        waiting.push(caller_waker.slot()?);
    }
    Ok(())
}

/// The permission to call `accept(2)`; released on drop.
#[derive(Debug)]
pub(crate) struct AcceptPermit(Option<Arc<AdmissionControl>>);

/// The permit of an accepted connection. Dropped after the descriptor is closed.
#[derive(Debug)]
pub(crate) struct ConnectionPermit(Arc<AdmissionControl>);

/// What a permit was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PermitUse {
    /// An accept without a connection.
    Unused,
    /// A connection, which had a descriptor.
    Accepted,
}

impl AdmissionControl {
    /// Releases a permit and wakes the acceptors that can use it.
    fn release(&self, permit_use: PermitUse) {
        let mut state = lock(&self.state);
        state.open -= 1;
        let mut waiting = std::mem::take(&mut state.waiting_for_slot);
        if permit_use == PermitUse::Accepted {
            waiting.append(&mut state.waiting_for_descriptor);
        }
        drop(state);
        waiting.into_iter().collect::<Wakeups>().wake();
    }
}

impl Drop for AcceptPermit {
    fn drop(&mut self) {
        if let Some(admission) = &self.0 {
            admission.release(PermitUse::Unused);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.release(PermitUse::Accepted);
    }
}

#[cfg(test)]
mod tests;
