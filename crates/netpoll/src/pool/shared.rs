// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all clones of a pool share: the addresses, each with what it has under a lock of its own, and
//! the alarm. Locks are held for a few instructions: no connection is asked, dialed or dropped and
//! nobody is woken under one. They are taken in the order in which they stand here.
//!
//! What waits in vain is swept out by one alarm for the whole pool. It is set when there is
//! something to wait for, and then once in a while as long as there is. If the poller that has it
//! ends, the next connection that comes back sets another.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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
use crate::foreign::register;
use crate::poll::alarm::{Alarm, Rang};
use crate::sync::{Arc, Mutex, lock};

/// A pool, as its clones and the connections that are out know it.
pub(super) struct Shared {
    pub(super) options: ConnPoolOptions,
    alarm: Mutex<Option<Alarm>>,
    /// When the alarm rings.
    due: Mutex<Option<Instant>>,
    sites: Mutex<Sites>,
}

/// The addresses that are known.
struct Sites {
    known: HashMap<Addr, Arc<Site>>,
    /// What addresses have counted that are forgotten.
    past: ConnPoolStats,
    open: bool,
}

impl Shared {
    pub(super) fn new(options: ConnPoolOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            alarm: Mutex::new(None),
            due: Mutex::new(None),
            sites: Mutex::new(Sites {
                known: HashMap::new(),
                past: ConnPoolStats::default(),
                open: true,
            }),
        })
    }

    /// Somebody wants a connection to `addr`: he has a permit, or waits for one, or is refused.
    pub(super) fn enter(self: &Arc<Self>, addr: Addr) -> io::Result<Visit> {
        let mut sites = lock(&self.sites);
        if !sites.open {
            return Err(PoolClosed.into());
        }
        let connections = self.options.max_connections;
        let make = || Arc::new(Site::new(addr, connections));
        let site = sites.known.entry(addr).or_insert_with(make);
        let permit = site.permits.try_acquire();
        let mut state = site.state();
        let stage = if permit.is_some() {
            Stage::Looks
        } else {
            let waiting = state.counts().waiting;
            if waiting >= self.options.max_waiting {
                state.counts().refused += 1;
                let full = PoolFull {
                    connections,
                    waiting,
                };
                return Err(full.into());
            }
            Stage::Waits
        };
        state.enter(stage);
        drop(state);
        let site = Arc::clone(site);
        drop(sites);
        Ok(Visit::new(self, site, stage, permit))
    }

    /// Somebody goes on from one stage to another, and counts what he says.
    pub(super) fn step(
        &self,
        site: &Site,
        (from, to): (Stage, Stage),
        count: impl FnOnce(&mut ConnPoolStats),
    ) {
        let mut state = site.state();
        count(state.counts());
        state.step(from, to);
        let unused = state.is_unused();
        drop(state);
        if unused {
            self.forget(site.addr);
        }
    }

    /// A connection comes back whose user goes: to wait, or to be closed for the reason given.
    pub(super) fn give_back(
        self: &Arc<Self>,
        site: &Site,
        member: Member,
        fitness: Result<(), Discard>,
    ) {
        let mut state = site.state();
        let fitness = fitness.and(if !state.is_open() {
            Err(Discard::PoolClosed)
        } else if member.has_ended() {
            Err(Discard::Dead)
        } else {
            Ok(())
        });
        let (leaves, until) = match fitness {
            Ok(()) => state.park(member, self.options.max_idle, self.options.idle_timeout),
            Err(why) => {
                state.counts().discarded.count(why);
                (Some(member), None)
            }
        };
        state.step(Stage::Has, Stage::Gone);
        let unused = state.is_unused();
        drop(state);
        drop(leaves);
        if unused {
            self.forget(site.addr);
        }
        if let Some(until) = until {
            self.sweep_by(until);
        }
    }

    /// The connection `id` of `site` has ended.
    pub(super) fn take_out(&self, site: &Site, id: u64) {
        let mut state = site.state();
        let dead = state.take_out(id);
        let unused = state.is_unused();
        drop(state);
        drop(dead);
        if unused {
            self.forget(site.addr);
        }
    }

    /// Forgets an address that is of no use, if that is so still.
    #[cold]
    fn forget(&self, addr: Addr) {
        let mut sites = lock(&self.sites);
        // Whoever comes is counted under this lock.
        if let Entry::Occupied(known) = sites.known.entry(addr)
            && known.get().state().is_unused()
        {
            let site = known.remove();
            sites.past.add(&site.state().snapshot());
        }
    }

    /// Ends it for all.
    pub(super) fn close(&self) {
        let mut over = Vec::new();
        let mut sites = lock(&self.sites);
        sites.open = false;
        let mut lines = Vec::new();
        for site in sites.known.values() {
            site.state().close(&mut over);
            lines.push(Arc::clone(&site.permits));
        }
        sites.forget_unused();
        drop(sites);
        drop(over);
        lines.iter().for_each(|line| line.lift());
    }

    /// Has the alarm ring by `until`.
    fn sweep_by(self: &Arc<Self>, until: Instant) {
        let mut due = lock(&self.due);
        let sooner = due.is_none_or(|due| until < due);
        if sooner {
            *due = Some(until);
        }
        drop(due);
        if sooner {
            self.arm();
        }
    }

    /// Closes what has waited in vain, and sets the alarm for the next.
    fn sweep(self: &Arc<Self>) {
        let now = Instant::now();
        let mut over = Vec::new();
        // Held to the end: what comes back to an address that was swept already is looked at then.
        let mut due = lock(&self.due);
        let mut sites = lock(&self.sites);
        let each = sites.known.values();
        let next = each.filter_map(|site| site.state().sweep(now, &mut over));
        let next = next.min();
        sites.forget_unused();
        drop(sites);
        *due = next.max(next.and(now.checked_add(self.options.patience())));
        drop(due);
        drop(over);
        self.arm();
    }

    /// Sets the alarm.
    fn arm(self: &Arc<Self>) {
        let waker = Waker::from(Arc::new(Sweeper(Arc::downgrade(self))));
        let mut lost = Vec::new();
        register(&waker, |offer| {
            let mut alarm = lock(&self.alarm);
            let Some(due) = *lock(&self.due) else {
                return Ok(());
            };
            if alarm.as_ref().is_none_or(|one| one.rang() == Rang::Lost) {
                lost.extend(std::mem::replace(&mut *alarm, Alarm::new().ok()));
            }
            let is_set = match &*alarm {
                Some(alarm) => {
                    alarm.try_set(due, offer)?;
                    alarm.rang() != Rang::Lost
                }
                None => false,
            };
            if !is_set {
                *lock(&self.due) = None;
            }
            Ok(())
        });
    }

    /// The alarm has rung, or its poller has ended. Then its thread is no place for another.
    fn rung(self: &Arc<Self>) {
        let lost = lock(&self.alarm)
            .as_ref()
            .is_none_or(|alarm| alarm.rang() == Rang::Lost);
        if lost {
            *lock(&self.due) = None;
        } else {
            self.sweep();
        }
    }

    pub(super) fn stats(&self, addr: Addr) -> ConnPoolStats {
        let sites = lock(&self.sites);
        let site = sites.known.get(&addr);
        site.map_or_else(ConnPoolStats::default, |site| site.state().snapshot())
    }

    pub(super) fn stats_all(&self) -> ConnPoolStats {
        let sites = lock(&self.sites);
        let mut all = sites.past;
        let each = sites.known.values();
        each.for_each(|site| all.add(&site.state().snapshot()));
        all
    }

    /// How many addresses are remembered.
    pub(super) fn addresses(&self) -> usize {
        lock(&self.sites).known.len()
    }
}

impl Sites {
    fn forget_unused(&mut self) {
        let Self { known, past, .. } = self;
        known.retain(|_, site| {
            let state = site.state();
            let unused = state.is_unused();
            if unused {
                past.add(&state.snapshot());
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
