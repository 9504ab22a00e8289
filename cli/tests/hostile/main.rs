// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that mean harm, and peers that cannot help it, before the built server: each scene does
//! something to a process of its own, measures what that costs the server or its other clients, and
//! holds it against a limit. `ci/hostile` runs them, and those that need a server with handlers of
//! their own (`crates/netpoll/tests/{stuck,churn}.rs`), and prints a line a scene.
//!
//! They are ignored by a plain test run: they take seconds each, and some want a machine that does
//! little else.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by a panic"
)]

mod exhaustion;
mod flood;
mod half_close;
mod lengths;
mod sigterm;
mod slow;
mod storm;
mod unread;
mod victim;

#[expect(dead_code, reason = "the tests of the command use the rest")]
#[path = "../command/support.rs"]
mod support;

#[path = "../../src/process_stats.rs"]
mod process_stats;

// A link to the one that netpoll's own tests use.
mod scene;
