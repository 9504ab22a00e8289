// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suites that every program of behaviour tests runs: over either kind of socket, wherever
//! handlers run.

mod aborting;
mod accepting;
mod arriving;
mod calls;
mod closing;
mod crowd;
mod cut;
mod draining;
mod fairness;
mod greeting;
mod half_close;
mod handlers;
mod lives;
mod owned;
mod requests;
mod shutdown;
