// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suites of `over_unix.rs` that say nothing of where handlers run, on threads that their futures
//! move between.

#[allow(
    dead_code,
    unused_imports,
    reason = "the other behaviour tests use the rest"
)]
#[macro_use]
#[path = "support/support.rs"]
mod support;

const RUNS: support::Runs = support::Runs::Moving;
const KIND: support::Kind = support::Kind::Unix;

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
#[path = "behaviour/fairness.rs"]
mod fairness;
#[path = "behaviour/greeting.rs"]
mod greeting;
#[path = "behaviour/half_close.rs"]
mod half_close;
#[path = "behaviour/handlers.rs"]
mod handlers;
#[path = "behaviour/hazards.rs"]
mod hazards;
#[path = "behaviour/lives.rs"]
mod lives;
#[path = "behaviour/owned.rs"]
mod owned;
#[path = "behaviour/requests.rs"]
mod requests;
#[path = "behaviour/shutdown.rs"]
mod shutdown;
