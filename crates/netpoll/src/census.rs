// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many connections of an event loop are alive, for whoever waits until none is.

use std::task::Waker;
use std::time::Instant;

use crate::sync::{Arc, Condvar, Mutex, lock};

/// The count of one event loop.
#[derive(Debug, Default)]
pub(crate) struct Census {
    tally: Mutex<Tally>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Tally {
    alive: usize,
    /// Listeners that may still bring connections.
    doors: usize,
    /// Connections that had to be cut.
    cut: usize,
    /// Nobody will come any more.
    over: bool,
    waiting: Vec<Waker>,
}

/// One connection that is counted; no more when dropped.
#[derive(Debug)]
pub(crate) struct Presence {
    census: Arc<Census>,
}

impl Presence {
    /// Counts one more.
    pub(crate) fn new(census: &Arc<Census>) -> Self {
        lock(&census.tally).alive += 1;
        Self {
            census: Arc::clone(census),
        }
    }

    /// Counts this one among those that were cut.
    pub(crate) fn cut(&self) {
        lock(&self.census.tally).cut += 1;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.census.less(|tally| tally.alive -= 1);
    }
}

/// A listener that may still bring connections; no more when dropped.
#[derive(Debug)]
pub(crate) struct Door {
    census: Arc<Census>,
}

impl Door {
    /// Opens one more.
    pub(crate) fn new(census: &Arc<Census>) -> Self {
        lock(&census.tally).doors += 1;
        Self {
            census: Arc::clone(census),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.census.less(|tally| tally.doors -= 1);
    }
}

impl Tally {
    /// Nobody is here, and nobody can come.
    fn is_none(&self) -> bool {
        self.alive == 0 && self.doors == 0
    }
}

impl Census {
    /// Counts down, and tells who waits for none.
    fn less(&self, count: impl FnOnce(&mut Tally)) {
        let mut tally = lock(&self.tally);
        count(&mut tally);
        if tally.is_none() {
            drop(tally);
            self.changed.notify_all();
        }
    }

    /// How many are alive.
    pub(crate) fn alive(&self) -> usize {
        lock(&self.tally).alive
    }

    /// Waits until none is alive and none can come, or `deadline` is here; says whether none is.
    pub(crate) fn wait_for_none(&self, deadline: Instant) -> bool {
        let mut tally = lock(&self.tally);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if tally.is_none() || left.is_zero() {
                return tally.is_none();
            }
            let waited = self.changed.wait_timeout(tally, left);
            tally = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// Says that nobody will come any more, and wakes who waits for that.
    pub(crate) fn conclude(&self) {
        let mut tally = lock(&self.tally);
        tally.over = true;
        let waiting = std::mem::take(&mut tally.waiting);
        drop(tally);
        self.changed.notify_all();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// How many were cut, once it is over; else `waker` is woken then.
    pub(crate) fn cut_when_over(&self, waker: &Waker) -> Option<usize> {
        let mut tally = lock(&self.tally);
        if tally.over {
            return Some(tally.cut);
        }
        if !tally.waiting.iter().any(|known| known.will_wake(waker)) {
            tally.waiting.push(waker.clone());
        }
        None
    }

    /// Waits until it is over, and says how many were cut.
    pub(crate) fn wait_until_over(&self) -> usize {
        let mut tally = lock(&self.tally);
        while !tally.over {
            tally = self
                .changed
                .wait(tally)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        tally.cut
    }
}
