// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the command from outside: the built binary, its two outputs, its status.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

mod busy_poll;
mod churn;
mod client;
mod compare;
mod demo;
mod kinds;
mod lateness;
mod load;
mod page;
mod reference;
mod rejections;
mod runners;
mod serve;
mod statistics;
mod support;
mod unread;
