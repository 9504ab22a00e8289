// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a pool knows of one address: who has, wants or waits for a connection to it, and which
//! connections wait for somebody.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::member::Member;
use super::stats::{ConnPoolStats, Discard};
use crate::addr::Addr;
use crate::permits::Permits;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// Where somebody is who wants a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// He has a permit, and looks for a connection that waits.
    Looks,
    /// In line.
    Waits,
    Dials,
    /// He has one.
    Has,
    /// He has gone.
    Gone,
}

/// One address, with a lock of its own: of those who come and go only the first and the last ask
/// for the place of the address among the others.
pub(super) struct Site {
    pub(super) addr: Addr,
    pub(super) permits: Arc<Permits>,
    state: Mutex<State>,
}

/// What changes at an address.
pub(super) struct State {
    /// The connections that wait, in the order in which they came back.
    idle: VecDeque<Idle>,
    /// Who is at any stage but the last.
    visitors: usize,
    /// The number of the connection that was made last.
    last: u64,
    open: bool,
    counts: ConnPoolStats,
}

/// A connection that waits to be used again.
struct Idle {
    member: Member,
    /// From then on it is not.
    until: Option<Instant>,
}

impl Site {
    pub(super) fn new(addr: Addr, connections: usize) -> Self {
        let state = State {
            idle: VecDeque::new(),
            visitors: 0,
            last: 0,
            open: true,
            counts: ConnPoolStats::default(),
        };
        Self {
            addr,
            permits: Permits::new(connections),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// A number for a connection that was made.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn counts(&mut self) -> &mut ConnPoolStats {
        &mut self.counts
    }

    pub(super) fn snapshot(&self) -> ConnPoolStats {
        ConnPoolStats {
            idle: self.idle.len(),
            ..self.counts
        }
    }

    /// Whether nothing is left to be remembered for.
    pub(super) fn is_unused(&self) -> bool {
        self.visitors == 0 && self.idle.is_empty()
    }

    /// Somebody new comes.
    pub(super) fn enter(&mut self, stage: Stage) {
        self.step(Stage::Gone, stage);
    }

    /// Somebody goes on from one stage to another.
    pub(super) fn step(&mut self, from: Stage, to: Stage) {
        // First there, so that nothing is ever below zero.
        if let Some(count) = self.count_of(to) {
            *count += 1;
        }
        if let Some(count) = self.count_of(from) {
            *count -= 1;
        }
        self.visitors += usize::from(from == Stage::Gone);
        self.visitors -= usize::from(to == Stage::Gone);
    }

    fn count_of(&mut self, stage: Stage) -> Option<&mut usize> {
        match stage {
            Stage::Looks | Stage::Gone => None,
            Stage::Waits => Some(&mut self.counts.waiting),
            Stage::Dials => Some(&mut self.counts.dialing),
            Stage::Has => Some(&mut self.counts.out),
        }
    }

    /// The connection that came back last, and until when it might have been used.
    pub(super) fn pick(&mut self) -> Option<(Member, Option<Instant>)> {
        let idle = self.idle.pop_back()?;
        Some((idle.member, idle.until))
    }

    /// Has `member` wait until somebody wants it. Gives the one that has waited longest, if now
    /// more than `most` wait, and until when this one does.
    pub(super) fn park(
        &mut self,
        member: Member,
        most: usize,
        idle_timeout: Option<Duration>,
    ) -> (Option<Member>, Option<Instant>) {
        let idle_until = idle_timeout.and_then(|time| Instant::now().checked_add(time));
        let until = idle_until.into_iter().chain(member.dies_at).min();
        self.idle.push_back(Idle { member, until });
        if self.idle.len() <= most {
            return (None, until);
        }
        let oldest = self.idle.pop_front().map(|idle| idle.member);
        self.counts.discarded.count(Discard::Surplus);
        (oldest, until.filter(|_| !self.idle.is_empty()))
    }

    /// Takes out the connection `id`, which has ended, if it waits here.
    pub(super) fn take_out(&mut self, id: u64) -> Option<Member> {
        let place = self.idle.iter().position(|idle| idle.member.id() == id)?;
        self.counts.discarded.count(Discard::Dead);
        self.idle.remove(place).map(|idle| idle.member)
    }

    /// Moves those that have waited until `now` in vain to `over`, and says when the next will have.
    pub(super) fn sweep(&mut self, now: Instant, over: &mut Vec<Member>) -> Option<Instant> {
        for _ in 0..self.idle.len() {
            let Some(idle) = self.idle.pop_front() else {
                break;
            };
            if idle.until.is_some_and(|until| until <= now) {
                let too_old = idle.member.dies_at.is_some_and(|at| at <= now);
                let why = if too_old { Discard::Old } else { Discard::Idle };
                self.counts.discarded.count(why);
                over.push(idle.member);
            } else {
                self.idle.push_back(idle);
            }
        }
        self.idle.iter().filter_map(|idle| idle.until).min()
    }

    /// Takes nothing any more, and moves all that wait to `over`.
    pub(super) fn close(&mut self, over: &mut Vec<Member>) {
        self.open = false;
        for idle in self.idle.drain(..) {
            self.counts.discarded.count(Discard::PoolClosed);
            over.push(idle.member);
        }
    }
}
