// SPDX-License-Identifier: MIT OR Apache-2.0
//! hyper on pollers: its traits for I/O, timers and executors.
//!
//! [`Connection`](crate::Connection) and its owned halves implement `hyper::rt::{Read, Write}`.
//! [`Timer`] gives hyper the timers of the poller. Of the two executors, [`LocalExecutor`] runs the
//! requests of an HTTP/2 connection within its handler, and [`Executor`] as tasks of the poller.

mod executor;
mod io;
mod timer;

pub use executor::{Executor, LocalExecutor};
pub use timer::Timer;
