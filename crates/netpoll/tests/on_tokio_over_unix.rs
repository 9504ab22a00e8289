// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suites of `over_unix.rs` that say nothing of where handlers run, as tasks of a tokio runtime.

#[allow(
    dead_code,
    unused_imports,
    reason = "the other behaviour tests use the rest"
)]
#[macro_use]
#[path = "support/support.rs"]
mod support;

const RUNS: support::Runs = support::Runs::Tokio;
const KIND: support::Kind = support::Kind::Unix;

#[path = "behaviour/everywhere.rs"]
mod everywhere;
