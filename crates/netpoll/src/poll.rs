// SPDX-License-Identifier: MIT OR Apache-2.0
//! A poller: one thread, one driver, one loop, and the sources it drives.
//!
//! One iteration of the loop:
//!
//! 1. read the mailbox, and continue a shutdown of all sources;
//! 2. *wait* for the kernel (with a timeout of zero if there was a command, or sources are queued);
//! 3. for each event, take the source out of its slot, read for it, and call it;
//! 4. call the sources that are queued by then, and those whose deadline had passed at the end of
//!    the wait;
//! 5. after each run of a source: send its output, update its interest, and put it back.
//!
//! Each step does a bounded part of its work in one iteration ([`quota`]); the next iteration does
//! the rest, and does not wait. So no event waits for longer than a few of these parts take, even
//! if ten thousand timers fire at once or every source shuts down.
//!
//! A poller knows nothing of connections: it drives [`source::Source`]s. It blocks only in its
//! wait, holds no lock while a source runs, and reads and sends without any lock.

pub(crate) mod balance;
pub(crate) mod busy_poll;
pub(crate) mod mailbox;
pub(crate) mod mass_wake;
pub(crate) mod notifier;
pub(crate) mod placement;
pub(crate) mod poller_registry;
pub(crate) mod poller_timer;
pub(crate) mod set;
pub(crate) mod socket_registration;
pub(crate) mod source;
pub(crate) mod source_output;
pub(crate) mod token;

mod actions;
mod commands;
mod driver;
#[cfg(all(test, any(netpoll_loom, netpoll_shuttle)))]
pub(crate) mod model_poller;
mod quota;
mod read_block;
pub(crate) mod recovery;
mod registry;
mod shutdown_sweep;
mod source_input;
mod spare_timers;
mod spurious_events;
#[cfg(test)]
mod test_poller;
mod timers;

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use netpoll_sys::{Interest, Readiness};

use crate::budget::Budget;
use crate::event::EventSink;
use crate::per_thread::PerThread;
use crate::sync::Arc;
use crate::timestamp::Timestamp;
use busy_poll::BusyPoll;
use driver::Driver;
use mailbox::{Command, Mailbox, MaySleep};
use quota::Quota;
use read_block::ReadBlock;
use registry::{Registry, YieldState};
use shutdown_sweep::ShutdownSweep;
use source::{NextAction, ShutdownRequest, Source, SourceContext};
use spurious_events::SpuriousEvents;
use timers::Timers;
use token::{Token, TokenKind};

/// One poller, on its thread.
struct Poller {
    driver: Driver,
    budget: Budget,
    mailbox: Arc<Mailbox>,
    registry: Registry,
    timers: Timers,
    /// Busy polling, if it is enabled.
    busy_poll: Option<BusyPoll>,
    read_block: ReadBlock,
    context: SourceContext,
    per_thread: Rc<PerThread>,
    /// Commands that were collected and have not run yet, the oldest first.
    commands: VecDeque<Command>,
    /// Sources to be called again.
    yielded: VecDeque<Token>,
    /// The request that every source got, which later sources get as well.
    shutdown: Option<ShutdownRequest>,
    /// The sources that have not got the request yet.
    sweep: Option<ShutdownSweep>,
    stopped: bool,
    /// Failures since the last complete iteration.
    failures: u32,
    /// Sources whose last event led to no progress.
    spurious: SpuriousEvents,
    /// Receives the reports of spurious events.
    event_sink: EventSink,
}

impl Poller {
    fn new(mailbox: Arc<Mailbox>, budget: &Budget) -> io::Result<Self> {
        Ok(Self {
            driver: Driver::epoll(mailbox.eventfd())?,
            busy_poll: BusyPoll::new(mailbox.busy_poll()),
            budget: budget.clone(),
            mailbox,
            registry: Registry::default(),
            timers: Timers::default(),
            read_block: ReadBlock::new(budget.pool().clone()),
            context: SourceContext::with_budget(budget.clone()),
            per_thread: Rc::default(),
            commands: VecDeque::new(),
            yielded: VecDeque::new(),
            shutdown: None,
            sweep: None,
            stopped: false,
            failures: 0,
            spurious: SpuriousEvents::default(),
            event_sink: EventSink::default(),
        })
    }

    /// Runs until it is stopped or its wait fails.
    fn run(&mut self) -> io::Result<()> {
        while !self.stopped {
            self.run_once()?;
            self.failures = 0;
        }
        Ok(())
    }

    /// Shuts down every source by force, so that owners of connections see the close, and drops
    /// those left.
    fn force_shutdown(&mut self) {
        self.sweep = None;
        self.shutdown = Some(ShutdownRequest::Force);
        for token in self.registry.tokens() {
            self.call(token, |source, context| {
                source.on_shutdown(ShutdownRequest::Force, context)
            });
        }
        for token in self.registry.tokens() {
            if let Some(run) = self.registry.take_out(token) {
                self.remove(run);
            }
        }
    }

    fn run_once(&mut self) -> io::Result<()> {
        let timeout = self.timeout();
        let count = match &mut self.busy_poll {
            Some(busy_poll) if timeout != Some(Duration::ZERO) => {
                let counters = &self.mailbox.counters().poller;
                busy_poll.wait(timeout, counters, |timeout| self.driver.wait(timeout))?
            }
            _ => self.driver.wait(timeout)?,
        };
        self.process_events(count);
        Ok(())
    }

    /// Runs an iteration after a wait that returned `count` events.
    fn process_events(&mut self, count: usize) {
        self.mailbox.counters().poller.record_wait(count);
        match self.timers.is_empty() {
            true => self.context.begin_turn(),
            false => self.context.begin_turn_with_timers(),
        }
        for index in 0..count {
            if let Some((token, readiness)) = self.driver.event(index) {
                self.dispatch(token, readiness);
            }
        }
        self.run_queued();
        self.fire_timers();
        self.register_pending();
        if !self.spurious.is_empty() {
            self.resume_paused();
        }
    }

    /// Registers the sources that other sources requested in their run.
    fn register_pending(&mut self) {
        let mut quota = Quota::default();
        while !self.context.pending_registrations.is_empty() && quota.take() {
            if let Some(factory) = self.context.pending_registrations.pop_front() {
                self.register(factory);
            }
        }
    }

    /// Calls the sources that were queued when this step began, the oldest first.
    fn run_queued(&mut self) {
        let mut quota = Quota::default();
        for _ in 0..notifier::run_queue_len() {
            if !quota.take() {
                break;
            }
            if let Some(token) = notifier::pop_run_queue() {
                self.call(token, |source, context| source.on_notify(context));
            }
        }
        let mut quota = Quota::default();
        for _ in 0..self.yielded.len() {
            if !quota.take() {
                return;
            }
            let Some(token) = self.yielded.pop_front() else {
                return;
            };
            if let Some(entry) = self.registry.get_mut(token) {
                entry.yielded = YieldState::NotQueued;
            }
            self.call(token, |source, context| source.on_yield(context));
        }
    }

    /// Queues a source for the next iteration, behind the others, once.
    fn schedule_yield(&mut self, token: Token) {
        if let Some(entry) = self.registry.get_mut(token)
            && entry.yielded == YieldState::NotQueued
        {
            entry.yielded = YieldState::Queued;
            self.yielded.push_back(token);
        }
    }

    /// Returns whether there is work that needs no event.
    fn has_work(&self) -> bool {
        notifier::run_queue_len() > 0 || !self.yielded.is_empty() || self.has_deferred_work()
    }

    /// Returns whether an earlier step left work over.
    fn has_deferred_work(&self) -> bool {
        !self.commands.is_empty()
            || !self.context.pending_registrations.is_empty()
            || self.sweep.is_some()
    }

    /// Reads the mailbox, and returns the timeout of the next wait. If the wait may be long, every
    /// command from now on wakes the poller.
    fn timeout(&mut self) -> Option<Duration> {
        let sleep = match self.has_work() {
            true => MaySleep::No,
            false => MaySleep::Yes,
        };
        if !self.receive_commands(sleep) {
            Some(Duration::ZERO)
        } else if self.timers.is_empty() && self.spurious.is_empty() {
            None
        } else {
            let timer = self.timers.until_next(Timestamp::now());
            [timer, self.spurious.until_next()]
                .into_iter()
                .flatten()
                .min()
        }
    }

    /// Calls the sources whose deadline had passed at the end of the wait. A deadline that passes
    /// while other sources run is handled after the next wait, so that bytes that the peer has sent
    /// by now are read first. Deadlines beyond the quota wait for the next iteration, too.
    fn fire_timers(&mut self) {
        let Some(now) = self.context.wait_end() else {
            return;
        };
        let mut quota = Quota::default();
        while quota.take() {
            let Some(token) = self.timers.next_due(now) else {
                return;
            };
            let Some(entry) = self.registry.get_mut(token) else {
                continue;
            };
            entry.timer = None;
            match entry.deadline {
                Some(deadline) if deadline > now.to_instant() => {
                    entry.timer = Some(self.timers.set(token, Timestamp::from_instant(deadline)));
                }
                Some(_) => {
                    entry.deadline = None;
                    self.call(token, |source, context| source.on_timeout(context));
                }
                None => {}
            }
        }
    }

    #[inline]
    fn dispatch(&mut self, token: Token, readiness: Readiness) {
        match token.kind() {
            Some(TokenKind::Source) => self.dispatch_to_source(token, readiness),
            Some(TokenKind::Mailbox) => {
                self.mailbox.counters().poller.wakeups.add(1);
                // The commands are read before the next wait, whatever the result.
                match self.mailbox.eventfd().clear() {
                    Ok(()) if self.spurious.is_empty() => {}
                    Ok(()) => self.spurious.remove(token),
                    Err(_) => self.eventfd_not_cleared(),
                }
            }
            None => debug_assert!(false, "event with an unknown token"),
        }
    }

    fn dispatch_to_source(&mut self, token: Token, readiness: Readiness) {
        let Some(mut run) = self.registry.take_out(token) else {
            return;
        };
        if readiness.is_writable() || readiness.may_have_ended() {
            run.watch.unblock();
        }
        let before = run.watch.interest;
        let watched = before.unwrap_or_default();
        notifier::set_running(Some(token));
        self.context.begin_run();
        let is_to_read = readiness.is_readable() && watched.is_readable();
        let next = if readiness.may_have_ended() || is_to_read {
            self.read_for(&mut run, readiness)
        } else {
            run.source.on_ready(readiness, &mut self.context)
        };
        self.apply(run, next);
        if !self.context.has_progress() && self.is_interest_unchanged(token, before) {
            self.record_spurious(token, readiness);
        } else if !self.spurious.is_empty() {
            self.spurious.remove(token);
        }
    }

    /// Returns whether a source is registered with exactly `interest`.
    fn is_interest_unchanged(&mut self, token: Token, interest: Option<Interest>) -> bool {
        let entry = self.registry.get_mut(token);
        entry.is_some_and(|entry| entry.is_watched_for(interest))
    }

    /// Takes a source out of its slot, runs `work` on it, and applies the result.
    fn call(
        &mut self,
        token: Token,
        work: impl FnOnce(&mut dyn Source, &mut SourceContext) -> NextAction,
    ) {
        let Some(mut run) = self.registry.take_out(token) else {
            return;
        };
        notifier::set_running(Some(token));
        self.context.begin_run();
        let next = work(run.source.as_mut(), &mut self.context);
        self.apply(run, next);
    }
}
