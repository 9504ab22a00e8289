// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pollers of a loop, for those outside of it: who dials for it, and who asks whether a handler is
//! the loop's.
//!
//! A loop has its pollers while it runs. Whoever comes before waits until it does, since a thread that
//! was started to run it may not have come to that; whoever comes after is told.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::bell::Caller;
use super::set::{PollerHandle, PollerSet};
use crate::budget::LoopMemory;
use crate::foreign::{WakerSlots, Wakeup, register};
use crate::sync::{Arc, Mutex, lock};

/// The pollers of a loop, while it runs. Whoever has it keeps none of them alive.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    list: Arc<Mutex<List>>,
    memory: LoopMemory,
}

#[derive(Debug, Default)]
struct List {
    stage: Stage,
    pollers: Vec<PollerHandle>,
    waiting: WakerSlots,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    NotYet,
    Running,
    Ended,
}

impl Roster {
    /// Of a loop that may use `memory`, and does not run yet.
    pub(crate) fn new(memory: LoopMemory) -> Self {
        Self {
            list: Arc::default(),
            memory,
        }
    }

    /// What the loop may use.
    pub(crate) fn memory(&self) -> LoopMemory {
        self.memory
    }

    /// The loop runs, on `pollers`.
    pub(crate) fn open(&self, pollers: &PollerSet) {
        self.enter(Stage::Running, pollers.handles().to_vec());
    }

    /// The loop has ended, or will never run.
    pub(crate) fn close(&self) {
        self.enter(Stage::Ended, Vec::new());
    }

    fn enter(&self, stage: Stage, pollers: Vec<PollerHandle>) {
        let mut list = lock(&self.list);
        list.stage = stage;
        let before = std::mem::replace(&mut list.pollers, pollers);
        let waiting = std::mem::take(&mut list.waiting);
        drop(list);
        drop(before);
        waiting.wake();
    }

    /// Whether the loop runs.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.list).stage == Stage::Running
    }

    /// Waits until the loop runs, or never will.
    pub(crate) fn begun(&self) -> Begun<'_> {
        Begun {
            roster: self,
            key: None,
        }
    }

    /// Whether `caller` is a handler of one of its pollers'.
    pub(crate) fn has(&self, caller: &Caller) -> bool {
        let list = lock(&self.list);
        list.pollers.iter().any(|poller| poller.is_of(caller))
    }

    /// The poller at `index`.
    #[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
    pub(crate) fn nth(&self, index: usize) -> PollerHandle {
        crate::parking::block_on(self.begun());
        lock(&self.list).pollers[index].clone()
    }

    /// The caller's poller, if that is one of these, else the one with the fewest connections.
    pub(super) fn choose(&self) -> Option<PollerHandle> {
        let list = lock(&self.list);
        let here = list.pollers.iter().find(|poller| poller.is_here());
        let least = || list.pollers.iter().min_by_key(|poller| poller.seats());
        here.or_else(least).cloned()
    }
}

/// Waits for a loop to run.
pub(crate) struct Begun<'a> {
    roster: &'a Roster,
    key: Option<usize>,
}

impl Future for Begun<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { roster, key } = &mut *self;
        register(context.waker(), |offer| {
            let mut list = lock(&roster.list);
            if list.stage != Stage::NotYet {
                return Ok(Poll::Ready(()));
            }
            list.waiting.set(key, offer)?;
            Ok(Poll::Pending)
        })
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut list = lock(&self.roster.list);
        // Only while nobody was woken are the keys good.
        let waker = match list.stage {
            Stage::NotYet => list.waiting.remove(key),
            _ => Wakeup::none(),
        };
        drop(list);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    #[test]
    fn who_waits_for_a_loop_is_woken_once_it_runs_or_never_will_and_leaves_nothing_before() {
        let roster = Roster::new(LoopMemory::default());
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut given_up = pin!(roster.begun());
            assert!(given_up.as_mut().poll(&mut context).is_pending());
            assert!(given_up.as_mut().poll(&mut context).is_pending());
            assert_eq!(lock(&roster.list).waiting.len(), 1);
        }
        assert_eq!(lock(&roster.list).waiting.len(), 0);
        let other = roster.clone();
        let waiting = std::thread::spawn(move || crate::parking::block_on(other.begun()));
        while lock(&roster.list).waiting.len() == 0 {
            std::thread::yield_now();
        }
        roster.close();
        waiting.join().unwrap();
        assert!(pin!(roster.begun()).poll(&mut context).is_ready());
        assert!(roster.choose().is_none());
    }
}
