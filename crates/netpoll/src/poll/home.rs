// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which poller a source belongs to that nobody has chosen one for: a connection that is dialed, a
//! timer.
//!
//! On a poller, or in a handler that works for one: that one, so that a proxy's two sides need no
//! hop. Elsewhere one of a set that all of the process share.

use std::io;

use netpoll_buffer::Pool;

use super::bell;
use super::mailbox::Letter;
use super::set::PollerSet;
use super::source::Birth;
use crate::budget::Budget;
use crate::sync::{Arc, OnceLock, PoisonError};

/// Has a source made on the poller that the caller's sources belong to.
pub(crate) fn hand_over(birth: Birth) -> io::Result<()> {
    match bell::mailbox_here() {
        Some(here) => here.post(Letter::Register(birth)),
        None => shared_set()?.least_connections().register(birth),
    }
    Ok(())
}

/// The pollers of all that is not made on a poller. If they cannot be started, the next call tries
/// again: descriptors run out and come back.
fn shared_set() -> io::Result<&'static PollerSet> {
    static SET: OnceLock<PollerSet> = OnceLock::new();
    // The standard library's: no model dials, and a model checker's lock cannot be a static.
    static STARTING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    if let Some(set) = SET.get() {
        return Ok(set);
    }
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    match SET.get() {
        Some(set) => Ok(set),
        None => {
            let budget = Budget::of(Pool::of_thread(), usize::MAX);
            let set = PollerSet::start(&[Arc::default()], &budget, None)?;
            Ok(SET.get_or_init(|| set))
        }
    }
}
