// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suites that make no statement about the kind of socket or the thread of handlers.
//! `settings.rs` runs them again with each setting.

mod abort;
mod accept;
mod arrival;
mod calls;
mod close;
mod drain;
mod fairness;
mod half_close;
mod handlers;
mod lifecycle;
mod many_connections;
mod on_connect;
mod owned_connections;
mod requests;
mod shutdown;
mod shutdown_deadline;
