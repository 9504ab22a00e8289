// SPDX-License-Identifier: MIT OR Apache-2.0
//! A poller: one thread, one driver, one loop, and the sources it drives.
//!
//! One turn of the loop:
//!
//! 1. read the mailbox, and go on with what every source is asked;
//! 2. *wait* for the kernel (not at all if there was a letter, or sources have queued themselves);
//! 3. for each event, take the source out of its slot, read for it, and let it work;
//! 4. call the sources that have queued themselves by then, and those whose time was up when the wait
//!    was over;
//! 5. each time a source has run: send what it wants to send, watch what it wants to hear of, and
//!    put it back.
//!
//! Each of these steps does a bounded part of its work in one turn ([`quota`]); what is left is for the
//! next turn, which does not wait. So a crowd that has work at once, ten thousand timers or a shutdown,
//! keeps no event waiting for longer than a few of these parts take.
//!
//! A poller knows nothing of connections: it drives [`source::Source`]s. It never blocks anywhere
//! but in its wait, holds no lock while a source runs, and reads and sends with no lock at all.

pub(crate) mod alarm;
pub(crate) mod balance;
pub(crate) mod bell;
pub(crate) mod entry;
pub(crate) mod home;
pub(crate) mod mailbox;
pub(crate) mod mass_wake;
pub(crate) mod roster;
pub(crate) mod sending;
pub(crate) mod set;
pub(crate) mod source;
pub(crate) mod spin;
pub(crate) mod token;

#[cfg(test)]
mod by_hand;
mod concluding;
mod driver;
mod progress;
mod quota;
mod read_block;
mod reading;
pub(crate) mod recovery;
mod registry;
mod round;
#[cfg(all(test, any(netpoll_loom, netpoll_shuttle)))]
pub(crate) mod stepped;
mod timers;

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use netpoll_sys::{Interest, Readiness};

use crate::budget::Budget;
use crate::event::Listening;
use crate::guard::guard;
use crate::moment::Moment;
use crate::per_thread::PerThread;
use crate::sync::Arc;
use bell::Bell;
use driver::Driver;
use mailbox::{Letter, Mailbox, MaySleep};
use progress::Useless;
use quota::Quota;
use read_block::ReadBlock;
use registry::{Again, Registry};
use round::Round;
use source::{Ask, Birth, Next, Place, Source, Turn};
use spin::Spin;
use timers::Timers;
use token::{Kind, Token};

/// One poller, on its thread.
struct Poller {
    driver: Driver,
    budget: Budget,
    mailbox: Arc<Mailbox>,
    registry: Registry,
    timers: Timers,
    /// How it waits awake, if it does.
    spin: Option<Spin>,
    read_block: ReadBlock,
    turn: Turn,
    shared: Rc<PerThread>,
    /// Letters that were collected and not carried out yet, the oldest first.
    letters: VecDeque<Letter>,
    /// Sources that want to be called again.
    again: VecDeque<Token>,
    /// What was asked of every source, and so is of each that comes later.
    asked: Option<Ask>,
    /// The sources that are still to be asked.
    round: Option<Round>,
    stopped: bool,
    /// Failures since the last turn that was complete.
    failures: u32,
    /// Sources whose last event was of no use.
    useless: Useless,
    /// Who is told of those.
    listening: Listening,
}

impl Poller {
    fn new(mailbox: Arc<Mailbox>, budget: &Budget) -> io::Result<Self> {
        Ok(Self {
            driver: Driver::epoll(mailbox.bell())?,
            spin: Spin::new(mailbox.busy_poll()),
            budget: budget.clone(),
            mailbox,
            registry: Registry::default(),
            timers: Timers::default(),
            read_block: ReadBlock::new(budget.pool().clone()),
            turn: Turn::within(budget.clone()),
            shared: Rc::default(),
            letters: VecDeque::new(),
            again: VecDeque::new(),
            asked: None,
            round: None,
            stopped: false,
            failures: 0,
            useless: Useless::default(),
            listening: Listening::default(),
        })
    }

    /// Turns until it is stopped, or can wait no more.
    fn run(&mut self) -> io::Result<()> {
        while !self.stopped {
            self.turn_once()?;
            self.failures = 0;
        }
        Ok(())
    }

    /// Whoever owns a connection of this poller learns that it has ended; what is left is dropped.
    fn end_everything(&mut self) {
        self.round = None;
        self.asked = Some(Ask::Force);
        for token in self.registry.tokens() {
            self.call(token, |source, turn| source.asked(Ask::Force, turn));
        }
        for token in self.registry.tokens() {
            if let Some(run) = self.registry.take_out(token) {
                self.remove(run);
            }
        }
    }

    fn turn_once(&mut self) -> io::Result<()> {
        let timeout = self.timeout();
        let count = match &mut self.spin {
            Some(spin) if timeout != Some(Duration::ZERO) => {
                let counters = &self.mailbox.counters().poller;
                spin.wait(timeout, counters, |timeout| self.driver.wait(timeout))?
            }
            _ => self.driver.wait(timeout)?,
        };
        self.work(count);
        Ok(())
    }

    /// What there is to do after a wait that brought `count` events.
    fn work(&mut self, count: usize) {
        self.mailbox.counters().poller.waited(count);
        match self.timers.is_empty() {
            true => self.turn.begin(),
            false => self.turn.begin_timed(),
        }
        for index in 0..count {
            if let Some((token, readiness)) = self.driver.event(index) {
                self.dispatch(token, readiness);
            }
        }
        self.call_queued();
        self.expire();
        self.make_sources();
        if !self.useless.is_empty() {
            self.watch_again();
        }
    }

    /// Makes the sources that others have asked for in their turn.
    fn make_sources(&mut self) {
        let mut quota = Quota::default();
        while !self.turn.births.is_empty() && quota.take() {
            if let Some(birth) = self.turn.births.pop_front() {
                self.register(birth);
            }
        }
    }

    /// Calls sources that had work when this turn began, those first that have waited longest.
    fn call_queued(&mut self) {
        let mut quota = Quota::default();
        for _ in 0..bell::queued() {
            if !quota.take() {
                break;
            }
            if let Some(token) = bell::next_queued() {
                self.call(token, |source, turn| source.woken(turn));
            }
        }
        let mut quota = Quota::default();
        for _ in 0..self.again.len() {
            if !quota.take() {
                return;
            }
            let Some(token) = self.again.pop_front() else {
                return;
            };
            if let Some(entry) = self.registry.get_mut(token) {
                entry.again = Again::No;
            }
            self.call(token, |source, turn| source.again(turn));
        }
    }

    /// Calls a source again in the next turn, behind the others, once.
    fn call_again(&mut self, token: Token) {
        if let Some(entry) = self.registry.get_mut(token)
            && entry.again == Again::No
        {
            entry.again = Again::Queued;
            self.again.push_back(token);
        }
    }

    /// Whether there is work that no event has to announce.
    fn is_busy(&self) -> bool {
        bell::queued() > 0 || !self.again.is_empty() || self.has_leftovers()
    }

    /// Whether a step has left some of its work to this turn.
    fn has_leftovers(&self) -> bool {
        !self.letters.is_empty() || !self.turn.births.is_empty() || self.round.is_some()
    }

    /// Reads the mailbox, and says how long the next wait may be. Whoever has work for the poller
    /// rings for it from here on, if it may be long.
    fn timeout(&mut self) -> Option<Duration> {
        let sleep = match self.is_busy() {
            true => MaySleep::No,
            false => MaySleep::Yes,
        };
        if !self.read_mail(sleep) || self.is_busy() {
            Some(Duration::ZERO)
        } else if self.timers.is_empty() && self.useless.is_empty() {
            None
        } else {
            let timer = self.timers.until_next(Moment::now());
            [timer, self.useless.until_next()]
                .into_iter()
                .flatten()
                .min()
        }
    }

    /// Does what letters ask. Says whether there were none and the poller may sleep.
    #[inline]
    fn read_mail(&mut self, sleep: MaySleep) -> bool {
        let may_sleep = self.letters.is_empty() && self.mailbox.collect(&mut self.letters, sleep);
        if self.has_leftovers() {
            self.do_as_asked();
        }
        may_sleep
    }

    #[inline(never)]
    fn do_as_asked(&mut self) {
        let mut quota = Quota::default();
        while !self.letters.is_empty() && quota.take() {
            let Some(letter) = self.letters.pop_front() else {
                break;
            };
            self.mailbox.counters().poller.letters.add(1);
            match letter {
                Letter::Wake(token) => self.call(token, |source, turn| source.woken(turn)),
                Letter::Register(birth) => self.register(birth),
                Letter::Everyone(ask) => self.ask_everyone(ask),
                Letter::Stop => self.stopped = true,
            }
        }
        self.go_on_asking();
    }

    fn register(&mut self, birth: Birth) {
        let token = self.registry.next_token();
        let bell = Bell::new(Arc::clone(&self.mailbox), token);
        let place = Place {
            bell,
            shared: Rc::clone(&self.shared),
        };
        // Making a source runs no user code, but it holds what users gave (handlers), and a panic
        // here must not end the poller.
        if let Ok(source) = guard(|| birth(place)) {
            let inserted = self.registry.insert(source);
            debug_assert_eq!(inserted, token);
            self.call(token, |source, turn| source.born(turn));
            if let Some(ask) = self.asked {
                self.call(token, |source, turn| source.asked(ask, turn));
            }
        }
    }

    /// Calls the sources whose time was up when the wait was over. One whose time ran out while others
    /// worked has its turn after the next wait: what its peer has sent by now is read before. So has one
    /// that does not fit into this turn.
    fn expire(&mut self) {
        let Some(now) = self.turn.woke() else {
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
            entry.look = None;
            match entry.deadline {
                Some(deadline) if deadline > now.instant() => {
                    entry.look = Some(self.timers.set(token, Moment::of(deadline)));
                }
                Some(_) => {
                    entry.deadline = None;
                    self.call(token, |source, turn| source.expired(turn));
                }
                None => {}
            }
        }
    }

    #[inline]
    fn dispatch(&mut self, token: Token, readiness: Readiness) {
        match token.kind() {
            Some(Kind::Source) => self.source_ready(token, readiness),
            Some(Kind::Mailbox) => {
                self.mailbox.counters().poller.rings.add(1);
                // The letters are read before the next wait, whatever comes of this.
                match self.mailbox.bell().clear() {
                    Ok(()) if self.useless.is_empty() => {}
                    Ok(()) => self.useless.forget(token),
                    Err(_) => self.bell_stays(),
                }
            }
            None => debug_assert!(false, "an event with a token that was never given out"),
        }
    }

    fn source_ready(&mut self, token: Token, readiness: Readiness) {
        let Some(mut run) = self.registry.take_out(token) else {
            return;
        };
        if readiness.is_writable() || readiness.may_have_ended() {
            run.watch.unblock();
        }
        let before = run.watch.interest;
        let watched = before.unwrap_or_default();
        bell::set_running(Some(token));
        self.turn.begin_run();
        let is_to_read = readiness.is_readable() && watched.is_readable();
        let next = if readiness.may_have_ended() || is_to_read {
            self.read_for(&mut run, readiness)
        } else {
            run.source.ready(readiness, &mut self.turn)
        };
        self.conclude(run, next);
        if !self.turn.has_progress() && self.still_wants(token, before) {
            self.no_progress(token, readiness);
        } else if !self.useless.is_empty() {
            self.useless.forget(token);
        }
    }

    /// Whether a source is there that wants to hear of `interest`, no more and no less.
    fn still_wants(&mut self, token: Token, interest: Option<Interest>) -> bool {
        let entry = self.registry.get_mut(token);
        entry.is_some_and(|entry| entry.is_watched_for(interest))
    }

    /// Takes a source out of its slot, lets it do `work`, and sees to what it wants then.
    fn call(&mut self, token: Token, work: impl FnOnce(&mut dyn Source, &mut Turn) -> Next) {
        let Some(mut run) = self.registry.take_out(token) else {
            return;
        };
        bell::set_running(Some(token));
        self.turn.begin_run();
        let next = work(run.source.as_mut(), &mut self.turn);
        self.conclude(run, next);
    }
}
