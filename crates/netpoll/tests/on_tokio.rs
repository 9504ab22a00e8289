// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suites of `on_threads.rs`, as tasks of a tokio runtime.

#[allow(
    dead_code,
    unused_imports,
    reason = "the other behaviour tests use the rest"
)]
#[macro_use]
#[path = "support/support.rs"]
mod support;

const RUNS: support::Runs = support::Runs::Tokio;
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
#[path = "behaviour/timeouts.rs"]
mod timeouts;
#[path = "behaviour/tokio_tasks.rs"]
mod tokio_tasks;
#[path = "behaviour/vanish.rs"]
mod vanish;
