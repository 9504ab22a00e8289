// SPDX-License-Identifier: MIT OR Apache-2.0
//! A FIFO semaphore.
//!
//! A released permit is granted to the first waiter by id, so no later `acquire` can take it first.
//! A waiter that is dropped after it was granted a permit passes the permit on.
//!
//! Our own, because wakers are foreign code here: they are cloned, woken and dropped guarded and
//! outside of the lock, and the model checkers run it with that. Semaphores of async runtimes call
//! them unguarded.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::foreign::{WakerSlot, Wakeup, Wakeups, register};
use crate::sync::{Arc, Mutex, lock};

/// Permits, and the queue of waiters.
#[derive(Debug)]
pub(crate) struct Semaphore {
    state: Mutex<SemaphoreState>,
}

#[derive(Debug)]
struct SemaphoreState {
    available: usize,
    /// Waiters in the order they came.
    waiters: BTreeMap<u64, WakerSlot>,
    /// Waiters that were granted a permit and have not been polled since.
    granted: BTreeSet<u64>,
    next_id: u64,
}

/// A permit. Released when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    semaphore: Arc<Semaphore>,
}

impl Semaphore {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(SemaphoreState {
                available: count,
                waiters: BTreeMap::new(),
                granted: BTreeSet::new(),
                next_id: 0,
            }),
        })
    }

    /// Returns a permit if one is free; one is free only while no waiter is queued.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let mut state = lock(&self.state);
        if state.available == 0 {
            return None;
        }
        state.available -= 1;
        drop(state);
        Some(Permit {
            semaphore: Arc::clone(self),
        })
    }

    /// Returns a future of a permit, granted in the order of arrival. Dropping the future removes
    /// it from the queue.
    pub(crate) fn acquire(self: &Arc<Self>) -> Acquire {
        Acquire {
            semaphore: Arc::clone(self),
            id: None,
        }
    }

    /// Removes the limit: grants a permit to every waiter and to all later callers.
    pub(crate) fn remove_limit(&self) {
        let mut state = lock(&self.state);
        let waiters = std::mem::take(&mut state.waiters);
        state.granted.extend(waiters.keys());
        state.available = usize::MAX / 2;
        drop(state);
        waiters.into_values().collect::<Wakeups>().wake();
    }

    /// Returns the number of free permits: 0 while a waiter is queued.
    #[cfg(test)]
    pub(crate) fn available_permits(&self) -> usize {
        lock(&self.state).available
    }

    /// Returns the number of waiters.
    pub(crate) fn waiter_count(&self) -> usize {
        lock(&self.state).waiters.len()
    }

    /// Returns one permit: to the first waiter, or to the free ones.
    fn release(&self) {
        let mut state = lock(&self.state);
        let first = state.waiters.pop_first();
        let waker = match first {
            Some((id, mut waker)) => {
                state.granted.insert(id);
                waker.take()
            }
            None => {
                state.available += 1;
                Wakeup::none()
            }
        };
        drop(state);
        waker.wake();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.release();
    }
}

/// A future that waits for a permit.
#[derive(Debug)]
pub(crate) struct Acquire {
    semaphore: Arc<Semaphore>,
    /// Its place in the queue, once it has been polled.
    id: Option<u64>,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let semaphore = Arc::clone(&self.semaphore);
        let granted = register(context.waker(), |caller_waker| {
            let mut state = lock(&semaphore.state);
            let granted = match self.id {
                Some(id) => state.granted.remove(&id),
                None => state.available > 0,
            };
            if granted {
                if self.id.take().is_none() {
                    state.available -= 1;
                }
                return Ok(true);
            }
            match self.id.and_then(|id| state.waiters.get_mut(&id)) {
                Some(known) => known.set(caller_waker)?,
                None => {
                    let waker = caller_waker.slot()?;
                    state.next_id += 1;
                    let id = *self.id.get_or_insert(state.next_id);
                    state.waiters.insert(id, waker);
                }
            }
            Ok(false)
        });
        if granted {
            Poll::Ready(Permit { semaphore })
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut state = lock(&self.semaphore.state);
        let waker = state.waiters.remove(&id);
        let granted = state.granted.remove(&id);
        drop(state);
        drop(waker);
        if granted {
            self.semaphore.release();
        }
    }
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::*;
    use std::task::Waker;

    fn poll(acquire: &mut Acquire) -> Poll<Permit> {
        Pin::new(acquire).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn granted(acquire: &mut Acquire) -> Permit {
        match poll(acquire) {
            Poll::Ready(permit) => permit,
            Poll::Pending => panic!("not granted"),
        }
    }

    #[test]
    fn permits_are_granted_in_order_and_try_acquire_does_not_overtake() {
        let semaphore = Semaphore::new(1);
        let first = semaphore.try_acquire().unwrap();
        let (mut second, mut third) = (semaphore.acquire(), semaphore.acquire());
        assert!(poll(&mut second).is_pending());
        assert!(poll(&mut third).is_pending());
        assert_eq!(semaphore.waiter_count(), 2);
        drop(first);
        assert!(semaphore.try_acquire().is_none(), "granted to the second");
        assert!(poll(&mut semaphore.acquire()).is_pending());
        assert!(poll(&mut third).is_pending());
        drop(granted(&mut second));
        drop(granted(&mut third));
        assert_eq!(
            (semaphore.available_permits(), semaphore.waiter_count()),
            (1, 0)
        );
    }

    #[test]
    fn a_cancelled_waiter_is_skipped_and_passes_on_its_permit() {
        let semaphore = Semaphore::new(1);
        let first = semaphore.try_acquire().unwrap();
        let mut waits = [
            semaphore.acquire(),
            semaphore.acquire(),
            semaphore.acquire(),
        ];
        for wait in &mut waits {
            assert!(poll(wait).is_pending());
        }
        let [second, third, mut fourth] = waits;
        drop(second);
        drop(first);
        drop(third);
        drop(granted(&mut fourth));
        assert_eq!(
            (semaphore.available_permits(), semaphore.waiter_count()),
            (1, 0)
        );
    }

    #[test]
    fn removing_the_limit_grants_all_waiters() {
        let semaphore = Semaphore::new(1);
        let first = semaphore.try_acquire().unwrap();
        let mut second = semaphore.acquire();
        assert!(poll(&mut second).is_pending());
        semaphore.remove_limit();
        let all = [
            granted(&mut second),
            granted(&mut semaphore.acquire()),
            first,
        ];
        assert_eq!(semaphore.waiter_count(), 0);
        drop(all);
        assert!(semaphore.available_permits() > 1);
    }
}
