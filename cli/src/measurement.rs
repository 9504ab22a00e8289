// SPDX-License-Identifier: MIT OR Apache-2.0
//! The measuring tools: `netpoll load`, `netpoll demo` and `netpoll compare`, and the parts that they
//! share: child processes, progress, statistics over rounds, plots and pages.
//!
//! The tools use nothing of [`crate::serve`]; they start servers as child processes.

pub(crate) mod compare;
pub(crate) mod demo;
mod idle_memory;
pub(crate) mod load;
mod output_file;
mod page;
mod plot;
pub(crate) mod process;
mod progress;
mod spread;
