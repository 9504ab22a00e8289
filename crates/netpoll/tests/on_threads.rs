// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suites of `behaviour.rs` that say nothing of where handlers run, on threads that their futures
//! stay on. What holds on the poller alone is in `behaviour/on_the_poller.rs`; what reads and writes off
//! it anyway, and what is of listeners alone, is not run again.

#[allow(
    dead_code,
    unused_imports,
    reason = "the other behaviour tests use the rest"
)]
#[macro_use]
#[path = "support/support.rs"]
mod support;

const RUNS: support::Runs = support::Runs::Pinned;
const KIND: support::Kind = support::Kind::Tcp;

#[path = "behaviour/deadlines.rs"]
mod deadlines;
#[path = "behaviour/dial.rs"]
mod dial;
#[path = "behaviour/everywhere.rs"]
mod everywhere;
#[path = "behaviour/flow.rs"]
mod flow;
#[path = "behaviour/hazards.rs"]
mod hazards;
#[path = "behaviour/limits.rs"]
mod limits;
#[path = "behaviour/pinned.rs"]
mod pinned;
#[path = "behaviour/timeouts.rs"]
mod timeouts;
#[path = "behaviour/vanish.rs"]
mod vanish;
#[path = "behaviour/wrong.rs"]
mod wrong;
