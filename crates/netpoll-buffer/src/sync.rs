// SPDX-License-Identifier: MIT OR Apache-2.0
//! The atomics and locks that this crate is built on: the standard library's, or, with `--cfg
//! netpoll_loom`, those of the model checker that `tests/loom.rs` runs under. The checker explores
//! the interleavings of the shipped code; there is no second algorithm.
//!
//! The checker observes its own types only, and the memory of a block is none of them.
//! [`AccessTracker`] stands for it.

#[cfg(netpoll_loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic::AtomicUsize};
#[cfg(not(netpoll_loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic::AtomicUsize};

#[cfg(not(netpoll_loom))]
pub(crate) use std::thread_local;

/// The checker runs all threads of a model on one, so it has thread-locals of its own to keep them
/// apart; their syntax has no `const`.
#[cfg(netpoll_loom)]
macro_rules! loom_thread_local {
    ($(#[$about:meta])* static $name:ident: $type:ty = const { $first:expr };) => {
        loom::thread_local! { $(#[$about])* static $name: $type = $first; }
    };
}
#[cfg(netpoll_loom)]
pub(crate) use loom_thread_local as thread_local;

pub(crate) use std::sync::{PoisonError, atomic::Ordering};

/// A counter that hands out numbers and orders nothing. No protocol depends on it, so the model
/// checker need not observe it. Unlike the checker's atomics, this one can be a `static`.
pub(crate) use std::sync::atomic::AtomicUsize as StaticCounter;

/// Stands for the memory of a block in a model: the checker fails an interleaving in which a write
/// is not ordered with every other access. A read is a look at a window. A write ends the contents
/// of the block, whose windows must all be gone: a rewind, a release, an allocation. Writes of a
/// tail behind the windows do not touch them, and are not tracked (B2, B3).
///
/// Outside of models it compiles to nothing.
#[derive(Debug)]
pub(crate) struct AccessTracker {
    #[cfg(netpoll_loom)]
    memory: loom::cell::UnsafeCell<()>,
}

impl AccessTracker {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(netpoll_loom)]
            memory: loom::cell::UnsafeCell::new(()),
        }
    }

    #[inline(always)]
    pub(crate) fn read(&self) {
        #[cfg(netpoll_loom)]
        self.memory.with(|_| ());
    }

    #[inline(always)]
    pub(crate) fn write(&self) {
        #[cfg(netpoll_loom)]
        self.memory.with_mut(|_| ());
    }
}

#[cfg(not(netpoll_loom))]
const _: () = assert!(size_of::<AccessTracker>() == 0, "a tracker is zero-sized");
