// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts that all measurements of this command share: servers as child processes on their own
//! processor, idle connections, a description of the machine, statistics over rounds, plots and
//! pages.
//!
//! Nothing here depends on which servers are measured or how they are used.

pub(crate) mod idle;
pub(crate) mod launcher;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod output_file;
pub(crate) mod page;
pub(crate) mod plot;
pub(crate) mod server_process;
pub(crate) mod spread;
