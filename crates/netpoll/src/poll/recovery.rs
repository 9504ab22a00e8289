// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recovery of a poller that fails, and the effect on its sources.
//!
//! A poller fails when our own code panics on its thread outside of every guard, or when its wait
//! returns an error, which means that its epoll descriptor is invalid. Its thread then restarts the
//! poller with a new epoll instance and empty timers. The mailbox stays, so that every handle on
//! the poller remains valid and unread commands run later.
//!
//! Sources stay in the registry and get [`ShutdownRequest::PollerFailed`]. A connection closes with
//! [`PollerFailed`](crate::CloseReason::PollerFailed), since bytes or events of it may be lost: its
//! peer sees the close at once, its waits return, and its observer is called when its handler has
//! returned. A dial fails. A listener, a timer and a task lose nothing, and continue. A source
//! whose own code panicked gets the same request, and is dropped if it panics again.
//!
//! Every failure is counted and reported. If a poller fails more than [`MAX_FAILURES`] times
//! without a complete iteration in between, or gets no epoll instance for about a second, its
//! thread abandons it: it closes the mailbox, ends all sources and reports to the [`Supervisor`] of
//! the set.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use super::Poller;
use super::busy_poll::BusyPoll;
use super::driver::Driver;
use super::notifier;
use super::read_block::ReadBlock;
use super::registry::RunningSource;
use super::source::{NextAction, ShutdownRequest, SourceContext};
use super::spurious_events::SpuriousEvents;
use super::timers::Timers;
use crate::event::{Event, EventSink, PollerFailure};
use crate::guard::{CaughtPanic, guard};
use crate::sync::{Arc, thread_local};

/// How often a poller is restarted without a complete iteration in between.
const MAX_FAILURES: u32 = 3;

/// The first pause before another attempt to create an epoll instance, and the number of pauses.
/// Each is twice as long as the one before.
const MIN_BACKOFF: Duration = Duration::from_millis(4);
const MAX_RETRIES: u32 = 8;

/// How many sources may panic while the poller ends, before the others are dropped with it.
const MAX_PANICS_AT_END: usize = 64;

/// The receiver of the failures of a set's pollers.
#[derive(Clone, Default)]
pub(crate) struct Supervisor {
    pub(crate) event_sink: EventSink,
    /// Called on the thread of an abandoned poller, with the reason.
    pub(crate) on_give_up: Option<Arc<GiveUpHandler>>,
}

/// Called with the reason why a poller could not be restarted.
pub(crate) type GiveUpHandler = dyn Fn(io::Error) + Send + Sync;

impl Supervisor {
    pub(super) fn give_up(&self, error: io::Error) {
        if let Some(gave_up) = &self.on_give_up {
            let _panicked = guard(|| gave_up(error)).is_err();
        }
    }
}

impl Poller {
    /// Runs until it is stopped, restarts after each failure, and ends all sources at the end.
    ///
    /// # Errors
    ///
    /// The reason why it cannot be restarted.
    pub(super) fn run_with_recovery(
        &mut self,
        index: usize,
        supervisor: &Supervisor,
    ) -> io::Result<()> {
        self.event_sink = supervisor.event_sink.clone();
        let ended = loop {
            let failure = match guard(|| self.run()) {
                Ok(Ok(())) => break Ok(()),
                Ok(Err(error)) => FailureCause::Wait(error),
                Err(CaughtPanic) => FailureCause::Panic,
            };
            if let Err(error) = self.recover(index, &failure, supervisor) {
                break Err(error);
            }
        };
        self.mailbox.close();
        for _ in 0..MAX_PANICS_AT_END {
            if guard(|| self.force_shutdown()).is_ok() {
                break;
            }
            for interrupted in INTERRUPTED.with(RefCell::take) {
                self.remove(interrupted);
            }
        }
        ended
    }

    fn recover(
        &mut self,
        index: usize,
        failure: &FailureCause,
        supervisor: &Supervisor,
    ) -> io::Result<()> {
        let counters = &self.mailbox.counters().poller;
        counters.failures.add(1);
        let connections = counters.snapshot().connections();
        notifier::set_running(None);
        self.failures += 1;
        self.fail_sources();
        let renewed = self.rebuild(failure);
        supervisor.event_sink.report(&Event::PollerFailed {
            poller: index,
            failure: failure.kind(),
            connections,
            restarted: renewed.is_ok(),
        });
        renewed?;
        // In their next run, the remaining sources set their interest and deadline anew.
        for token in self.registry.tokens() {
            self.schedule_yield(token);
        }
        Ok(())
    }

    /// Passes the failure to every source, and drops the kernel state and timers of those that
    /// stay.
    fn fail_sources(&mut self) {
        self.timers = Timers::default();
        self.spurious = SpuriousEvents::default();
        self.yielded.clear();
        for interrupted in INTERRUPTED.with(RefCell::take) {
            self.registry.put_back(interrupted);
        }
        self.registry.reset_interests();
        self.registry.remove_lost();
        for token in self.registry.tokens() {
            if let Some(run) = self.registry.take_out(token) {
                self.fail_source(run);
            }
        }
    }

    /// Passes the failure to one source. Sends nothing for it and sets no interest.
    fn fail_source(&mut self, mut run: RunningSource) {
        notifier::set_running(Some(run.token));
        self.context.invalidate_clock();
        let next = guard(|| {
            run.source
                .on_shutdown(ShutdownRequest::PollerFailed, &mut self.context)
        });
        notifier::set_running(None);
        self.context.deadline = None;
        match next {
            Ok(NextAction::Remove) => self.remove(run),
            Err(CaughtPanic) => {
                let _panicked = guard(|| run.source.on_abandon()).is_err();
                self.remove(run);
            }
            Ok(_) => self.registry.put_back(run),
        }
    }

    /// Gets new kernel resources for the poller.
    fn rebuild(&mut self, failure: &FailureCause) -> io::Result<()> {
        if self.failures > MAX_FAILURES {
            return Err(failure.to_error());
        }
        let mut pause = MIN_BACKOFF;
        let mut pauses = 0;
        self.driver = loop {
            match Driver::epoll(self.mailbox.eventfd()) {
                Ok(driver) => break driver,
                Err(error) if pauses == MAX_RETRIES => return Err(error),
                // Descriptors and memory run out and come back.
                Err(_) => std::thread::sleep(pause),
            }
            pause *= 2;
            pauses += 1;
        };
        self.busy_poll = BusyPoll::new(self.mailbox.busy_poll());
        self.read_block = ReadBlock::new(self.budget.pool().clone());
        let factories = std::mem::take(&mut self.context.pending_registrations);
        self.context = SourceContext::with_budget(self.budget.clone());
        self.context.pending_registrations = factories;
        Ok(())
    }
}

/// Why a poller failed.
enum FailureCause {
    Panic,
    Wait(io::Error),
}

impl FailureCause {
    fn kind(&self) -> PollerFailure {
        match self {
            Self::Panic => PollerFailure::Panic,
            Self::Wait(error) => PollerFailure::Wait {
                errno: error.raw_os_error().unwrap_or(0),
            },
        }
    }

    fn to_error(&self) -> io::Error {
        match self {
            Self::Panic => {
                io::Error::other("poller panicked 4 times without completing an iteration")
            }
            Self::Wait(error) => error
                .raw_os_error()
                .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error),
        }
    }
}

thread_local! {
    /// Sources of this thread's poller that were running when it panicked.
    static INTERRUPTED: RefCell<Vec<RunningSource>> = const { RefCell::new(Vec::new()) };
}

/// Keeps a source that was running when its poller panicked, so that it gets the failure, too.
#[cold]
pub(super) fn keep_interrupted(run: RunningSource) {
    // While the thread exits, no poller is left to handle it.
    let _kept = INTERRUPTED
        .try_with(|interrupted| interrupted.borrow_mut().push(run))
        .is_ok();
}
