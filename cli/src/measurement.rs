// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every measurement of this command needs: servers as child processes on a processor of their
//! own, connections at rest, what to say of the machine, statistics over rounds, and how it is shown.
//!
//! Nothing here knows which servers are compared or how they are used.

pub(crate) mod idle;
pub(crate) mod launcher;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod output_file;
pub(crate) mod page;
pub(crate) mod plot;
pub(crate) mod server_process;
pub(crate) mod spread;
