// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locking, and the count of the locks that a thread holds.
//!
//! Only builds with debug assertions count, so every test checks that no foreign code runs under a
//! lock. A model checker runs all threads of a model on one, where the count would mean nothing.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::{Condvar, Mutex, PoisonError};

#[cfg(netpoll_loom)]
use loom::sync::MutexGuard as Guard;
#[cfg(netpoll_shuttle)]
use shuttle::sync::MutexGuard as Guard;
#[cfg(not(any(netpoll_loom, netpoll_shuttle)))]
use std::sync::MutexGuard as Guard;

/// A lock that this thread holds.
#[must_use = "the lock is released at once"]
pub(crate) struct MutexGuard<'a, T> {
    guard: Guard<'a, T>,
    /// Declared after the lock, so that the count is never too low.
    count: LockCount,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Locks `mutex`, even if a panic has poisoned it: no lock of this crate is held over foreign code,
/// and every critical section leaves its data consistent at each step.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    MutexGuard {
        guard: mutex.lock().unwrap_or_else(PoisonError::into_inner),
        count: LockCount::acquire(),
    }
}

/// Releases the lock, waits on `condition`, and locks again.
pub(crate) fn wait<'a, T>(condition: &Condvar, held: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    let MutexGuard { guard, count } = held;
    let waited = condition.wait(guard);
    let guard = waited.unwrap_or_else(PoisonError::into_inner);
    MutexGuard { guard, count }
}

/// As [`wait`], for `most` at most. Also returns whether that time has passed.
pub(crate) fn wait_timeout<'a, T>(
    condition: &Condvar,
    held: MutexGuard<'a, T>,
    most: Duration,
) -> (MutexGuard<'a, T>, bool) {
    let MutexGuard { guard, count } = held;
    let waited = condition.wait_timeout(guard, most);
    let (guard, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
    (MutexGuard { guard, count }, outcome.timed_out())
}

/// Panics if this thread holds a lock of ours, in a build with debug assertions. Call it before
/// foreign code runs.
#[inline]
#[track_caller]
pub(crate) fn assert_unlocked() {
    #[cfg(all(debug_assertions, not(any(netpoll_loom, netpoll_shuttle))))]
    assert_eq!(enabled::held(), 0, "user code called while a lock is held");
}

#[cfg(not(all(debug_assertions, not(any(netpoll_loom, netpoll_shuttle)))))]
use disabled::LockCount;
#[cfg(all(debug_assertions, not(any(netpoll_loom, netpoll_shuttle))))]
use enabled::LockCount;

#[cfg(not(all(debug_assertions, not(any(netpoll_loom, netpoll_shuttle)))))]
mod disabled {
    pub(super) struct LockCount;

    impl LockCount {
        #[inline]
        pub(super) fn acquire() -> Self {
            Self
        }
    }
}

#[cfg(all(debug_assertions, not(any(netpoll_loom, netpoll_shuttle))))]
mod enabled {
    use std::cell::Cell;

    std::thread_local! {
        static LOCKS_HELD: Cell<usize> = const { Cell::new(0) };
    }

    /// Returns the number of our locks that this thread holds.
    pub(super) fn held() -> usize {
        LOCKS_HELD.with(Cell::get)
    }

    /// One lock that this thread holds.
    pub(super) struct LockCount;

    impl LockCount {
        pub(super) fn acquire() -> Self {
            LOCKS_HELD.with(|held| held.set(held.get() + 1));
            Self
        }
    }

    impl Drop for LockCount {
        fn drop(&mut self) {
            LOCKS_HELD.with(|held| held.set(held.get() - 1));
        }
    }
}

#[cfg(all(test, debug_assertions, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_counted_across_a_condvar_wait() {
        let (mutex, condition) = (Mutex::new(()), Condvar::new());
        let held = lock(&mutex);
        assert_eq!(enabled::held(), 1);
        let (held, timed_out) = wait_timeout(&condition, held, Duration::from_millis(1));
        assert!(timed_out);
        assert_eq!(enabled::held(), 1);
        drop(held);
        assert_unlocked();
    }

    #[test]
    #[should_panic(expected = "user code called while a lock is held")]
    fn user_code_under_a_lock_panics() {
        let mutex = Mutex::new(());
        let _held = lock(&mutex);
        let _result = crate::guard::guard(|| ()).is_ok();
    }
}
