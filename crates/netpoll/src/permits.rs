// SPDX-License-Identifier: MIT OR Apache-2.0
//! A number of permits, for whoever comes: first come, first served.
//!
//! A permit that comes back is handed to the first in line by name, so that nobody who comes later
//! takes it from him: he who was handed one and goes without it hands it on.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::foreign::{WakerSlot, Wakeup, Wakeups, register};
use crate::sync::{Arc, Mutex, lock};

/// Permits, and the line of those who wait for one.
#[derive(Debug)]
pub(crate) struct Permits {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Who waits, in the order they came.
    line: BTreeMap<u64, WakerSlot>,
    /// Who was handed a permit and has not come for it.
    handed: BTreeSet<u64>,
    next: u64,
}

/// A permit. Goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    permits: Arc<Permits>,
}

impl Permits {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: count,
                line: BTreeMap::new(),
                handed: BTreeSet::new(),
                next: 0,
            }),
        })
    }

    /// A permit, if one is free and nobody waits for it.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let mut state = lock(&self.state);
        if state.free == 0 {
            return None;
        }
        state.free -= 1;
        drop(state);
        Some(Permit {
            permits: Arc::clone(self),
        })
    }

    /// A permit, as soon as everybody has one who came before. A future that is dropped leaves the
    /// line.
    pub(crate) fn acquire(self: &Arc<Self>) -> Acquire {
        Acquire {
            permits: Arc::clone(self),
            place: None,
        }
    }

    /// There is no bound any more: everybody in line has a permit, and so has whoever comes.
    pub(crate) fn lift(&self) {
        let mut state = lock(&self.state);
        let line = std::mem::take(&mut state.line);
        state.handed.extend(line.keys());
        state.free = usize::MAX / 2;
        drop(state);
        line.into_values().collect::<Wakeups>().wake();
    }

    /// How many permits are free: none while somebody waits.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        lock(&self.state).free
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.state).line.len()
    }

    /// One comes back: to the first in line, or to be free.
    fn give_back(&self) {
        let mut state = lock(&self.state);
        let first = state.line.pop_first();
        let waker = match first {
            Some((place, mut waker)) => {
                state.handed.insert(place);
                waker.take()
            }
            None => {
                state.free += 1;
                Wakeup::none()
            }
        };
        drop(state);
        waker.wake();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.give_back();
    }
}

/// A wait for a permit.
#[derive(Debug)]
pub(crate) struct Acquire {
    permits: Arc<Permits>,
    /// In the line.
    place: Option<u64>,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let permits = Arc::clone(&self.permits);
        let granted = register(context.waker(), |offer| {
            let mut state = lock(&permits.state);
            let granted = match self.place {
                Some(place) => state.handed.remove(&place),
                None => state.free > 0,
            };
            if granted {
                if self.place.take().is_none() {
                    state.free -= 1;
                }
                return Ok(true);
            }
            match self.place.and_then(|place| state.line.get_mut(&place)) {
                Some(known) => known.set(offer)?,
                None => {
                    let waker = offer.slot()?;
                    state.next += 1;
                    let place = *self.place.get_or_insert(state.next);
                    state.line.insert(place, waker);
                }
            }
            Ok(false)
        });
        if granted {
            Poll::Ready(Permit { permits })
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut state = lock(&self.permits.state);
        let waker = state.line.remove(&place);
        let handed = state.handed.remove(&place);
        drop(state);
        drop(waker);
        if handed {
            self.permits.give_back();
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
    fn who_comes_first_is_served_first_and_nobody_overtakes() {
        let permits = Permits::new(1);
        let first = permits.try_acquire().unwrap();
        let (mut second, mut third) = (permits.acquire(), permits.acquire());
        assert!(poll(&mut second).is_pending());
        assert!(poll(&mut third).is_pending());
        assert_eq!(permits.waiting(), 2);
        drop(first);
        assert!(permits.try_acquire().is_none(), "it is the second's");
        assert!(poll(&mut permits.acquire()).is_pending());
        assert!(poll(&mut third).is_pending());
        drop(granted(&mut second));
        drop(granted(&mut third));
        assert_eq!((permits.free(), permits.waiting()), (1, 0));
    }

    #[test]
    fn who_leaves_the_line_is_passed_over_also_with_a_permit_in_hand() {
        let permits = Permits::new(1);
        let first = permits.try_acquire().unwrap();
        let mut waits = [permits.acquire(), permits.acquire(), permits.acquire()];
        for wait in &mut waits {
            assert!(poll(wait).is_pending());
        }
        let [second, third, mut fourth] = waits;
        drop(second);
        drop(first);
        drop(third);
        drop(granted(&mut fourth));
        assert_eq!((permits.free(), permits.waiting()), (1, 0));
    }

    #[test]
    fn without_a_bound_nobody_waits_any_more() {
        let permits = Permits::new(1);
        let first = permits.try_acquire().unwrap();
        let mut second = permits.acquire();
        assert!(poll(&mut second).is_pending());
        permits.lift();
        let all = [granted(&mut second), granted(&mut permits.acquire()), first];
        assert_eq!(permits.waiting(), 0);
        drop(all);
        assert!(permits.free() > 1);
    }
}
