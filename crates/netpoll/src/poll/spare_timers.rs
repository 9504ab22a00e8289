// SPDX-License-Identifier: MIT OR Apache-2.0
//! The timers of a poller that have no owner at present.
//!
//! A server that waits with a timeout for each request needs a timer for each, and most are dropped
//! long before they fire. A timer that is dropped on the thread of its poller is kept here with its
//! source, and the next timer on that thread takes it: no allocation, no command, no registration.
//! A kept timer wakes nothing. The poller may check it once more, at the time that was set last.

use std::cell::RefCell;

use super::notifier::PollerId;
use super::poller_timer::TimerShared;
use crate::sync::{Arc, thread_local};

/// The most spare timers of a thread.
const MAX_SPARES: usize = 64;

/// A timer without an owner.
struct SpareTimer {
    poller: PollerId,
    shared: Arc<TimerShared>,
}

thread_local! {
    static SPARES: RefCell<Vec<SpareTimer>> = const { RefCell::new(Vec::new()) };
}

/// Returns a spare timer of `poller`, which is the caller's.
pub(super) fn take(poller: PollerId) -> Option<Arc<TimerShared>> {
    loop {
        let spare = SPARES.try_with(|spares| spares.borrow_mut().pop()).ok()??;
        if spare.poller == poller && spare.shared.is_active() {
            return Some(spare.shared);
        }
        // A timer of a poller that ended, or that this thread drove before.
        spare.shared.remove();
    }
}

/// Keeps the timer that is behind `shared`, of the caller's poller. Returns `false` if there are
/// enough.
pub(super) fn keep(poller: PollerId, shared: &Arc<TimerShared>) -> bool {
    SPARES
        .try_with(|spares| {
            let mut spares = spares.borrow_mut();
            let has_space = spares.len() < MAX_SPARES;
            if has_space {
                let shared = Arc::clone(shared);
                spares.push(SpareTimer { poller, shared });
            }
            has_space
        })
        .unwrap_or(false)
}
