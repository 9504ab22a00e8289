// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one place that says which atomics and locks this crate is built on, so that a model
//! checker's can take their place without a second algorithm.

pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
pub(crate) use std::thread_local;
