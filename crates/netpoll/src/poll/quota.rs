// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits how much of one kind of work a poller does in one iteration.
//!
//! Work comes in bulk: ten thousand timers that fire at once, commands of many threads, a shutdown
//! of every connection. One iteration takes at most [`MAX_ITEMS`] items from each such queue, and
//! fewer if these take longer than [`MAX_TIME`]. The rest stays queued, in order, for the next
//! iteration, and the kernel's events are served in between. Each iteration processes at least
//! [`ITEMS_PER_CLOCK_READ`] items, so no item waits forever, and an iteration with little work
//! does not read the clock for this.

use std::time::Duration;

use crate::timestamp::Timestamp;

/// The most items of one queue in one iteration.
pub(super) const MAX_ITEMS: u32 = 256;

/// After this time, no further item of the queue begins.
const MAX_TIME: Duration = Duration::from_millis(1);

/// Items between two clock reads, and before the first.
const ITEMS_PER_CLOCK_READ: u32 = 16;

/// The remaining quota of one queue in one iteration.
#[derive(Debug)]
pub(super) struct Quota {
    remaining: u32,
    /// When the clock was first read.
    started: Option<Timestamp>,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            remaining: MAX_ITEMS,
            started: None,
        }
    }
}

impl Quota {
    /// Takes one item from the quota. Returns `false` if this iteration may process no more.
    #[inline]
    pub(super) fn take(&mut self) -> bool {
        if self.remaining == 0 {
            return false;
        }
        self.remaining -= 1;
        !self.remaining.is_multiple_of(ITEMS_PER_CLOCK_READ) || self.is_in_time()
    }

    fn is_in_time(&mut self) -> bool {
        let now = Timestamp::now();
        let begun = *self.started.get_or_insert(now);
        if now.since(begun) > MAX_TIME {
            self.remaining = 0;
        }
        self.remaining > 0
    }
}

#[cfg(test)]
mod tests;
