// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a poller that fails, and of what it drives.
//!
//! A poller fails when code of ours panics on its thread, outside of every guard, or when its wait
//! returns an error, which says that its epoll descriptor is not one. Its thread then begins anew: with
//! another epoll instance and empty timers, and with the same mailbox, so that every handle on it goes
//! on to be one of a poller that lives, and letters that were not read are carried out later.
//!
//! Sources stay in the registry and are asked [`ShutdownRequest::PollerFailed`]. A connection ends with
//! [`PollerFailed`](crate::CloseReason::PollerFailed), since bytes or arrivals of it may be lost: its
//! peer sees the end at once, its waits return, and its observer is called when its handler has
//! returned. A dial fails. A listener, an alarm and a task have nothing to lose, and go on; a source
//! whose own code panicked goes the same way, and is dropped if it panics again.
//!
//! Every failure is counted and reported. A poller that fails [`MAX_FAILURES`] times without a complete turn
//! in between, or that gets no epoll instance for about a second, is given up: its thread ends all it
//! has, closes its mailbox and tells its set's [`Supervisor`].

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

/// How often a poller may fail without a complete turn in between.
const MAX_FAILURES: u32 = 3;

/// The first pause before an epoll instance is asked for again, and how many there are, each twice as
/// long as the one before.
const MIN_BACKOFF: Duration = Duration::from_millis(4);
const MAX_RETRIES: u32 = 8;

/// How many sources may panic as the poller ends, before the others are dropped with it.
const MAX_PANICS_AT_END: usize = 64;

/// Who learns of the failures of a set's pollers.
#[derive(Clone, Default)]
pub(crate) struct Supervisor {
    pub(crate) event_sink: EventSink,
    /// Called on the thread of a poller that is given up, with the reason.
    pub(crate) on_give_up: Option<Arc<GiveUpHandler>>,
}

/// Called with what a poller could not be started again for.
pub(crate) type GiveUpHandler = dyn Fn(io::Error) + Send + Sync;

impl Supervisor {
    pub(super) fn give_up(&self, error: io::Error) {
        if let Some(gave_up) = &self.on_give_up {
            let _panicked = guard(|| gave_up(error)).is_err();
        }
    }
}

impl Poller {
    /// Turns until it is stopped, begins anew after each failure, and ends what is there at the end.
    ///
    /// # Errors
    ///
    /// Why it cannot begin anew.
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
        // Whatever stays is watched and timed anew, in the next turns.
        for token in self.registry.tokens() {
            self.schedule_yield(token);
        }
        Ok(())
    }

    /// Tells every source, and forgets what the kernel and the timers knew of those that stay.
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

    /// Tells one source. Nothing is sent for it or watched.
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

    /// Gets what the poller needs of the kernel.
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
            Self::Panic => io::Error::other("a poller panicked again and again"),
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

/// Keeps a source that was running when its poller panicked: it is told, too.
#[cold]
pub(super) fn keep_interrupted(run: RunningSource) {
    // At the end of the thread there is nobody left to tell it.
    let _kept = INTERRUPTED
        .try_with(|interrupted| interrupted.borrow_mut().push(run))
        .is_ok();
}
