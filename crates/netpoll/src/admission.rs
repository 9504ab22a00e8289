// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many connections an event loop lets in, and how fast.
//!
//! All acceptors of a loop ask here before each `accept(2)`. Who is let in gets a [`AcceptPermit`], and
//! holds it for as long as its descriptor is open. An acceptor that is turned away leaves a waker,
//! looks away from its listener, and so leaves the next connections to the kernel's queue; the
//! next ticket that is given back wakes it. So does an acceptor whose accept failed for want of
//! descriptors, but that one is woken by tickets that had a descriptor only: two that fail would
//! else wake each other without end. The count and the wakers are behind one lock, so a ticket
//! that is given back between the look and the wait is not missed.

use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::budget::Budget;
use crate::event::{AcceptPauseReason, Event, EventSink};
use crate::foreign::{CallerWaker, CloneRequired, WakerSlot, Wakeups, register};
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// The most connections unless told otherwise, whatever the descriptor limit.
const DEFAULT_MAX_CONNECTIONS: usize = 65_536;

/// How long it is between two pauses that are told.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How much earlier than its turn a connection may come: a burst this long is let in at once.
const BURST_TOLERANCE: Duration = Duration::from_millis(100);

/// What an event loop lets in.
#[derive(Debug)]
pub(crate) struct AdmissionControl {
    limit: usize,
    /// The time between two connections, if their rate is bounded.
    interval: Option<Duration>,
    budget: Budget,
    event_sink: EventSink,
    state: Mutex<AdmissionState>,
}

#[derive(Debug, Default)]
struct AdmissionState {
    open: usize,
    /// Acceptors that look away until there is room.
    waiting_for_slot: Vec<WakerSlot>,
    /// Acceptors that look away until there is a descriptor.
    waiting_for_descriptor: Vec<WakerSlot>,
    /// When the next connection's turn is.
    next_admission: Option<Instant>,
    stats: AcceptStats,
    /// The pause that lasts.
    pause: Option<ActivePause>,
    /// When a pause was last told.
    last_report: Option<Instant>,
}

/// A pause that lasts.
#[derive(Clone, Copy, Debug)]
struct ActivePause {
    reason: AcceptPauseReason,
    since: Instant,
    reported: bool,
}

/// What has become of the connections that came to a loop's listeners. A snapshot; the counts
/// begin at the making of the loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptStats {
    /// Connections that were taken.
    pub accepted: u64,
    /// Connections that [`on_accept`](crate::Builder::on_accept) refused.
    pub rejected: u64,
    /// How often accepting paused because there were
    /// [`max_connections`](crate::Builder::max_connections).
    pub pauses_at_limit: u64,
    /// How often accepting paused because connections came faster than
    /// [`accept_rate`](crate::Builder::accept_rate).
    pub pauses_for_rate: u64,
    /// How often accepting paused because connections held 98 % of their
    /// [`Budget`].
    pub pauses_for_memory: u64,
    /// Connections that had died in the kernel's queue, or had an error of their own.
    pub aborted_in_queue: u64,
    /// Accepts that failed because the process has no descriptor left (`EMFILE`).
    pub process_out_of_descriptors: u64,
    /// Accepts that failed because the system has no open file left (`ENFILE`).
    pub system_out_of_files: u64,
    /// Accepts that failed for want of memory (`ENOBUFS`, `ENOMEM`).
    pub out_of_memory: u64,
}

/// What a failed accept says of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptFailure {
    /// Something has run out: the next fails too, until time or an end mends it.
    ResourceExhausted(AcceptPauseReason),
    /// It was one connection's own.
    ConnectionOnly,
}

impl AdmissionState {
    /// Accepting pauses. Gives what is to be told of it.
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

    /// Accepting goes on, if what it had paused for is one of those that are over now.
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
    /// Whether it is over once the entrance lets somebody in, and not only when somebody came.
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
        let exhausted = |what| AcceptFailure::ResourceExhausted(what);
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

/// Why nobody is let in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// There are as many as there may be; the waker is woken when there is one less.
    AtLimit,
    /// Connections hold all the memory they may; nobody tells when that is over.
    OverBudget,
    /// Not before this.
    RateLimited(Instant),
}

/// Whether the rate counts: not for what was queued when a shutdown was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RatePolicy {
    Limited,
    Exempt,
}

impl AdmissionControl {
    /// At most `limit` at once, and `rate` a second if that is bounded.
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

    /// The most connections that fit a process which may have so many descriptors: seven eighths
    /// of them, so that listeners, pollers and the rest of the program have theirs.
    pub(crate) fn limit_for(descriptors: u64) -> usize {
        let most = usize::try_from(descriptors)
            .unwrap_or(usize::MAX)
            .min(DEFAULT_MAX_CONNECTIONS * 2);
        (most / 8 * 7).clamp(1, DEFAULT_MAX_CONNECTIONS)
    }

    /// Asks to let one in. `now` is only asked for the time if the rate is bounded.
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

    /// Somebody came in with `ticket`.
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

    /// Somebody was refused.
    pub(crate) fn record_rejected(&self) {
        lock(&self.state).stats.rejected += 1;
    }

    /// An accept failed. If something has run out, the waker is woken when somebody leaves.
    pub(crate) fn record_failure(&self, error: &io::Error, waker: &Waker) -> AcceptFailure {
        let failure = lock(&self.state).stats.count_failure(error);
        if let AcceptFailure::ResourceExhausted(what) = failure {
            register(waker, |caller_waker| {
                let mut state = lock(&self.state);
                add_waiter(&mut state.waiting_for_descriptor, caller_waker)?;
                let event = state.pause(what);
                self.report(state, event);
                Ok(())
            });
        }
        failure
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// When a pause that lasts, and was not told because it followed on another, is to be told.
    pub(crate) fn next_report_at(&self) -> Option<Instant> {
        let state = lock(&self.state);
        let unreported = state.pause.is_some_and(|pause| !pause.reported);
        state
            .last_report
            .filter(|_| unreported)?
            .checked_add(REPORT_INTERVAL)
    }

    /// Tells what there is to tell, under no lock.
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

/// Once is enough: an acceptor that tries again and again waits all the time.
fn add_waiter(
    waiting: &mut Vec<WakerSlot>,
    caller_waker: &mut CallerWaker<'_>,
) -> Result<(), CloneRequired> {
    if !waiting.iter().any(|known| known.has(caller_waker)) {
        waiting.push(caller_waker.slot()?);
    }
    Ok(())
}

/// The right to ask whether somebody is there; given back when dropped.
#[derive(Debug)]
pub(crate) struct AcceptPermit(Option<Arc<AdmissionControl>>);

/// One connection that came in. Dropped after its descriptor, which is free by then.
#[derive(Debug)]
pub(crate) struct ConnectionPermit(Arc<AdmissionControl>);

/// What a place was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PermitUse {
    /// To ask whether somebody is there.
    Unused,
    /// By somebody, who had a descriptor.
    Accepted,
}

impl AdmissionControl {
    /// A place is free again.
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
mod tests {
    use super::*;
    use crate::sync::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn admission_control(limit: usize, rate: Option<u32>) -> Arc<AdmissionControl> {
        let (budget, event_sink) = (Budget::unlimited(), EventSink::default());
        Arc::new(AdmissionControl::new(limit, rate, budget, event_sink))
    }

    fn now() -> Instant {
        unreachable!("the time is not needed")
    }

    #[test]
    fn whoever_was_turned_away_is_woken_by_the_next_who_leaves_and_once() {
        let admission = admission_control(2, None);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let admit = || admission.admit(&waker, RatePolicy::Limited, now);
        let (one, other) = (admit().unwrap(), admit().unwrap());
        for _ in 0..3 {
            assert_eq!(admit().unwrap_err(), Rejection::AtLimit);
        }
        drop(one);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        let third = admit().unwrap();
        drop((other, third));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(admission.stats().pauses_at_limit, 3);
    }

    #[test]
    fn whoever_starves_is_woken_by_a_descriptor_that_is_free_and_not_by_a_vain_try() {
        let admission = admission_control(9, None);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let permit = admission.admit(&waker, RatePolicy::Limited, now).unwrap();
        let with_descriptor = admission.record_accepted(permit, now);
        admission.record_failure(&io::Error::from_raw_os_error(24), &waker);
        drop(
            admission
                .admit(Waker::noop(), RatePolicy::Limited, now)
                .unwrap(),
        );
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        drop(with_descriptor);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn no_second_has_more_than_the_rate_and_a_tenth() {
        let admission = admission_control(usize::MAX, Some(100));
        let waker = Waker::noop();
        let start = Instant::now();
        let mut arrivals = Vec::new();
        let mut at = start;
        while at < start + Duration::from_secs(3) {
            match admission.admit(waker, RatePolicy::Limited, || at) {
                Ok(permit) => {
                    drop(admission.record_accepted(permit, || at));
                    arrivals.push(at);
                }
                Err(Rejection::RateLimited(later)) => {
                    assert!(later > at);
                    at = later;
                }
                Err(rejection) => panic!("there is no limit: {rejection:?}"),
            }
        }
        for &first in &arrivals {
            let second = first..first + Duration::from_secs(1);
            let within = arrivals.iter().filter(|&at| second.contains(at)).count();
            assert!(within <= 111, "{within} in a second");
        }
        assert!((300..=311).contains(&arrivals.len()), "{}", arrivals.len());
        assert!(admission.admit(waker, RatePolicy::Exempt, now).is_ok());
    }

    #[test]
    fn errors_are_counted_by_kind_and_only_those_of_want_wait() {
        let admission = admission_control(10, None);
        for (errno, failure) in [
            (
                24,
                AcceptFailure::ResourceExhausted(AcceptPauseReason::Descriptors),
            ),
            (
                23,
                AcceptFailure::ResourceExhausted(AcceptPauseReason::Files),
            ),
            (
                12,
                AcceptFailure::ResourceExhausted(AcceptPauseReason::Memory),
            ),
            (
                105,
                AcceptFailure::ResourceExhausted(AcceptPauseReason::Memory),
            ),
            (103, AcceptFailure::ConnectionOnly),
            (71, AcceptFailure::ConnectionOnly),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(
                admission.record_failure(&error, Waker::noop()),
                failure,
                "{errno}"
            );
        }
        let expected = AcceptStats {
            aborted_in_queue: 2,
            process_out_of_descriptors: 1,
            system_out_of_files: 1,
            out_of_memory: 2,
            ..AcceptStats::default()
        };
        assert_eq!(admission.stats(), expected);
    }

    #[test]
    fn a_pause_is_told_once_a_second_and_its_end_if_it_was_told() {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&reported);
        let event_sink = EventSink::new(move |event| lock(&log).push(event.to_string()));
        let admission = Arc::new(AdmissionControl::new(
            1,
            None,
            Budget::unlimited(),
            event_sink,
        ));
        let admit = || admission.admit(Waker::noop(), RatePolicy::Limited, now);
        let reach_the_limit = || {
            let permit = admit().unwrap();
            for _ in 0..3 {
                assert_eq!(admit().unwrap_err(), Rejection::AtLimit);
            }
            drop(permit);
        };
        reach_the_limit();
        assert_eq!(lock(&reported).len(), 1, "the pause");
        reach_the_limit();
        assert_eq!(lock(&reported).len(), 2, "its end, and no second pause");
        assert!(admission.next_report_at().is_some());
        drop(admit().unwrap());
        assert_eq!(lock(&reported).len(), 2, "nor the end of that");
        assert_eq!(admission.next_report_at(), None);
        lock(&admission.state).last_report = Instant::now().checked_sub(REPORT_INTERVAL);
        reach_the_limit();
        let reported = lock(&reported).join("\n");
        let begins: Vec<_> = reported.lines().map(|line| &line[..17]).collect();
        let (paused, resumed) = ("accepting paused:", "accepting resumed");
        assert_eq!(begins, [paused, resumed, paused]);
    }

    #[test]
    fn want_is_over_when_somebody_came_and_not_when_somebody_may() {
        let admission = admission_control(9, None);
        admission.record_failure(&io::Error::from_raw_os_error(24), Waker::noop());
        let permit = admission
            .admit(Waker::noop(), RatePolicy::Limited, now)
            .unwrap();
        let pause = lock(&admission.state).pause;
        assert_eq!(pause.unwrap().reason, AcceptPauseReason::Descriptors);
        let _permit = admission.record_accepted(permit, now);
        assert!(lock(&admission.state).pause.is_none());
    }

    #[test]
    fn an_eighth_of_the_descriptors_is_left_to_others() {
        assert_eq!(AdmissionControl::limit_for(64), 56);
        assert_eq!(AdmissionControl::limit_for(1024), 896);
        assert_eq!(AdmissionControl::limit_for(1 << 20), 65_536);
        assert_eq!(AdmissionControl::limit_for(u64::MAX), 65_536);
        assert_eq!(AdmissionControl::limit_for(0), 1);
    }
}
