// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes and the machine: servers as child processes on their own processor, their processor time
//! and memory, and a description of the machine.
//!
//! Nothing here depends on which servers are measured or how they are used.

pub(crate) mod launcher;
pub(crate) mod machine;
pub(crate) mod server;
pub(crate) mod stats;
