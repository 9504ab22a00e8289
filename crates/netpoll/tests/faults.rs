// SPDX-License-Identifier: MIT OR Apache-2.0
//! How servers and dials behave when system calls fail, over real sockets: the table of
//! `netpoll_sys::faults` makes calls of the engine fail, and nothing else differs.
//!
//! ```sh
//! ci/faults
//! ```
//!
//! For every error of every call: nothing panics, nothing hangs, no descriptor leaks, every
//! reported error is the injected one, other connections are served, and the service works again
//! without the fault.
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
