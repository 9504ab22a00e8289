// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pool of one address: its checkouts and its idle connections.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::entry::PooledEntry;
use super::stats::{ConnPoolStats, DiscardReason};
use crate::addr::Addr;
use crate::semaphore::Semaphore;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// The stage of a checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckoutStage {
    /// It has a permit, and looks for an idle connection.
    Selecting,
    /// It waits for a permit.
    Waiting,
    Dialing,
    /// It has a connection.
    Holding,
    /// It has ended.
    Done,
}

/// The pool of one address, with a lock of its own. Returning a connection takes the lock of all
/// addresses only if the address becomes unused.
pub(super) struct HostPool {
    pub(super) addr: Addr,
    pub(super) semaphore: Arc<Semaphore>,
    state: Mutex<HostState>,
}

/// The mutable state of an address.
pub(super) struct HostState {
    /// The idle connections, in the order in which they were returned.
    idle: VecDeque<IdleEntry>,
    /// The number of checkouts at any stage except [`CheckoutStage::Done`].
    checkouts: usize,
    /// The id of the newest connection.
    last_id: u64,
    open: bool,
    stats: ConnPoolStats,
}

/// An idle connection.
struct IdleEntry {
    entry: PooledEntry,
    /// The time from which on it is not reused.
    expires_at: Option<Instant>,
}

impl HostPool {
    pub(super) fn new(addr: Addr, connections: usize) -> Self {
        let state = HostState {
            idle: VecDeque::new(),
            checkouts: 0,
            last_id: 0,
            open: true,
            stats: ConnPoolStats::default(),
        };
        Self {
            addr,
            semaphore: Semaphore::new(connections),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, HostState> {
        lock(&self.state)
    }
}

impl HostState {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Returns an id for a new connection.
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn stats_mut(&mut self) -> &mut ConnPoolStats {
        &mut self.stats
    }

    pub(super) fn snapshot(&self) -> ConnPoolStats {
        ConnPoolStats {
            idle: self.idle.len(),
            ..self.stats
        }
    }

    /// Returns whether the address has no checkout and no idle connection.
    pub(super) fn is_unused(&self) -> bool {
        self.checkouts == 0 && self.idle.is_empty()
    }

    /// Counts a new checkout.
    pub(super) fn add_checkout(&mut self, stage: CheckoutStage) {
        self.change_stage(CheckoutStage::Done, stage);
    }

    /// Moves a checkout from one stage to another.
    pub(super) fn change_stage(&mut self, from: CheckoutStage, to: CheckoutStage) {
        // The increment comes first, so that no counter drops below zero.
        if let Some(count) = self.stage_count(to) {
            *count += 1;
        }
        if let Some(count) = self.stage_count(from) {
            *count -= 1;
        }
        self.checkouts += usize::from(from == CheckoutStage::Done);
        self.checkouts -= usize::from(to == CheckoutStage::Done);
    }

    fn stage_count(&mut self, stage: CheckoutStage) -> Option<&mut usize> {
        match stage {
            CheckoutStage::Selecting | CheckoutStage::Done => None,
            CheckoutStage::Waiting => Some(&mut self.stats.waiting),
            CheckoutStage::Dialing => Some(&mut self.stats.dialing),
            CheckoutStage::Holding => Some(&mut self.stats.in_use),
        }
    }

    /// Takes the connection that was returned last, with its idle deadline.
    pub(super) fn pop_idle(&mut self) -> Option<(PooledEntry, Option<Instant>)> {
        let idle = self.idle.pop_back()?;
        Some((idle.entry, idle.expires_at))
    }

    /// Adds an idle connection. Returns the one that has been idle for longest, if there are now
    /// more than `max_idle`, and the time at which the added one expires, if it is kept.
    pub(super) fn push_idle(
        &mut self,
        entry: PooledEntry,
        max_idle: usize,
        idle_timeout: Option<Duration>,
    ) -> (Option<PooledEntry>, Option<Instant>) {
        let idle_until = idle_timeout.and_then(|time| Instant::now().checked_add(time));
        let until = idle_until.into_iter().chain(entry.expires_at).min();
        self.idle.push_back(IdleEntry {
            entry,
            expires_at: until,
        });
        if self.idle.len() <= max_idle {
            return (None, until);
        }
        let oldest = self.idle.pop_front().map(|idle| idle.entry);
        self.stats.discarded.count(DiscardReason::Surplus);
        (oldest, until.filter(|_| !self.idle.is_empty()))
    }

    /// Removes the closed connection `id`, if it is idle.
    pub(super) fn remove_closed(&mut self, id: u64) -> Option<PooledEntry> {
        let position = self.idle.iter().position(|idle| idle.entry.id() == id)?;
        self.stats.discarded.count(DiscardReason::Closed);
        self.idle.remove(position).map(|idle| idle.entry)
    }

    /// Moves the expired connections to `removed`. Returns the time at which the next one expires.
    pub(super) fn remove_expired(
        &mut self,
        now: Instant,
        removed: &mut Vec<PooledEntry>,
    ) -> Option<Instant> {
        for _ in 0..self.idle.len() {
            let Some(idle) = self.idle.pop_front() else {
                break;
            };
            if idle.expires_at.is_some_and(|until| until <= now) {
                let too_old = idle.entry.expires_at.is_some_and(|at| at <= now);
                let reason = if too_old {
                    DiscardReason::Expired
                } else {
                    DiscardReason::Idle
                };
                self.stats.discarded.count(reason);
                removed.push(idle.entry);
            } else {
                self.idle.push_back(idle);
            }
        }
        self.idle.iter().filter_map(|idle| idle.expires_at).min()
    }

    /// Closes the address, and moves all idle connections to `removed`.
    pub(super) fn close(&mut self, removed: &mut Vec<PooledEntry>) {
        self.open = false;
        for idle in self.idle.drain(..) {
            self.stats.discarded.count(DiscardReason::PoolClosed);
            removed.push(idle.entry);
        }
    }
}
