// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a pool knows of one address: who has, wants or waits for a connection to it, and which
//! connections wait for somebody.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::entry::PooledEntry;
use super::stats::{ConnPoolStats, DiscardReason};
use crate::addr::Addr;
use crate::semaphore::Semaphore;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// Where somebody is who wants a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckoutStage {
    /// He has a permit, and looks for a connection that waits.
    Selecting,
    /// In line.
    Waiting,
    Dialing,
    /// He has one.
    Holding,
    /// He has gone.
    Done,
}

/// One address, with a lock of its own: of those who come and go only the first and the last ask
/// for the place of the address among the others.
pub(super) struct HostPool {
    pub(super) addr: Addr,
    pub(super) semaphore: Arc<Semaphore>,
    state: Mutex<HostState>,
}

/// What changes at an address.
pub(super) struct HostState {
    /// The connections that wait, in the order in which they came back.
    idle: VecDeque<IdleEntry>,
    /// Who is at any stage but the last.
    checkouts: usize,
    /// The number of the connection that was made last.
    last_id: u64,
    open: bool,
    stats: ConnPoolStats,
}

/// A connection that waits to be used again.
struct IdleEntry {
    entry: PooledEntry,
    /// From then on it is not.
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

    /// A number for a connection that was made.
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

    /// Whether nothing is left to be remembered for.
    pub(super) fn is_unused(&self) -> bool {
        self.checkouts == 0 && self.idle.is_empty()
    }

    /// Somebody new comes.
    pub(super) fn add_checkout(&mut self, stage: CheckoutStage) {
        self.change_stage(CheckoutStage::Done, stage);
    }

    /// Somebody goes on from one stage to another.
    pub(super) fn change_stage(&mut self, from: CheckoutStage, to: CheckoutStage) {
        // First there, so that nothing is ever below zero.
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

    /// The connection that came back last, and until when it might have been used.
    pub(super) fn pop_idle(&mut self) -> Option<(PooledEntry, Option<Instant>)> {
        let idle = self.idle.pop_back()?;
        Some((idle.entry, idle.expires_at))
    }

    /// Has `member` wait until somebody wants it. Gives the one that has waited longest, if now
    /// more than `most` wait, and until when this one does.
    pub(super) fn push_idle(
        &mut self,
        entry: PooledEntry,
        most: usize,
        idle_timeout: Option<Duration>,
    ) -> (Option<PooledEntry>, Option<Instant>) {
        let idle_until = idle_timeout.and_then(|time| Instant::now().checked_add(time));
        let until = idle_until.into_iter().chain(entry.expires_at).min();
        self.idle.push_back(IdleEntry {
            entry,
            expires_at: until,
        });
        if self.idle.len() <= most {
            return (None, until);
        }
        let oldest = self.idle.pop_front().map(|idle| idle.entry);
        self.stats.discarded.count(DiscardReason::Surplus);
        (oldest, until.filter(|_| !self.idle.is_empty()))
    }

    /// Takes out the connection `id`, which has ended, if it waits here.
    pub(super) fn remove_closed(&mut self, id: u64) -> Option<PooledEntry> {
        let position = self.idle.iter().position(|idle| idle.entry.id() == id)?;
        self.stats.discarded.count(DiscardReason::Closed);
        self.idle.remove(position).map(|idle| idle.entry)
    }

    /// Moves those that have waited until `now` in vain to `over`, and says when the next will have.
    pub(super) fn remove_expired(
        &mut self,
        now: Instant,
        over: &mut Vec<PooledEntry>,
    ) -> Option<Instant> {
        for _ in 0..self.idle.len() {
            let Some(idle) = self.idle.pop_front() else {
                break;
            };
            if idle.expires_at.is_some_and(|until| until <= now) {
                let too_old = idle.entry.expires_at.is_some_and(|at| at <= now);
                let why = if too_old {
                    DiscardReason::Expired
                } else {
                    DiscardReason::Idle
                };
                self.stats.discarded.count(why);
                over.push(idle.entry);
            } else {
                self.idle.push_back(idle);
            }
        }
        self.idle.iter().filter_map(|idle| idle.expires_at).min()
    }

    /// Takes nothing any more, and moves all that wait to `over`.
    pub(super) fn close(&mut self, over: &mut Vec<PooledEntry>) {
        self.open = false;
        for idle in self.idle.drain(..) {
            self.stats.discarded.count(DiscardReason::PoolClosed);
            over.push(idle.entry);
        }
    }
}
