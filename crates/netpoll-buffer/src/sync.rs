// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one place that says which atomics and locks this crate is built on: the standard library's,
//! or, with `--cfg netpoll_loom`, those of the model checker that `tests/loom.rs` runs under. It
//! runs through the interleavings of what ships, and there is no second algorithm.
//!
//! The checker sees what goes through its own types, and the memory of a block does not. That is
//! what [`AccessTracker`] is for.

#[cfg(netpoll_loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic::AtomicUsize};
#[cfg(not(netpoll_loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic::AtomicUsize};

#[cfg(not(netpoll_loom))]
pub(crate) use std::thread_local;

/// The checker runs all threads of a model on one, so it has variables of its own to keep them
/// apart; those begin without the word `const`.
#[cfg(netpoll_loom)]
macro_rules! loom_thread_local {
    ($(#[$about:meta])* static $name:ident: $type:ty = const { $first:expr };) => {
        loom::thread_local! { $(#[$about])* static $name: $type = $first; }
    };
}
#[cfg(netpoll_loom)]
pub(crate) use loom_thread_local as thread_local;

pub(crate) use std::sync::{PoisonError, atomic::Ordering};

/// A counter that hands out numbers and orders nothing, so no protocol stands on it and the model
/// checker need not see it. Unlike its atomics, this one can be a `static`.
pub(crate) use std::sync::atomic::AtomicUsize as StaticCounter;

/// Stands for the memory of a block in a model: the checker fails an interleaving in which a write
/// is not ordered with every other use. To read is to look at a window. To write is to end what the
/// block held, whose windows must all be gone: to start again at its front, to take it home, to
/// lend it. What a tail writes behind them is no use of theirs, and is not told (B2, B3).
///
/// Nothing of it is left outside of models.
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
const _: () = assert!(size_of::<AccessTracker>() == 0, "a witness takes no place");
