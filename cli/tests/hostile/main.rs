// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hostile and faulty peers against the built server. Each scene attacks a server process, measures
//! the cost to the server or to its other clients, and compares it with a limit. `ci/hostile` runs
//! the scenes, and those that need a server with special handlers
//! (`crates/netpoll/tests/{stuck,churn}.rs`), and prints one line a scene.
//!
//! A plain test run ignores them: they take seconds each, and some need an otherwise idle machine.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

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

#[path = "../../src/measurement/process/stats.rs"]
mod process_stats;

// A symbolic link to the module that netpoll's own tests use.
mod scene;
