// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one place that says which atomics and locks this crate is built on.

pub(crate) use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Locks, also where a panic has poisoned the lock: no lock of this crate is held over user code,
/// and every critical section leaves its data whole at each step.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
