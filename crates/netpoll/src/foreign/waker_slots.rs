// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wakers of any number of futures that wait for one thing, in a state behind a lock.
//!
//! A future keeps the key of its slot and nothing else. It [sets](WakerSlots::set) its waker at
//! each poll and [removes](WakerSlots::remove) the slot when it is dropped. Wakers that are taken
//! out are woken or dropped after the lock, as [`Wakeup`] says.

use slab::Slab;

use super::{CallerWaker, CloneRequired, WakerSlot, Wakeup, Wakeups};

/// The slots of several wakers.
#[derive(Debug, Default)]
pub(crate) struct WakerSlots(Slab<WakerSlot>);

impl WakerSlots {
    /// Returns the number of waiters.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Stores the caller's waker in the slot of `key`. Creates a slot if `key` names none.
    ///
    /// # Errors
    ///
    /// As [`WakerSlot::set`].
    pub(crate) fn set(
        &mut self,
        key: &mut Option<usize>,
        caller_waker: &mut CallerWaker<'_>,
    ) -> Result<(), CloneRequired> {
        match key.and_then(|key| self.0.get_mut(key)) {
            Some(known) => known.set(caller_waker),
            None => {
                *key = Some(self.0.insert(caller_waker.slot()?));
                Ok(())
            }
        }
    }

    /// Removes a slot if it is still there. Drop the returned waker after the lock.
    pub(crate) fn remove(&mut self, key: usize) -> Wakeup {
        self.0
            .try_remove(key)
            .map_or_else(Wakeup::none, |mut slot| slot.take())
    }

    /// Takes all wakers out and leaves the slots, for futures that may wait again.
    pub(crate) fn take_all(&mut self) -> Wakeups {
        let mut wakeups = Wakeups::default();
        for (_, slot) in &mut self.0 {
            wakeups.add(slot.take());
        }
        wakeups
    }

    /// Wakes all, also those after one that panics. Take it out of the state first, and call this
    /// after the lock.
    pub(crate) fn wake(self) {
        for (_, mut slot) in self.0 {
            slot.take().wake();
        }
    }
}
