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

#[path = "behaviour/accepting.rs"]
mod accepting;
#[path = "behaviour/arriving.rs"]
mod arriving;
#[path = "behaviour/calls.rs"]
mod calls;
#[path = "behaviour/closing.rs"]
mod closing;
#[path = "behaviour/crowd.rs"]
mod crowd;
#[path = "behaviour/cut.rs"]
mod cut;
#[path = "behaviour/deadlines.rs"]
mod deadlines;
#[path = "behaviour/dial.rs"]
mod dial;
#[path = "behaviour/fairness.rs"]
mod fairness;
#[path = "behaviour/flow.rs"]
mod flow;
#[path = "behaviour/greeting.rs"]
mod greeting;
#[path = "behaviour/half_close.rs"]
mod half_close;
#[path = "behaviour/handlers.rs"]
mod handlers;
#[path = "behaviour/hazards.rs"]
mod hazards;
#[path = "behaviour/limits.rs"]
mod limits;
#[path = "behaviour/lives.rs"]
mod lives;
#[path = "behaviour/owned.rs"]
mod owned;
#[path = "behaviour/pinned.rs"]
mod pinned;
#[path = "behaviour/requests.rs"]
mod requests;
#[path = "behaviour/shutdown.rs"]
mod shutdown;
#[path = "behaviour/timeouts.rs"]
mod timeouts;
#[path = "behaviour/vanish.rs"]
mod vanish;
#[path = "behaviour/wrong.rs"]
mod wrong;
