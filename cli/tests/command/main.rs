// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command as its users meet it: the built binary, its two output streams, its status.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by a panic"
)]

mod awake;
mod churn;
mod client;
mod compare;
mod demo;
mod kinds;
mod lateness;
mod load;
mod reference;
mod refusals;
mod runners;
mod serve;
mod statistics;
mod support;
mod unread;
