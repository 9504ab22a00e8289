// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pollers of a loop, for code outside of them: a dialer that needs one, or a call that must
//! know whether its caller is a handler of this loop.
//!
//! The registry lists pollers only while the loop runs. A caller that comes earlier waits, since
//! the thread that runs the loop may not have started it yet. A caller that comes later finds none.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::notifier::SourceId;
use super::set::{PollerGroup, PollerHandle, PollerSet};
use crate::budget::LoopMemory;
use crate::foreign::{WakerSlots, Wakeup, register};
use crate::sync::{Arc, Mutex, OnceLock, lock};

/// The pollers of a loop while it runs. Holding it keeps no poller alive.
#[derive(Clone, Debug, Default)]
pub(crate) struct PollerRegistry {
    state: Arc<Mutex<PollerRegistryState>>,
    /// Set when the loop is built.
    memory: Arc<OnceLock<LoopMemory>>,
}

#[derive(Debug, Default)]
struct PollerRegistryState {
    phase: LoopPhase,
    pollers: Vec<PollerHandle>,
    wakers: WakerSlots,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LoopPhase {
    #[default]
    NotStarted,
    Running,
    Stopped,
}

impl PollerRegistry {
    /// Sets the memory that the loop may use, once.
    pub(crate) fn set_memory(&self, memory: LoopMemory) {
        self.memory.get_or_init(|| memory);
    }

    /// Returns the memory that the loop may use: without a limit until the loop is built.
    pub(crate) fn memory(&self) -> LoopMemory {
        self.memory.get().copied().unwrap_or_default()
    }

    /// Records that the loop runs on `pollers`, and wakes all waiters.
    pub(crate) fn set_running(&self, pollers: &PollerSet) {
        self.transition(LoopPhase::Running, pollers.handles().to_vec());
    }

    /// Records that the loop has ended or will never run, and wakes all waiters.
    pub(crate) fn set_stopped(&self) {
        self.transition(LoopPhase::Stopped, Vec::new());
    }

    fn transition(&self, phase: LoopPhase, pollers: Vec<PollerHandle>) {
        let mut list = lock(&self.state);
        list.phase = phase;
        let before = std::mem::replace(&mut list.pollers, pollers);
        let waiting = std::mem::take(&mut list.wakers);
        drop(list);
        drop(before);
        waiting.wake();
    }

    /// Returns whether the loop runs.
    pub(crate) fn is_running(&self) -> bool {
        lock(&self.state).phase == LoopPhase::Running
    }

    /// Waits until the loop runs or has stopped.
    pub(crate) fn wait_for_start(&self) -> WaitForStart<'_> {
        WaitForStart {
            pollers: self,
            key: None,
        }
    }

    /// Returns whether `source_id` is a source of one of the loop's pollers.
    pub(crate) fn contains(&self, source_id: &SourceId) -> bool {
        let list = lock(&self.state);
        list.pollers.iter().any(|poller| poller.owns(source_id))
    }

    /// Returns the poller at `index`, once the loop runs.
    #[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
    pub(crate) fn nth(&self, index: usize) -> PollerHandle {
        crate::block_on::block_on(self.wait_for_start());
        lock(&self.state).pollers[index].clone()
    }

    /// Returns all pollers of the loop; `None` if it does not run.
    pub(crate) fn group(&self) -> Option<PollerGroup> {
        let list = lock(&self.state);
        (list.phase == LoopPhase::Running).then(|| PollerGroup::new(list.pollers.clone()))
    }

    /// Returns the poller of the calling thread if it is one of these, else the one with the fewest
    /// connections; `None` if the loop does not run.
    pub(super) fn choose(&self) -> Option<PollerHandle> {
        let list = lock(&self.state);
        let here = list.pollers.iter().find(|poller| poller.is_current());
        let least = || {
            list.pollers
                .iter()
                .min_by_key(|poller| poller.connections())
        };
        here.or_else(least).cloned()
    }
}

/// A future that waits for the loop to start or stop.
pub(crate) struct WaitForStart<'a> {
    pollers: &'a PollerRegistry,
    key: Option<usize>,
}

impl Future for WaitForStart<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { pollers, key } = &mut *self;
        register(context.waker(), |caller_waker| {
            let mut list = lock(&pollers.state);
            if list.phase != LoopPhase::NotStarted {
                return Ok(Poll::Ready(()));
            }
            list.wakers.set(key, caller_waker)?;
            Ok(Poll::Pending)
        })
    }
}

impl Drop for WaitForStart<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut list = lock(&self.pollers.state);
        // The keys are valid only until the waiters are woken.
        let waker = match list.phase {
            LoopPhase::NotStarted => list.wakers.remove(key),
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
    fn waiters_are_woken_on_start_and_stop_and_leave_no_waker_when_dropped() {
        let pollers = PollerRegistry::default();
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut dropped = pin!(pollers.wait_for_start());
            assert!(dropped.as_mut().poll(&mut context).is_pending());
            assert!(dropped.as_mut().poll(&mut context).is_pending());
            assert_eq!(lock(&pollers.state).wakers.len(), 1);
        }
        assert_eq!(lock(&pollers.state).wakers.len(), 0);
        let other = pollers.clone();
        let waiting = std::thread::spawn(move || crate::block_on::block_on(other.wait_for_start()));
        while lock(&pollers.state).wakers.len() == 0 {
            std::thread::yield_now();
        }
        pollers.set_stopped();
        waiting.join().unwrap();
        assert!(pin!(pollers.wait_for_start()).poll(&mut context).is_ready());
        assert!(pollers.choose().is_none());
    }
}
