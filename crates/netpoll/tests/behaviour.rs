// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user of netpoll sees, over real sockets. Nothing here sleeps to synchronise; whatever
//! waits, waits with a limit.

#[path = "support/support.rs"]
mod support;

#[path = "behaviour/requests.rs"]
mod requests;
