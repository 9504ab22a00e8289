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
//! [`SourceContext`], and whatever it wants of other sources goes through their bells.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use netpoll_buffer::{LinkBuffer, Segment, Tail};
use netpoll_sys::{Interest, Readiness};

use super::notifier::Notifier;
use crate::budget::Budget;
use crate::per_thread::PerThread;
use crate::timestamp::Timestamp;

/// Committed bytes on their way to the kernel.
pub(crate) type Outgoing = LinkBuffer;

/// Makes a source on the thread of the poller that will drive it.
pub(crate) type SourceFactory = Box<dyn FnOnce(RegisterContext) -> Box<dyn Source> + Send>;

/// Where the next bytes of a source should land.
pub(crate) enum RecvBuffer {
    /// In the poller's shared read block.
    Shared,
    /// Behind this tail, which comes back with what landed.
    Owned(Tail),
    /// Nowhere: the source takes no bytes now, or takes readiness instead.
    Unavailable,
}

/// Bytes that have landed.
pub(crate) enum Received {
    /// A window of the shared read block.
    Shared(Segment),
    /// So many bytes at the end of what the tail has filled.
    Owned(Tail, usize),
}

/// How the input of a source ended.
pub(crate) enum EndOfInput {
    /// The peer's FIN.
    Fin,
    /// An error of the kernel's.
    Error(io::Error),
}

/// What is asked of every source of a poller at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShutdownRequest {
    /// Let nobody in any more. What is there goes on.
    StopAccepting,
    /// Finish what is there and take nothing more.
    Graceful,
    /// End now.
    Force,
    /// The poller has failed and begins anew. What has a connection ends; what can go on without what the
    /// kernel knew of it goes on.
    PollerFailed,
}

/// What a source wants after it was told something. It is computed from all of the source's
/// state, so the latest one stands.
pub(crate) enum NextAction {
    /// Nothing until this becomes possible. The poller itself adds the interest in writing while
    /// an outgoing chain is blocked.
    Wait(Interest),
    /// As `Wait`, but call `woken` again in this poller's next turn, behind the others.
    Yield(Interest),
    /// As `Wait` for input, from [`Source::on_sent`]: and nothing has been put since, so that there is
    /// no need to ask for more to send.
    OutputDrained,
    /// What was wanted before: from [`Source::on_notify`], where there was nothing to do.
    Unchanged,
    /// No events at all any more, not even hang-ups; the source stays for other reasons.
    NoInterest,
    /// Put this source in my place, with my token and my descriptor.
    Replace(Box<dyn Source>),
    /// It is over: remove and drop me.
    Remove,
}

/// One thing a poller drives. All calls are on the poller's thread, one at a time.
pub(crate) trait Source {
    /// What the events are of. The same descriptor for the life of a token; `None` for a source
    /// that lives by its bell and its deadline.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Whether a read that brings less than there is room for has emptied the descriptor, unless its
    /// event said that there is [more behind](Readiness::needs_read_until_would_block). Asked before the first call.
    fn short_read_empties(&self) -> bool {
        false
    }

    /// Whether nothing will arrive any more, since both streams are over. Then the kernel need not be
    /// told to watch no more, which it finds by itself when the last descriptor is closed.
    fn has_no_more_events(&self) -> bool {
        false
    }

    /// The first call, before any event.
    fn on_register(&mut self, context: &mut SourceContext) -> NextAction;

    /// Where the next bytes should land.
    fn recv_buffer(&mut self, _turn: &mut SourceContext) -> RecvBuffer {
        RecvBuffer::Unavailable
    }

    /// Bytes have landed.
    fn on_received(&mut self, _landed: Received, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    /// No more bytes will land.
    fn on_input_end(&mut self, _end: EndOfInput, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    /// A chain to send, if there is one. Asked again after each [`Source::on_sent`] that left nothing.
    fn outgoing(&mut self) -> Option<Outgoing> {
        None
    }

    /// What came of sending: so many bytes left, and these stay; or an error, and these never
    /// will leave.
    fn on_sent(
        &mut self,
        _rest: Outgoing,
        _result: io::Result<usize>,
        context: &mut SourceContext,
    ) -> NextAction {
        self.on_notify(context)
    }

    /// The descriptor is ready, for a source whose room is [`RecvBuffer::Unavailable`].
    fn on_ready(&mut self, _readiness: Readiness, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    /// The bell rang.
    fn on_notify(&mut self, context: &mut SourceContext) -> NextAction;

    /// [`NextAction::Yield`] was the answer, or there was more to send than is sent at once.
    fn on_yield(&mut self, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    /// The deadline left in the turn had passed when the poller [woke](SourceContext::wait_end), and what came by
    /// then has landed.
    fn on_timeout(&mut self, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    /// Every source of the poller is asked this.
    fn on_shutdown(&mut self, request: ShutdownRequest, context: &mut SourceContext) -> NextAction;

    /// It panicked when it was asked to [`Fail`](ShutdownRequest::PollerFailed), and is dropped after this.
    fn on_abandon(&mut self) {}
}

/// What a new source is given: its bell, and what sources of its poller share.
pub(crate) struct RegisterContext {
    pub(crate) notifier: Notifier,
    pub(crate) per_thread: Rc<PerThread>,
}

/// How many sources may run between two laps, without any of its own: what they take counts to the
/// next one's.
const MAX_RUNS_PER_CLOCK_READ: u32 = 16;

/// How long it is between two complaints.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// What sources leave for their poller to do, and the time.
#[derive(Default)]
pub(crate) struct SourceContext {
    now: Option<Timestamp>,
    /// When the last wait was over, if timers run.
    wait_end: Option<Timestamp>,
    budget: Option<Budget>,
    /// How many sources have run since the last lap.
    runs: u32,
    /// Whether the running source has noted that bytes moved.
    touched: bool,
    /// Whether anything moved for the running source.
    progress: EventProgress,
    /// When somebody was last told of something slow.
    last_warning: Option<Instant>,
    /// Sources to register.
    pub(super) pending_registrations: VecDeque<SourceFactory>,
    /// The running source's new deadline: `Some(None)` is none.
    pub(super) deadline: Option<Option<Instant>>,
}

/// Whether an event was of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EventProgress {
    #[default]
    None,
    Made,
}

impl SourceContext {
    /// The time: read when it is first asked for after a wait, and as the last [`elapsed`](Self::elapsed)
    /// has read it.
    pub(crate) fn now(&mut self) -> Instant {
        self.timestamp().to_instant()
    }

    /// As [`now`](Self::now), in the cheaper form.
    #[inline]
    pub(crate) fn timestamp(&mut self) -> Timestamp {
        *self.now.get_or_insert_with(Timestamp::now)
    }

    /// Turns of a poller whose sources share `budget`.
    pub(super) fn with_budget(budget: Budget) -> Self {
        Self {
            budget: Some(budget),
            ..Self::default()
        }
    }

    /// Whether memory is short: nothing should grow. One load.
    #[inline]
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.budget.as_ref().is_some_and(Budget::is_low)
    }

    /// The poller has waited.
    pub(super) fn begin_turn(&mut self) {
        self.invalidate_clock();
        self.wait_end = None;
    }

    /// Timers run: the time is read now, before anything else is done.
    pub(super) fn begin_turn_with_timers(&mut self) {
        self.begin_turn();
        self.wait_end = Some(self.timestamp());
    }

    /// When the last wait was over; `None` if no timers ran then. What was due by then is over: whatever
    /// came before has been read since. What has come due later is not yet: it may have come meanwhile,
    /// and lie with the kernel.
    pub(crate) fn wait_end(&self) -> Option<Timestamp> {
        self.wait_end
    }

    /// A source is about to run. Where many have that took no laps, the time is out of date for the
    /// next.
    #[inline]
    pub(super) fn begin_run(&mut self) {
        self.runs += 1;
        self.touched = false;
        self.progress = EventProgress::None;
        if self.runs > MAX_RUNS_PER_CLOCK_READ {
            self.invalidate_clock();
        }
    }

    /// The event for which a source runs was of use: something moved.
    #[inline]
    pub(crate) fn record_progress(&mut self) {
        self.progress = EventProgress::Made;
    }

    /// Whether anything moved for the source that ran last.
    #[inline]
    pub(super) fn has_progress(&self) -> bool {
        self.progress == EventProgress::Made
    }

    /// The time, for a source to note that bytes have moved now; `None` if the running one has noted
    /// it already and not been slow since.
    #[inline]
    pub(crate) fn touch(&mut self) -> Option<Timestamp> {
        let first = !std::mem::replace(&mut self.touched, true);
        first.then(|| self.timestamp())
    }

    /// Reads the time, and says how long it is since it was read before, if that is longer than
    /// `limit`. `None` too if it was not read since the wait.
    #[inline]
    pub(crate) fn elapsed(&mut self, limit: Duration) -> Option<Duration> {
        let before = self.now?;
        let now = Timestamp::now();
        self.now = Some(now);
        self.runs = 0;
        let lap = now.since(before);
        let is_over = lap > limit;
        if is_over {
            self.touched = false;
        }
        is_over.then_some(lap)
    }

    /// The time is not what was read.
    pub(crate) fn invalidate_clock(&mut self) {
        self.now = None;
        self.runs = 0;
    }

    /// Whether something slow may be told of: once a second.
    pub(crate) fn may_warn(&mut self) -> bool {
        let now = self.now();
        let due = self
            .last_warning
            .is_none_or(|last| now.saturating_duration_since(last) >= WARNING_INTERVAL);
        if due {
            self.last_warning = Some(now);
        }
        due
    }

    /// Has the time be `now` until the next wait.
    #[cfg(all(test, any(netpoll_loom, netpoll_shuttle)))]
    pub(super) fn set_now(&mut self, now: Instant) {
        self.now = Some(Timestamp::from_instant(now));
        self.wait_end = self.now;
    }

    /// Registers a source with this poller once the running one has returned.
    pub(crate) fn register(&mut self, factory: SourceFactory) {
        self.pending_registrations.push_back(factory);
    }

    /// Calls the running source's `expired` at `deadline`, or no more. Replaces the one before.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = Some(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_counts_from_the_last_clock_read() {
        let mut context = SourceContext::default();
        assert_eq!(context.elapsed(Duration::ZERO), None, "nothing was read");
        let before = context.now();
        let lap = context.elapsed(Duration::ZERO).unwrap();
        assert_eq!(context.now(), before + lap);
        context.begin_turn();
        assert_eq!(
            context.elapsed(Duration::ZERO),
            None,
            "the wait lies between"
        );
    }

    #[test]
    fn elapsed_is_unknown_after_many_runs_without_a_clock_read() {
        let mut context = SourceContext::default();
        context.now();
        (0..MAX_RUNS_PER_CLOCK_READ).for_each(|_| context.begin_run());
        assert!(
            context.elapsed(Duration::ZERO).is_some(),
            "and a lap begins the count anew"
        );
        (0..=MAX_RUNS_PER_CLOCK_READ).for_each(|_| context.begin_run());
        assert_eq!(context.elapsed(Duration::ZERO), None);
    }

    #[test]
    fn a_clock_read_and_a_wait_both_reset_the_run_count() {
        let mut context = SourceContext::default();
        let run_all = |context: &mut SourceContext| {
            (0..MAX_RUNS_PER_CLOCK_READ).for_each(|_| context.begin_run())
        };
        context.now();
        for _ in 0..3 {
            run_all(&mut context);
            assert!(context.elapsed(Duration::ZERO).is_some());
        }
        run_all(&mut context);
        context.begin_turn();
        context.now();
        run_all(&mut context);
        assert!(context.elapsed(Duration::ZERO).is_some());
    }

    #[test]
    fn elapsed_within_its_limit_is_none_and_restarts_the_clock() {
        let mut context = SourceContext::default();
        let before = context.timestamp();
        assert_eq!(context.elapsed(Duration::MAX), None);
        let between = context.timestamp();
        assert!(between > before);
        let lap = context.elapsed(Duration::ZERO).unwrap();
        assert_eq!(lap, context.timestamp().since(between));
    }

    #[test]
    fn touch_returns_the_time_once_per_run_unless_the_source_was_slow() {
        let mut context = SourceContext::default();
        context.begin_run();
        let first = context.touch().unwrap();
        assert_eq!(first, context.timestamp());
        assert_eq!(context.touch(), None);
        assert_eq!(context.elapsed(Duration::MAX), None);
        assert_eq!(context.touch(), None, "it was not slow");
        assert!(context.elapsed(Duration::ZERO).is_some());
        let later = context.touch().unwrap();
        assert!(later > first);
        assert_eq!(context.touch(), None);
        context.begin_run();
        assert_eq!(context.touch(), Some(later), "another one notes for itself");
    }

    #[test]
    fn a_warning_is_allowed_once_a_second() {
        let mut context = SourceContext::default();
        assert!(context.may_warn());
        assert!(!context.may_warn());
        context.last_warning = context.now().checked_sub(WARNING_INTERVAL);
        assert!(context.may_warn());
    }
}
