// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of servers and dials when the kernel fails, over real sockets: the table of
//! `netpoll_sys::faults` has calls of the engine fail, and nothing else is different.
//!
//! ```sh
//! ci/faults
//! ```
//!
//! Whatever fails, in whichever call: nothing panics, nothing hangs, no descriptor is left, what is
//! told is true, others are served, and with the fault gone the service is back.
#![cfg(netpoll_faults)]

#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the behaviour tests use the rest"
)]
#[path = "support/support.rs"]
mod support;

#[path = "faults/cells.rs"]
mod cells;
#[path = "faults/client.rs"]
mod client;
#[path = "faults/first_dial.rs"]
mod first_dial;
#[path = "faults/kth.rs"]
mod kth;
#[path = "faults/ledger.rs"]
mod ledger;
#[path = "faults/matrix.rs"]
mod matrix;
#[path = "faults/place.rs"]
mod place;
#[path = "faults/poller.rs"]
mod poller;
#[path = "faults/scenarios.rs"]
mod scenarios;
#[path = "faults/storm.rs"]
mod storm;
#[path = "faults/work.rs"]
mod work;
