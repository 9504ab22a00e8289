// SPDX-License-Identifier: MIT OR Apache-2.0
//! The atomics and locks of this crate, in one place: the standard library's, or those of a model
//! checker that runs the shipped code through its interleavings (see `models`). `--cfg
//! netpoll_loom` selects those of loom, `--cfg netpoll_shuttle` those of shuttle. Reference counts
//! are always the standard library's, and cells that are filled once are its or `once_cell`'s: no
//! protocol depends on them, only on the locks inside them.
//!
//! No lock of this crate is held while foreign code runs: see [`foreign`](crate::foreign). A build
//! with debug assertions counts the locks that a thread holds, and [`guard`](crate::guard) panics
//! if it is to call foreign code under one.

mod lock;

#[cfg(netpoll_loom)]
pub(crate) use loom::sync::{
    Condvar, Mutex,
    atomic::{AtomicU8, AtomicUsize},
};
#[cfg(netpoll_shuttle)]
pub(crate) use shuttle::sync::{
    Condvar, Mutex,
    atomic::{AtomicU8, AtomicUsize},
};
#[cfg(not(any(netpoll_loom, netpoll_shuttle)))]
pub(crate) use std::sync::{
    Condvar, Mutex,
    atomic::{AtomicU8, AtomicUsize},
};

#[cfg(netpoll_loom)]
#[cfg(test)]
pub(crate) use loom::thread;
#[cfg(netpoll_shuttle)]
#[cfg(test)]
pub(crate) use shuttle::thread;

pub(crate) use lock::{MutexGuard, assert_unlocked, lock, wait, wait_timeout};
pub(crate) use once_cell::race::OnceBox;
/// For parked threads and spawned futures: no model has either, and a checker's atomic cannot outlive
/// a run.
pub(crate) use std::sync::atomic::AtomicBool;
/// For counters with one writing thread, which no protocol depends on either.
pub(crate) use std::sync::atomic::AtomicU64;
pub(crate) use std::sync::atomic::Ordering;
pub(crate) use std::sync::{Arc, OnceLock, PoisonError};

#[cfg(not(any(netpoll_loom, netpoll_shuttle)))]
pub(crate) use std::thread_local;

/// A checker runs all threads of a model on one, so it has thread-locals of its own; their
/// initializers have no `const`.
#[cfg(any(netpoll_loom, netpoll_shuttle))]
macro_rules! model_thread_local {
    ($(#[$about:meta])* static $name:ident: $type:ty = const { $first:expr };) => {
        #[cfg(netpoll_loom)]
        loom::thread_local! { $(#[$about])* static $name: $type = $first; }
        #[cfg(netpoll_shuttle)]
        shuttle::thread_local! { $(#[$about])* static $name: $type = $first; }
    };
}
#[cfg(any(netpoll_loom, netpoll_shuttle))]
pub(crate) use model_thread_local as thread_local;
