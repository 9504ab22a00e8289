// SPDX-License-Identifier: MIT OR Apache-2.0
//! Foreign values: wakers, memory and closures of the user's that lie in our state.
//!
//! To wake, clone or drop one runs foreign code. It may panic, call any handle of ours, or block for a
//! while. So each of the three happens with no lock of ours held, and wakes and drops go through
//! [`guard`]: a panic of theirs ends there. The panic of a clone is the caller's who polls with that
//! waker; the state is then as it was.
//!
//! State keeps a waker in a [`WakerSlot`] and nothing raw. There are three ways to it:
//!
//! * **In:** [`register`] runs an attempt that locks, looks at the state and calls
//!   [`WakerSlot::set`]. A slot that has the same waker keeps it, which runs no foreign code. Else the
//!   attempt ends with [`CloneRequired`], and so lets go of its lock; the waker is cloned, and the attempt runs
//!   again and looks at the state anew. What the slot had before goes along with the [`CallerWaker`], and is
//!   dropped after the attempt.
//! * **Out:** [`WakerSlot::take`] gives a [`Wakeup`], of several a [`Wakeups`]. Take it under the lock, let
//!   go of that, and then [`wake`](Wakeup::wake) it or let it drop; both are guarded.
//! * **Gone:** a slot that is dropped with its state is guarded as well.
//!
//! User memory (a chain, `Bytes`), a value or a closure that is taken out of a state under a lock goes
//! into a [`DeferredDrop`], which is dropped after it:
//!
//! ```ignore
//! let mut outbox = lock(&self.outbox);
//! let discarded = DeferredDrop::new(std::mem::take(&mut outbox.chain));
//! drop(outbox);
//! drop(discarded); // guarded; calls of this very outbox are allowed
//! ```
//!
//! A future of the user's that one of ours awaits is a [`UserFuture`], whose drop is guarded while its own
//! panic unwinds ours.
//!
//! A `DeferredDrop` guards one drop. Of a value that owns several foreign ones, a second panic while the
//! first unwinds would abort: such a collection is dropped one by one, as [`Wakeups`] are.
//!
//! **Locals drop in the reverse of their order.** A `Wakeup` or `DeferredDrop` that is bound after a lock and
//! never moved is dropped before it. With debug assertions [`guard`] panics there: every test checks it.
//! `tests/source_rules.rs` finds a raw waker outside of this module.

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
    /// Nobody to wake.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this is a clone of `waker`. No foreign code.
    #[inline]
    pub(crate) fn will_wake(&self, waker: &Waker) -> bool {
        self.0.as_ref().is_some_and(|known| known.will_wake(waker))
    }

    /// Wakes who waits, if anybody does. A panic ends here.
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

/// The waker of something of ours, which is no foreign code: what a future is polled with.
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

/// Wakes whoever polls with `waker`. A panic ends here.
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
    /// Adds one, unless it is none.
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

    /// Wakes all, also those behind one that panics.
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

/// The place of a waker in a state behind a lock.
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

    /// Whether it has the offered waker.
    pub(crate) fn has(&self, caller_waker: &CallerWaker<'_>) -> bool {
        self.0.will_wake(caller_waker.waker)
    }

    /// Has the slot wake whoever polls with the offered waker.
    ///
    /// # Errors
    ///
    /// The waker is not the one that is known, and has to be cloned first; nothing was changed.
    #[inline]
    pub(crate) fn set(&mut self, caller_waker: &mut CallerWaker<'_>) -> Result<(), CloneRequired> {
        if self.0.will_wake(caller_waker.waker) {
            return Ok(());
        }
        if caller_waker.clone.is_none() {
            return Err(CloneRequired);
        }
        // What was there goes with the offer, and is dropped after the lock.
        std::mem::swap(&mut self.0, &mut caller_waker.clone);
        Ok(())
    }
}

/// The offered waker has to be cloned, without a lock: pass this on with `?`.
#[derive(Debug)]
#[must_use]
pub(crate) struct CloneRequired;

/// The waker of a poll, and its clone once that was made.
#[derive(Debug)]
pub(crate) struct CallerWaker<'a> {
    waker: &'a Waker,
    clone: Wakeup,
}

impl CallerWaker<'_> {
    /// A slot with the offered waker, for a state that had none for this caller.
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
        // Its panic is the caller's.
        let clone = Wakeup(Some(self.waker.clone()));
        drop(std::mem::replace(&mut self.clone, clone));
    }
}

/// Runs `attempt`, which locks, looks at the state, and leaves `waker` in a slot of it if it has to wait;
/// runs it again with a clone of the waker where it needs one.
///
/// An attempt that fails with [`CloneRequired`] has changed nothing that it may not change twice.
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

/// A foreign value that was taken out of a state, or none: user memory, a value, a closure. Dropped when
/// no lock is held; a panic ends there.
#[derive(Debug)]
#[must_use = "drop it after the lock"]
pub(crate) struct DeferredDrop<T>(Option<T>);

impl<T> DeferredDrop<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// Nothing to drop.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// Takes it out of a state under a lock, to be dropped after that.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// The value, for whoever goes on with it.
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
        assert_eq!(Arc::strong_count(&first), 2, "the first is gone");
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
