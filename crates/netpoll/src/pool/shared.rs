// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all clones of a pool share, under one lock that is held for a few instructions: no
//! connection is asked, dialed or dropped and nobody is woken under it.
//!
//! What waits in vain is swept out by one alarm for the whole pool. It is set when there is
//! something to wait for, and then once in a while as long as there is. If the poller that has it
//! ends, the next connection that comes back sets another.

use std::collections::HashMap;
use std::io;
use std::sync::Weak;
use std::task::{Wake, Waker};
use std::time::Instant;

use super::member::Member;
use super::options::ConnPoolOptions;
use super::refusal::{PoolClosed, PoolFull};
use super::site::{Site, Stage};
use super::stats::{ConnPoolStats, Discard};
use super::visit::Visit;
use crate::addr::Addr;
use crate::poll::alarm::{Alarm, Rang};
use crate::sync::{Arc, Mutex, lock};

/// A pool, as its clones and the connections that are out know it.
pub(super) struct Shared {
    pub(super) options: ConnPoolOptions,
    state: Mutex<State>,
    /// Taken before the state, never after it.
    alarm: Mutex<Option<Alarm>>,
}

struct State {
    sites: HashMap<Addr, Site>,
    /// What addresses have counted that are forgotten.
    past: ConnPoolStats,
    /// When the alarm rings.
    due: Option<Instant>,
    /// The number of the connection that was made last.
    last: u64,
    open: bool,
}

/// What somebody finds who has a permit.
pub(super) enum Found {
    /// A connection that waited, and until when it might.
    Idle(Member, Option<Instant>),
    /// None: he is to make one.
    Nothing,
}

impl Shared {
    pub(super) fn new(options: ConnPoolOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            state: Mutex::new(State {
                sites: HashMap::new(),
                past: ConnPoolStats::default(),
                due: None,
                last: 0,
                open: true,
            }),
            alarm: Mutex::new(None),
        })
    }

    /// Somebody wants a connection to `addr`: he has a permit, or waits for one, or is refused.
    pub(super) fn enter(self: &Arc<Self>, addr: Addr) -> io::Result<Visit> {
        let mut state = lock(&self.state);
        if !state.open {
            return Err(PoolClosed.into());
        }
        let connections = self.options.max_connections;
        let sites = &mut state.sites;
        let site = sites.entry(addr).or_insert_with(|| Site::new(connections));
        let permit = site.permits.try_acquire();
        let stage = if permit.is_some() {
            Stage::Looks
        } else {
            let waiting = site.counts().waiting;
            if waiting >= self.options.max_waiting {
                site.counts().refused += 1;
                let full = PoolFull {
                    connections,
                    waiting,
                };
                return Err(full.into());
            }
            Stage::Waits
        };
        site.enter(stage);
        let permits = Arc::clone(&site.permits);
        drop(state);
        Ok(Visit::new(self, addr, permits, (stage, permit)))
    }

    /// Somebody at `addr` goes on from one stage to another, and counts what he says.
    pub(super) fn step(
        &self,
        addr: Addr,
        (from, to): (Stage, Stage),
        count: impl FnOnce(&mut ConnPoolStats),
    ) {
        let mut state = lock(&self.state);
        if let Some(site) = state.sites.get_mut(&addr) {
            count(site.counts());
            site.step(from, to);
        }
        state.forget_if_unused(addr);
    }

    /// Looks for a connection that waits, for somebody who has a permit.
    pub(super) fn pick(&self, addr: Addr, stage: &mut Stage) -> Result<Found, PoolClosed> {
        let mut state = lock(&self.state);
        if !state.open {
            return Err(PoolClosed);
        }
        let Some(site) = state.sites.get_mut(&addr) else {
            return Ok(Found::Nothing);
        };
        let picked = site.pick();
        let next = if picked.is_some() {
            Stage::Has
        } else {
            Stage::Dials
        };
        site.step(std::mem::replace(stage, next), next);
        Ok(picked.map_or(Found::Nothing, |(member, until)| Found::Idle(member, until)))
    }

    /// A number for a connection that was made, unless nobody wants it any more.
    pub(super) fn number(&self) -> Result<u64, PoolClosed> {
        let mut state = lock(&self.state);
        state.last += 1;
        if state.open {
            Ok(state.last)
        } else {
            Err(PoolClosed)
        }
    }

    /// A connection comes back whose user goes: to wait, or to be closed for the reason given.
    pub(super) fn give_back(
        self: &Arc<Self>,
        addr: Addr,
        member: Member,
        fitness: Result<(), Discard>,
    ) {
        let mut state = lock(&self.state);
        let fitness = fitness.and(if !state.open {
            Err(Discard::PoolClosed)
        } else if member.has_ended() {
            Err(Discard::Dead)
        } else {
            Ok(())
        });
        let State { sites, due, .. } = &mut *state;
        let Some(site) = sites.get_mut(&addr) else {
            return;
        };
        let mut sooner = false;
        let leaves = match fitness {
            Ok(()) => {
                let most = self.options.max_idle;
                let (oldest, until) = site.park(member, most, self.options.idle_timeout);
                sooner = until.is_some_and(|until| due.is_none_or(|due| until < due));
                *due = if sooner { until } else { *due };
                oldest
            }
            Err(why) => {
                site.counts().discarded.count(why);
                Some(member)
            }
        };
        site.step(Stage::Has, Stage::Gone);
        state.forget_if_unused(addr);
        drop(state);
        drop(leaves);
        if sooner {
            self.arm();
        }
    }

    /// The connection `id` to `addr` has ended.
    pub(super) fn take_out(&self, addr: Addr, id: u64) {
        let mut state = lock(&self.state);
        let site = state.sites.get_mut(&addr);
        let dead = site.and_then(|site| site.take_out(id));
        state.forget_if_unused(addr);
        drop(state);
        drop(dead);
    }

    /// Ends it for all.
    pub(super) fn close(&self) {
        let mut over = Vec::new();
        let mut state = lock(&self.state);
        state.open = false;
        let mut lines = Vec::new();
        for site in state.sites.values_mut() {
            site.clear(&mut over);
            lines.push(Arc::clone(&site.permits));
        }
        state.forget_unused();
        drop(state);
        drop(over);
        lines.iter().for_each(|line| line.lift());
    }

    /// Closes what has waited in vain, and sets the alarm for the next.
    fn sweep(self: &Arc<Self>) {
        let now = Instant::now();
        let mut over = Vec::new();
        let mut state = lock(&self.state);
        let each = state.sites.values_mut();
        let next = each.filter_map(|site| site.sweep(now, &mut over)).min();
        let earliest = now.checked_add(self.options.patience());
        state.due = next.max(next.and(earliest));
        state.forget_unused();
        drop(state);
        drop(over);
        self.arm();
    }

    /// Sets the alarm.
    fn arm(self: &Arc<Self>) {
        let mut alarm = lock(&self.alarm);
        let due = lock(&self.state).due;
        let Some(due) = due else { return };
        if alarm.as_ref().is_none_or(|one| one.rang() == Rang::Lost) {
            *alarm = Alarm::new().ok();
        }
        let waker = Waker::from(Arc::new(Sweeper(Arc::downgrade(self))));
        let is_set = alarm.as_ref().is_some_and(|alarm| {
            alarm.set(due, &waker);
            alarm.rang() != Rang::Lost
        });
        if !is_set {
            lock(&self.state).due = None;
        }
    }

    /// The alarm has rung, or its poller has ended. Then its thread is no place for another.
    fn rung(self: &Arc<Self>) {
        let lost = lock(&self.alarm)
            .as_ref()
            .is_none_or(|alarm| alarm.rang() == Rang::Lost);
        if lost {
            lock(&self.state).due = None;
        } else {
            self.sweep();
        }
    }

    pub(super) fn stats(&self, addr: Addr) -> ConnPoolStats {
        let state = lock(&self.state);
        let site = state.sites.get(&addr);
        site.map_or_else(ConnPoolStats::default, Site::snapshot)
    }

    pub(super) fn stats_all(&self) -> ConnPoolStats {
        let state = lock(&self.state);
        let mut all = state.past;
        state
            .sites
            .values()
            .for_each(|site| all.add(&site.snapshot()));
        all
    }

    /// How many addresses are remembered.
    pub(super) fn addresses(&self) -> usize {
        lock(&self.state).sites.len()
    }
}

impl State {
    fn forget_if_unused(&mut self, addr: Addr) {
        if self.sites.get(&addr).is_some_and(Site::is_unused)
            && let Some(site) = self.sites.remove(&addr)
        {
            self.past.add(&site.snapshot());
        }
    }

    fn forget_unused(&mut self) {
        let Self { sites, past, .. } = self;
        sites.retain(|_, site| {
            let unused = site.is_unused();
            if unused {
                past.add(&site.snapshot());
            }
            !unused
        });
    }
}

/// Hears the alarm.
struct Sweeper(Weak<Shared>);

impl Wake for Sweeper {
    fn wake(self: Arc<Self>) {
        if let Some(pool) = self.0.upgrade() {
            pool.rung();
        }
    }
}
