// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interface between a poller and what it drives.
//!
//! A poller calls a [`Source`] with what has happened, and the source returns what it wants next.
//! The contract has the shape of completions, so that a backend of readiness, one of completions
//! and a simulated kernel all fit: a source provides a *receive buffer* and gets it back with the
//! bytes *received*; it provides an *outgoing* buffer and gets back the part that was not sent. All
//! memory moves by value, and no system call borrows from a source.
//!
//! A source is *out of its slot while it runs*. What it wants from its poller it leaves in the
//! [`SourceContext`]; other sources it reaches through their notifiers.

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

/// Creates a source on the thread of the poller that will drive it.
pub(crate) type SourceFactory = Box<dyn FnOnce(RegisterContext) -> Box<dyn Source> + Send>;

/// The buffer for the next bytes of a source.
pub(crate) enum RecvBuffer {
    /// The poller's shared read block.
    Shared,
    /// The spare capacity of this tail, which comes back with the bytes received.
    Owned(Tail),
    /// None: the source takes no bytes now, or takes readiness instead.
    Unavailable,
}

/// Bytes received.
pub(crate) enum Received {
    /// A window of the shared read block.
    Shared(Segment),
    /// This many bytes at the end of the tail's filled part.
    Owned(Tail, usize),
}

/// How the input of a source ended.
pub(crate) enum EndOfInput {
    /// The peer's FIN.
    Fin,
    /// An error from the kernel.
    Error(io::Error),
}

/// A request to every source of a poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShutdownRequest {
    /// Accept no new connections. Existing ones continue.
    StopAccepting,
    /// Finish the work at hand and take no more.
    Graceful,
    /// End now.
    Force,
    /// The poller has failed and restarts with a new epoll instance. Connections end; sources that
    /// do not depend on kernel state continue.
    PollerFailed,
}

impl ShutdownRequest {
    /// Returns what a source without a connection wants: it is removed when the loop is forced to
    /// end, and does what `otherwise` returns for every other request.
    pub(crate) fn remove_on_force(self, otherwise: impl FnOnce() -> NextAction) -> NextAction {
        match self {
            Self::Force => NextAction::Remove,
            Self::StopAccepting | Self::Graceful | Self::PollerFailed => otherwise(),
        }
    }
}

/// What a source wants after a call. It is computed from the whole state of the source, so the
/// latest value replaces the one before.
pub(crate) enum NextAction {
    /// No call until this becomes possible. The poller adds write interest while output is blocked.
    Wait(Interest),
    /// As `Wait`, and call [`Source::on_yield`] in the poller's next iteration, behind the others.
    Yield(Interest),
    /// As `Wait` for input, from [`Source::on_sent`]: no output was added since, so the poller need
    /// not ask for more.
    OutputDrained,
    /// The interest as it was: from [`Source::on_notify`], if there was nothing to do.
    Unchanged,
    /// No events any more, not even hang-ups. The source stays for other reasons.
    NoInterest,
    /// Replace this source by another one with the same token and descriptor.
    Replace(Box<dyn Source>),
    /// Remove and drop this source.
    Remove,
}

/// A thing that a poller drives. The poller calls it on its own thread, one call at a time.
pub(crate) trait Source {
    /// Returns the descriptor whose events the source wants. It stays the same for the life of a
    /// token. `None` for a source that needs only its notifier and its deadline.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Returns whether a read that returns fewer bytes than the buffer holds has emptied the
    /// descriptor, unless its event reported [more behind
    /// them](Readiness::needs_read_until_would_block). Called before the first event.
    fn short_read_empties(&self) -> bool {
        false
    }

    /// Returns whether no event will follow, since both directions are closed. Then the poller
    /// skips the deregistration, which the kernel does when the last descriptor is closed.
    fn has_no_more_events(&self) -> bool {
        false
    }

    /// Called first, before any event.
    fn on_register(&mut self, context: &mut SourceContext) -> NextAction;

    /// Returns the buffer for the next bytes.
    fn recv_buffer(&mut self, _context: &mut SourceContext) -> RecvBuffer {
        RecvBuffer::Unavailable
    }

    /// Takes bytes received.
    fn on_received(&mut self, _received: Received, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    /// Called when the input has ended.
    fn on_input_end(&mut self, _end: EndOfInput, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    /// Returns output to send, if any. Called again after each [`Source::on_sent`] that left
    /// nothing.
    fn outgoing(&mut self) -> Option<Outgoing> {
        None
    }

    /// Takes the result of a send: the number of bytes sent, and `rest` stays to be sent; or an
    /// error, and `rest` will never be sent.
    fn on_sent(
        &mut self,
        _rest: Outgoing,
        _result: io::Result<usize>,
        context: &mut SourceContext,
    ) -> NextAction {
        self.on_notify(context)
    }

    /// Called when the descriptor is ready and the receive buffer is [`RecvBuffer::Unavailable`].
    fn on_ready(&mut self, _readiness: Readiness, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    /// Called after a notification.
    fn on_notify(&mut self, context: &mut SourceContext) -> NextAction;

    /// Called after [`NextAction::Yield`], or when there was more output than one iteration sends.
    fn on_yield(&mut self, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    /// Called when the deadline set in the context had passed at the [end of the
    /// wait](SourceContext::wait_end). All bytes that had arrived by then have been received.
    fn on_timeout(&mut self, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    /// Takes a request that goes to every source of the poller.
    fn on_shutdown(&mut self, request: ShutdownRequest, context: &mut SourceContext) -> NextAction;

    /// Called before the source is dropped because it panicked in
    /// [`PollerFailed`](ShutdownRequest::PollerFailed).
    fn on_abandon(&mut self) {}
}

/// What a new source gets: its notifier, and the state that the sources of a poller share.
pub(crate) struct RegisterContext {
    pub(crate) notifier: Notifier,
    pub(crate) per_thread: Rc<PerThread>,
}

/// The most sources that may run after a clock read before the reading is dropped. Until then,
/// their run time counts towards the `elapsed` of the next source that asks.
const MAX_RUNS_PER_CLOCK_READ: u32 = 16;

/// The shortest time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// What sources leave for their poller to do, and the time.
#[derive(Default)]
pub(crate) struct SourceContext {
    now: Option<Timestamp>,
    /// The end of the last wait, if timers are set.
    wait_end: Option<Timestamp>,
    budget: Option<Budget>,
    /// Sources that have run since the clock was read.
    runs: u32,
    /// Whether the running source has recorded the time of its activity.
    touched: bool,
    /// Whether the running source has made progress.
    progress: EventProgress,
    /// When a slow operation was last reported.
    last_warning: Option<Instant>,
    /// Sources to register.
    pub(super) pending_registrations: VecDeque<SourceFactory>,
    /// The new deadline of the running source; `Some(None)` removes it.
    pub(super) deadline: Option<Option<Instant>>,
}

/// Whether an event led to any progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EventProgress {
    #[default]
    None,
    Made,
}

impl SourceContext {
    /// Returns the time. Reads the clock on the first call after a wait; later calls return that
    /// reading or the one by [`elapsed`](Self::elapsed).
    pub(crate) fn now(&mut self) -> Instant {
        self.timestamp().to_instant()
    }

    /// As [`now`](Self::now), in a cheaper form.
    #[inline]
    pub(crate) fn timestamp(&mut self) -> Timestamp {
        *self.now.get_or_insert_with(Timestamp::now)
    }

    /// Creates a context for sources that share `budget`.
    pub(super) fn with_budget(budget: Budget) -> Self {
        Self {
            budget: Some(budget),
            ..Self::default()
        }
    }

    /// Returns whether memory is short, so that nothing should grow. Costs one load.
    #[inline]
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.budget.as_ref().is_some_and(Budget::is_low)
    }

    /// Starts an iteration after a wait.
    pub(super) fn begin_turn(&mut self) {
        self.invalidate_clock();
        self.wait_end = None;
    }

    /// Starts an iteration with timers set: reads the clock before any source runs.
    pub(super) fn begin_turn_with_timers(&mut self) {
        self.begin_turn();
        self.wait_end = Some(self.timestamp());
    }

    /// Returns the end of the last wait; `None` if no timers were set then. A deadline before it
    /// has passed: everything that arrived earlier has been read since. A later deadline has not:
    /// input in time for it may still be in the kernel.
    pub(crate) fn wait_end(&self) -> Option<Timestamp> {
        self.wait_end
    }

    /// Starts the run of a source. Drops the clock reading after [`MAX_RUNS_PER_CLOCK_READ`] runs
    /// without a call of `elapsed`.
    #[inline]
    pub(super) fn begin_run(&mut self) {
        self.runs += 1;
        self.touched = false;
        self.progress = EventProgress::None;
        if self.runs > MAX_RUNS_PER_CLOCK_READ {
            self.invalidate_clock();
        }
    }

    /// Records that the event of the running source led to progress.
    #[inline]
    pub(crate) fn record_progress(&mut self) {
        self.progress = EventProgress::Made;
    }

    /// Returns whether the source that ran last made progress.
    #[inline]
    pub(super) fn has_progress(&self) -> bool {
        self.progress == EventProgress::Made
    }

    /// Returns the time for a source to record activity; `None` if the running source has it
    /// already and has not been slow since.
    #[inline]
    pub(crate) fn touch(&mut self) -> Option<Timestamp> {
        let first = !std::mem::replace(&mut self.touched, true);
        first.then(|| self.timestamp())
    }

    /// Reads the clock, and returns the time since the reading before if that is longer than
    /// `limit`. `None` also if there is no reading since the wait.
    #[inline]
    pub(crate) fn elapsed(&mut self, limit: Duration) -> Option<Duration> {
        let before = self.now?;
        let now = Timestamp::now();
        self.now = Some(now);
        self.runs = 0;
        let elapsed = now.since(before);
        let is_over = elapsed > limit;
        if is_over {
            self.touched = false;
        }
        is_over.then_some(elapsed)
    }

    /// Drops the clock reading.
    pub(crate) fn invalidate_clock(&mut self) {
        self.now = None;
        self.runs = 0;
    }

    /// Returns whether a slow operation may be reported: once a second.
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

    /// Sets the time until the next wait.
    #[cfg(all(test, any(netpoll_loom, netpoll_shuttle)))]
    pub(super) fn set_now(&mut self, now: Instant) {
        self.now = Some(Timestamp::from_instant(now));
        self.wait_end = self.now;
    }

    /// Registers a source with this poller once the running one has returned.
    pub(crate) fn register(&mut self, factory: SourceFactory) {
        self.pending_registrations.push_back(factory);
    }

    /// Calls the running source's `on_timeout` at `deadline`; `None` for never. Replaces the
    /// deadline before.
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
        assert_eq!(context.elapsed(Duration::ZERO), None, "no reading yet");
        let before = context.now();
        let elapsed = context.elapsed(Duration::ZERO).unwrap();
        assert_eq!(context.now(), before + elapsed);
        context.begin_turn();
        assert_eq!(
            context.elapsed(Duration::ZERO),
            None,
            "the wait drops the reading"
        );
    }

    #[test]
    fn elapsed_is_unknown_after_many_runs_without_a_clock_read() {
        let mut context = SourceContext::default();
        context.now();
        (0..MAX_RUNS_PER_CLOCK_READ).for_each(|_| context.begin_run());
        assert!(
            context.elapsed(Duration::ZERO).is_some(),
            "and a clock read resets the count"
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
        let elapsed = context.elapsed(Duration::ZERO).unwrap();
        assert_eq!(elapsed, context.timestamp().since(between));
    }

    #[test]
    fn touch_returns_the_time_once_per_run_unless_the_source_was_slow() {
        let mut context = SourceContext::default();
        context.begin_run();
        let first = context.touch().unwrap();
        assert_eq!(first, context.timestamp());
        assert_eq!(context.touch(), None);
        assert_eq!(context.elapsed(Duration::MAX), None);
        assert_eq!(context.touch(), None, "the source was not slow");
        assert!(context.elapsed(Duration::ZERO).is_some());
        let later = context.touch().unwrap();
        assert!(later > first);
        assert_eq!(context.touch(), None);
        context.begin_run();
        assert_eq!(context.touch(), Some(later), "another source has its own");
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
