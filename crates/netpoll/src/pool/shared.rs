// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shared state of a pool: the addresses, each with a lock of its own, and the sweep timer.
//! Locks are held for a few instructions: no connection is queried, dialed or dropped and no waker
//! is called under a lock. They are taken in the order of the fields, and the lock of an address
//! last.
//!
//! Expired idle connections are closed by a sweep, with one timer for the whole pool. The timer is
//! armed when a connection becomes idle with a deadline, and after each sweep while there are more
//! such. If the timer's poller ends, the next connection that becomes idle arms a new timer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::Weak;
use std::task::{Wake, Waker};
use std::time::Instant;

use super::checkout::Checkout;
use super::entry::PooledEntry;
use super::host::{CheckoutStage, HostPool};
use super::options::ConnPoolOptions;
use super::stats::{ConnPoolStats, DiscardReason};
use crate::addr::Addr;
use crate::error::ErrorKind;
use crate::foreign::register;
use crate::poll::poller_timer::{PollerTimer, TimerStatus};
use crate::sync::{Arc, Mutex, lock};

/// A pool, as its clones and its connections in use share it.
pub(super) struct PoolShared {
    pub(super) options: ConnPoolOptions,
    timer: Mutex<Option<PollerTimer>>,
    /// The time that the timer is armed for.
    next_sweep: Mutex<Option<Instant>>,
    hosts: Mutex<HostPools>,
}

/// The addresses with connections or callers.
struct HostPools {
    by_addr: HashMap<Addr, Arc<HostPool>>,
    /// The sum of the statistics of removed addresses.
    removed_stats: ConnPoolStats,
    open: bool,
}

impl PoolShared {
    pub(super) fn new(options: ConnPoolOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            timer: Mutex::new(None),
            next_sweep: Mutex::new(None),
            hosts: Mutex::new(HostPools {
                by_addr: HashMap::new(),
                removed_stats: ConnPoolStats::default(),
                open: true,
            }),
        })
    }

    /// Starts a checkout for `addr`, with a permit if one is free. Otherwise the checkout waits, or
    /// is rejected with [`ErrorKind::PoolFull`].
    pub(super) fn start_checkout(self: &Arc<Self>, addr: Addr) -> io::Result<Checkout> {
        let mut hosts = lock(&self.hosts);
        if !hosts.open {
            return Err(ErrorKind::PoolClosed.into());
        }
        let connections = self.options.max_connections;
        let make = || Arc::new(HostPool::new(addr, connections));
        let host = hosts.by_addr.entry(addr).or_insert_with(make);
        let permit = host.semaphore.try_acquire();
        let mut state = host.state();
        let stage = if permit.is_some() {
            CheckoutStage::Selecting
        } else {
            let waiting = state.stats_mut().waiting;
            if waiting >= self.options.max_waiting {
                state.stats_mut().rejected += 1;
                let full = ErrorKind::PoolFull {
                    connections,
                    waiting,
                };
                return Err(full.into());
            }
            CheckoutStage::Waiting
        };
        state.add_checkout(stage);
        drop(state);
        let host = Arc::clone(host);
        drop(hosts);
        Ok(Checkout::new(self, host, stage, permit))
    }

    /// Moves a checkout from one stage to another, and updates the counters with `count`.
    pub(super) fn change_stage(
        &self,
        host: &HostPool,
        (from, to): (CheckoutStage, CheckoutStage),
        count: impl FnOnce(&mut ConnPoolStats),
    ) {
        let mut state = host.state();
        count(state.stats_mut());
        state.change_stage(from, to);
        let unused = state.is_unused();
        drop(state);
        if unused {
            self.remove_if_unused(host.addr);
        }
    }

    /// Takes back a connection at the end of its checkout: keeps it idle, or closes it for the
    /// reason in `fitness`.
    pub(super) fn check_in(
        self: &Arc<Self>,
        host: &HostPool,
        entry: PooledEntry,
        fitness: Result<(), DiscardReason>,
    ) {
        let mut state = host.state();
        let reusable = fitness.and(if !state.is_open() {
            Err(DiscardReason::PoolClosed)
        } else if entry.is_closed() {
            Err(DiscardReason::Closed)
        } else {
            Ok(())
        });
        let (evicted, until) = match reusable {
            Ok(()) => state.push_idle(entry, self.options.max_idle, self.options.idle_timeout),
            Err(reason) => {
                state.stats_mut().discarded.count(reason);
                (Some(entry), None)
            }
        };
        state.change_stage(CheckoutStage::Holding, CheckoutStage::Done);
        let unused = state.is_unused();
        drop(state);
        drop(evicted);
        if unused {
            self.remove_if_unused(host.addr);
        }
        if let Some(until) = until {
            self.schedule_sweep(until);
        }
    }

    /// Removes the connection `id` of `host`, which has closed.
    pub(super) fn remove_closed(&self, host: &HostPool, id: u64) {
        let mut state = host.state();
        let closed = state.remove_closed(id);
        let unused = state.is_unused();
        drop(state);
        drop(closed);
        if unused {
            self.remove_if_unused(host.addr);
        }
    }

    /// Removes an address, if it is still unused.
    #[cold]
    fn remove_if_unused(&self, addr: Addr) {
        let mut hosts = lock(&self.hosts);
        // New checkouts are counted under this lock.
        if let Entry::Occupied(occupied) = hosts.by_addr.entry(addr)
            && occupied.get().state().is_unused()
        {
            let host = occupied.remove();
            hosts.removed_stats.add(&host.state().snapshot());
        }
    }

    /// Closes the pool.
    pub(super) fn close(&self) {
        let mut removed = Vec::new();
        let mut hosts = lock(&self.hosts);
        hosts.open = false;
        let mut semaphores = Vec::new();
        for host in hosts.by_addr.values() {
            host.state().close(&mut removed);
            semaphores.push(Arc::clone(&host.semaphore));
        }
        hosts.remove_unused();
        drop(hosts);
        drop(removed);
        semaphores
            .iter()
            .for_each(|semaphore| semaphore.remove_limit());
    }

    /// Arms the timer for `until`, unless it is armed for an earlier time.
    fn schedule_sweep(self: &Arc<Self>, until: Instant) {
        let mut due = lock(&self.next_sweep);
        let sooner = due.is_none_or(|due| until < due);
        if sooner {
            *due = Some(until);
        }
        drop(due);
        if sooner {
            self.arm();
        }
    }

    /// Closes the expired connections, and arms the timer for the next sweep.
    fn sweep(self: &Arc<Self>) {
        let now = Instant::now();
        let mut removed = Vec::new();
        // Held to the end, so that a connection returned to an address that was swept already arms
        // the timer after this sweep.
        let mut due = lock(&self.next_sweep);
        let mut hosts = lock(&self.hosts);
        let each = hosts.by_addr.values();
        let next = each.filter_map(|host| host.state().remove_expired(now, &mut removed));
        let next = next.min();
        hosts.remove_unused();
        drop(hosts);
        *due = next.max(next.and(now.checked_add(self.options.sweep_interval())));
        drop(due);
        drop(removed);
        self.arm();
    }

    /// Arms the timer for `next_sweep`.
    fn arm(self: &Arc<Self>) {
        let waker = Waker::from(Arc::new(Sweeper(Arc::downgrade(self))));
        let mut lost = Vec::new();
        register(&waker, |caller_waker| {
            let mut timer = lock(&self.timer);
            let Some(due) = *lock(&self.next_sweep) else {
                return Ok(());
            };
            if timer
                .as_ref()
                .is_none_or(|one| one.status() == TimerStatus::PollerEnded)
            {
                lost.extend(std::mem::replace(&mut *timer, PollerTimer::new().ok()));
            }
            let is_set = match &*timer {
                Some(timer) => {
                    timer.try_set(due, caller_waker)?;
                    timer.status() != TimerStatus::PollerEnded
                }
                None => false,
            };
            if !is_set {
                *lock(&self.next_sweep) = None;
            }
            Ok(())
        });
    }

    /// Handles the timer: sweeps, or, if the timer's poller has ended, forgets the timer. It must
    /// not create another one here, on the thread of the ended poller.
    fn on_timer(self: &Arc<Self>) {
        let lost = lock(&self.timer)
            .as_ref()
            .is_none_or(|timer| timer.status() == TimerStatus::PollerEnded);
        if lost {
            *lock(&self.next_sweep) = None;
        } else {
            self.sweep();
        }
    }

    pub(super) fn stats(&self, addr: Addr) -> ConnPoolStats {
        let hosts = lock(&self.hosts);
        let host = hosts.by_addr.get(&addr);
        host.map_or_else(ConnPoolStats::default, |host| host.state().snapshot())
    }

    pub(super) fn stats_all(&self) -> ConnPoolStats {
        let hosts = lock(&self.hosts);
        let mut all = hosts.removed_stats;
        let each = hosts.by_addr.values();
        each.for_each(|host| all.add(&host.state().snapshot()));
        all
    }

    /// Returns the number of addresses with connections or callers.
    pub(super) fn addresses(&self) -> usize {
        lock(&self.hosts).by_addr.len()
    }
}

impl HostPools {
    fn remove_unused(&mut self) {
        let Self {
            by_addr,
            removed_stats,
            ..
        } = self;
        by_addr.retain(|_, host| {
            let state = host.state();
            let unused = state.is_unused();
            if unused {
                removed_stats.add(&state.snapshot());
            }
            !unused
        });
    }
}

/// The waker of the timer.
struct Sweeper(Weak<PoolShared>);

impl Wake for Sweeper {
    fn wake(self: Arc<Self>) {
        if let Some(pool) = self.0.upgrade() {
            pool.on_timer();
        }
    }
}
