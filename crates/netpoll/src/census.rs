// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many connections of an event loop are alive, for whoever waits until none is.

use std::task::Waker;
use std::time::Instant;

use crate::foreign::{WakerSlots, register};
use crate::poll::bell::Caller;
use crate::sync::{Arc, Condvar, Mutex, lock, wait, wait_timeout};

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
    /// Handlers that wait for the end themselves: nobody waits for them.
    excused: Vec<Caller>,
    stage: Stage,
    /// Who waits for a stage. Whoever was woken keeps his place until he leaves it.
    waiting: WakerSlots,
}

/// How near the end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Open,
    /// Nobody is here but those who are excused.
    AllButExcused,
    /// Nobody will come any more.
    Over,
}

/// For whom the end is asked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    Excused,
    Outsider,
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
        self.census.add_cut(1);
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
    /// Nobody is here but those who wait for that, and nobody can come.
    fn is_none(&self) -> bool {
        self.alive <= self.excused.len() && self.doors == 0
    }

    fn is_over_for(&self, asker: Asker) -> bool {
        self.stage
            >= match asker {
                Asker::Excused => Stage::AllButExcused,
                Asker::Outsider => Stage::Over,
            }
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

    /// Whether nobody is here, and nobody can come.
    #[cfg(all(test, netpoll_shuttle))]
    pub(crate) fn is_none(&self) -> bool {
        lock(&self.tally).is_none()
    }

    /// A handler waits for the end: nobody waits for it until it is
    /// [excused no more](Self::excuse_no_more).
    pub(crate) fn excuse(&self, caller: Caller) {
        self.less(|tally| tally.excused.push(caller));
    }

    /// A handler waits for the end no more.
    pub(crate) fn excuse_no_more(&self, caller: &Caller) {
        let mut tally = lock(&self.tally);
        if let Some(index) = tally.excused.iter().position(|known| known == caller) {
            tally.excused.swap_remove(index);
        }
    }

    /// Whether a handler waits for the end.
    pub(crate) fn is_excused(&self, caller: &Caller) -> bool {
        lock(&self.tally).excused.contains(caller)
    }

    /// How many are alive.
    pub(crate) fn alive(&self) -> usize {
        lock(&self.tally).alive
    }

    /// Counts `count` more that were cut, unless it is over: a poller that was left behind cuts what was
    /// counted.
    pub(crate) fn add_cut(&self, count: usize) {
        let mut tally = lock(&self.tally);
        if tally.stage != Stage::Over {
            tally.cut += count;
        }
    }

    /// How many had to be cut.
    pub(crate) fn cut(&self) -> usize {
        lock(&self.tally).cut
    }

    /// Waits until none is alive but those that are excused and none can come, or `deadline` is
    /// here; says whether none is.
    pub(crate) fn wait_for_none(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, Tally::is_none)
    }

    /// Waits until none is alive at all and none can come, or `deadline` is here; says whether none
    /// is.
    pub(crate) fn wait_for_the_excused(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, |tally| tally.alive == 0 && tally.doors == 0)
    }

    fn wait_until(&self, deadline: Instant, is_so: impl Fn(&Tally) -> bool) -> bool {
        let mut tally = lock(&self.tally);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let so = is_so(&tally);
            if so || left.is_zero() {
                return so;
            }
            tally = wait_timeout(&self.changed, tally, left).0;
        }
    }

    /// Says that nobody is here but those who are excused, if anybody is, and wakes them.
    pub(crate) fn let_the_excused_go(&self) {
        if !lock(&self.tally).excused.is_empty() {
            self.reach(Stage::AllButExcused);
        }
    }

    /// Says that nobody will come any more, and wakes who waits for that.
    pub(crate) fn conclude(&self) {
        self.reach(Stage::Over);
    }

    fn reach(&self, stage: Stage) {
        let mut tally = lock(&self.tally);
        tally.stage = stage;
        let waiting = tally.waiting.take_each();
        drop(tally);
        self.changed.notify_all();
        waiting.wake();
    }

    /// How many were cut, once it is over for the asker; else `waker` is woken then, from the place
    /// `key`, or a new one if there is none.
    pub(crate) fn cut_when_over(
        &self,
        asker: Asker,
        key: &mut Option<usize>,
        waker: &Waker,
    ) -> Option<usize> {
        register(waker, |offer| {
            let mut tally = lock(&self.tally);
            if tally.is_over_for(asker) {
                return Ok(Some(tally.cut));
            }
            tally.waiting.set(key, offer)?;
            Ok(None)
        })
    }

    /// Whoever waited in the place `key` waits no more.
    pub(crate) fn forget(&self, key: usize) {
        let waker = lock(&self.tally).waiting.remove(key);
        drop(waker);
    }

    /// Waits until it is over for the asker, and says how many were cut.
    pub(crate) fn wait_until_over(&self, asker: Asker) -> usize {
        let mut tally = lock(&self.tally);
        while !tally.is_over_for(asker) {
            tally = wait(&self.changed, tally);
        }
        tally.cut
    }
}
