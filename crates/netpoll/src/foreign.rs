// SPDX-License-Identifier: MIT OR Apache-2.0
//! Foreign values: wakers, memory and closures that users gave us and that our state holds.
//!
//! Waking, cloning or dropping one runs foreign code. It may panic, call any handle of ours, or
//! block for a while. So each of the three happens under no lock of ours, and wakes and drops go
//! through [`guard`], which catches a panic. A panic in a clone reaches the caller that polls with
//! that waker; the state is then unchanged.
//!
//! State keeps a waker in a [`WakerSlot`], never a raw `Waker`. There are three paths:
//!
//! * **In:** [`register`] runs an attempt that locks, checks the state and calls
//!   [`WakerSlot::set`]. A slot that has the same waker keeps it, which runs no foreign code. Else
//!   the attempt fails with [`CloneRequired`], which releases its lock; `register` clones the waker
//!   and runs the attempt again, which checks the state anew. The waker that was in the slot moves
//!   into the [`CallerWaker`] and is dropped after the attempt.
//! * **Out:** [`WakerSlot::take`] returns a [`Wakeup`]; several are a [`Wakeups`]. Take it under
//!   the lock, release the lock, and then [`wake`](Wakeup::wake) or drop it; both are guarded.
//! * **Dropped:** a slot that is dropped with its state is guarded as well.
//!
//! User memory (a buffer, `Bytes`), a value or a closure that is taken out of a state under a lock
//! goes into a [`DeferredDrop`], which is dropped after the lock:
//!
//! ```ignore
//! let mut output_buffer = lock(&self.output_buffer);
//! let discarded = DeferredDrop::new(std::mem::take(&mut output_buffer.buffer));
//! drop(output_buffer);
//! drop(discarded); // guarded; calls on this very buffer are allowed
//! ```
//!
//! A user's future that one of our futures awaits is a [`UserFuture`]: its drop is guarded while
//! its own panic unwinds our future.
//!
//! A `DeferredDrop` guards one drop. A collection of foreign values is dropped one by one, as
//! [`Wakeups`] are: a second panic while the first unwinds would abort the process.
//!
//! **Locals drop in the reverse of their order.** A `Wakeup` or `DeferredDrop` that is bound after
//! a lock and never moved is dropped before the lock is released. With debug assertions [`guard`]
//! panics there, so every test checks it. `tests/source_rules.rs` finds raw wakers elsewhere.

mod user_future;
mod waker_slots;

use std::ops::Deref;
use std::task::{Wake, Waker};

use crate::guard::guard;
use crate::sync::{Arc, assert_unlocked};
pub(crate) use user_future::{UserFuture, empty_while_panicking};
pub(crate) use waker_slots::WakerSlots;

/// A waker that was taken out of a state, or none. Wakes or drops it when no lock is held.
#[derive(Debug, Default)]
#[must_use = "wake it, or drop it after the lock"]
pub(crate) struct Wakeup(Option<Waker>);

impl Wakeup {
    /// Returns a wakeup without a waker.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether this is a clone of `waker`. Runs no foreign code.
    #[inline]
    pub(crate) fn will_wake(&self, waker: &Waker) -> bool {
        self.0.as_ref().is_some_and(|known| known.will_wake(waker))
    }

    /// Wakes the waker, if there is one. Catches a panic.
    #[inline]
    pub(crate) fn wake(self) {
        if let Some(waker) = &self.0 {
            wake_by_ref(waker);
        }
    }
}

impl Drop for Wakeup {
    #[inline]
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            let _panicked = guard(|| drop(waker)).is_err();
        }
    }
}

/// A waker of our own, which runs no foreign code. Used to poll a future.
#[derive(Clone, Debug)]
pub(crate) struct OwnWaker(Waker);

impl OwnWaker {
    pub(crate) fn new(woken: Arc<impl Wake + Send + Sync + 'static>) -> Self {
        Self(woken.into())
    }
}

impl Deref for OwnWaker {
    type Target = Waker;

    fn deref(&self) -> &Waker {
        &self.0
    }
}

/// Wakes `waker`. Catches a panic.
#[inline]
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub(crate) fn wake_by_ref(waker: &Waker) {
    let _panicked = guard(|| waker.wake_by_ref()).is_err();
}

/// Several wakers that were taken out of a state.
#[derive(Debug, Default)]
#[must_use = "wake them, or drop them after the lock"]
pub(crate) struct Wakeups(Vec<Wakeup>);

impl Wakeups {
    /// Adds `wakeup`, unless it is empty.
    pub(crate) fn add(&mut self, wakeup: Wakeup) {
        if wakeup.is_some() {
            self.0.push(wakeup);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Wakes all, also those after one that panics.
    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(Wakeup::wake);
    }
}

impl IntoIterator for Wakeups {
    type Item = Wakeup;
    type IntoIter = std::vec::IntoIter<Wakeup>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<WakerSlot> for Wakeups {
    fn from_iter<I: IntoIterator<Item = WakerSlot>>(slots: I) -> Self {
        let mut wakeups = Self::default();
        slots.into_iter().for_each(|slot| wakeups.add(slot.0));
        wakeups
    }
}

/// The slot of a waker in a state behind a lock.
#[derive(Debug, Default)]
pub(crate) struct WakerSlot(Wakeup);

impl From<Wakeup> for WakerSlot {
    fn from(wakeup: Wakeup) -> Self {
        Self(wakeup)
    }
}

impl WakerSlot {
    pub(crate) const fn empty() -> Self {
        Self(Wakeup::none())
    }

    /// Takes the waker out, to be woken or dropped after the lock.
    #[inline]
    pub(crate) fn take(&mut self) -> Wakeup {
        std::mem::take(&mut self.0)
    }

    /// Returns whether it holds the caller's waker.
    pub(crate) fn has(&self, caller_waker: &CallerWaker<'_>) -> bool {
        self.0.will_wake(caller_waker.waker)
    }

    /// Stores the caller's waker in the slot.
    ///
    /// # Errors
    ///
    /// The slot holds another waker and the caller's is not cloned yet; nothing was changed.
    #[inline]
    pub(crate) fn set(&mut self, caller_waker: &mut CallerWaker<'_>) -> Result<(), CloneRequired> {
        if self.0.will_wake(caller_waker.waker) {
            return Ok(());
        }
        if caller_waker.clone.is_none() {
            return Err(CloneRequired);
        }
        // The former waker goes into the `CallerWaker`, which drops it after the lock.
        std::mem::swap(&mut self.0, &mut caller_waker.clone);
        Ok(())
    }
}

/// The caller's waker has to be cloned under no lock: pass this on with `?`.
#[derive(Debug)]
#[must_use]
pub(crate) struct CloneRequired;

/// The waker of a poll, and its clone once it is made.
#[derive(Debug)]
pub(crate) struct CallerWaker<'a> {
    waker: &'a Waker,
    clone: Wakeup,
}

impl CallerWaker<'_> {
    /// Returns a slot with the caller's waker, for a state that has none for this caller.
    ///
    /// # Errors
    ///
    /// As [`WakerSlot::set`].
    #[inline]
    pub(crate) fn slot(&mut self) -> Result<WakerSlot, CloneRequired> {
        if self.clone.is_none() {
            return Err(CloneRequired);
        }
        Ok(WakerSlot(std::mem::take(&mut self.clone)))
    }

    #[inline]
    #[allow(clippy::disallowed_methods, reason = "the one place")]
    fn make_clone(&mut self) {
        assert_unlocked();
        // A panic reaches the caller.
        let clone = Wakeup(Some(self.waker.clone()));
        drop(std::mem::replace(&mut self.clone, clone));
    }
}

/// Runs `attempt`, which locks, checks the state, and leaves `waker` in a slot if it has to wait.
/// Runs it again with a clone of the waker if it needs one.
///
/// An attempt that fails with [`CloneRequired`] has changed nothing that must not change twice.
#[inline]
pub(crate) fn register<R>(
    waker: &Waker,
    mut attempt: impl FnMut(&mut CallerWaker<'_>) -> Result<R, CloneRequired>,
) -> R {
    let mut caller_waker = CallerWaker {
        waker,
        clone: Wakeup::none(),
    };
    loop {
        match attempt(&mut caller_waker) {
            Ok(result) => return result,
            Err(CloneRequired) => caller_waker.make_clone(),
        }
    }
}

/// A foreign value that was taken out of a state, or none: user memory, a value, a closure. Dropped
/// when no lock is held; a panic is caught.
#[derive(Debug)]
#[must_use = "drop it after the lock"]
pub(crate) struct DeferredDrop<T>(Option<T>);

impl<T> DeferredDrop<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// Returns a `DeferredDrop` without a value.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// Takes the value out of a state under a lock, to be dropped after it.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Returns the value, for a caller that uses it.
    #[inline]
    pub(crate) fn into_value(mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Default for DeferredDrop<T> {
    fn default() -> Self {
        Self::none()
    }
}

impl<T> From<Option<T>> for DeferredDrop<T> {
    fn from(value: Option<T>) -> Self {
        Self(value)
    }
}

impl<T> Drop for DeferredDrop<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            let _panicked = guard(|| drop(value)).is_err();
        }
    }
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::*;
    use crate::sync::{AtomicUsize, Mutex, Ordering, lock};

    #[derive(Default)]
    struct CountingWaker {
        wakes: AtomicUsize,
        panics: bool,
    }

    impl Wake for CountingWaker {
        fn wake(self: Arc<Self>) {
            self.wakes.fetch_add(1, Ordering::SeqCst);
            assert!(!self.panics, "woken");
        }
    }

    struct PanicsOnDrop(Arc<AtomicUsize>);

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("dropped");
        }
    }

    fn set(slot: &Mutex<WakerSlot>, waker: &Waker) -> usize {
        let mut attempts = 0;
        register(waker, |caller_waker| {
            attempts += 1;
            lock(slot).set(caller_waker)
        });
        attempts
    }

    #[test]
    fn a_known_waker_needs_one_attempt_and_a_new_one_needs_two() {
        let (first, second) = (
            Arc::<CountingWaker>::default(),
            Arc::<CountingWaker>::default(),
        );
        let wakers = [&first, &second].map(|counts| Waker::from(Arc::clone(counts)));
        let slot = Mutex::new(WakerSlot::empty());
        assert_eq!(set(&slot, &wakers[0]), 2);
        assert_eq!(set(&slot, &wakers[0]), 1);
        assert_eq!(set(&slot, &wakers[1]), 2);
        assert_eq!(Arc::strong_count(&first), 2, "the first clone is dropped");
        let wakeup = lock(&slot).take();
        wakeup.wake();
        assert!(lock(&slot).take().is_none());
        let woken = [&first, &second].map(|counts| counts.wakes.load(Ordering::SeqCst));
        assert_eq!(woken, [0, 1]);
    }

    #[test]
    fn a_panicking_waker_does_not_stop_the_others() {
        let bad = Arc::new(CountingWaker {
            panics: true,
            ..CountingWaker::default()
        });
        let good = Arc::<CountingWaker>::default();
        let slot = |counts: &Arc<CountingWaker>| WakerSlot(Wakeup(Some(Arc::clone(counts).into())));
        Wakeups::from_iter([slot(&bad), slot(&good)]).wake();
        assert_eq!(bad.wakes.load(Ordering::SeqCst), 1);
        assert_eq!(good.wakes.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_deferred_value_is_dropped_once_and_its_panic_is_caught() {
        let dropped = Arc::new(AtomicUsize::new(0));
        drop(DeferredDrop::new(PanicsOnDrop(Arc::clone(&dropped))));
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        let kept = DeferredDrop::new(7).into_value();
        assert_eq!(kept, Some(7));
    }
}
