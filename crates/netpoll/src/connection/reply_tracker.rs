// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tracks whether a reply may be pending from a writer that does not read: the owner of a
//! connection's write half, or a task with its write queue.
//!
//! The engine does not see such a writer at work, only its puts. So a reply may be pending from the
//! arrival of input until the next put.

use super::extensions::Extensions;
use super::shared::Shared;
use crate::sync::{Arc, AtomicU8, AtomicU64, Ordering, lock};

/// The writer was added to the connection, and no input has come since.
const BEFORE_INPUT: u64 = 1 << 63;

/// The output and input totals at the time input came, for writers that do not read.
#[derive(Debug, Default)]
pub(super) struct ReplyTracker {
    /// One more than the total of bytes put, with [`BEFORE_INPUT`]; 0 if no reply is pending.
    put_total: AtomicU64,
    /// The total of bytes received before that input.
    received: AtomicU64,
    /// Whether the reader and the writer have separate owners.
    split: AtomicU8,
}

impl ReplyTracker {
    /// Records input that came behind `received` bytes, when `put` bytes had been put. A reply that
    /// is pending already stays pending, for the earlier input.
    pub(super) fn on_input(&self, put: u64, received: u64) {
        // Relaxed: pairs with `is_reply_pending`; only the poller and the code that splits the
        // connection write these.
        if self.put_total.load(Ordering::Relaxed) != put + 1 {
            self.received.store(received, Ordering::Relaxed);
            self.put_total.store(put + 1, Ordering::Relaxed);
        }
    }

    /// Returns whether a reply is pending, with `put` bytes put and `consumed` bytes consumed by
    /// now. After input it is pending if nothing was put since, and some of the input was consumed:
    /// an incomplete request needs no reply. A writer that was added before any input has a pending
    /// reply until its first put, unless an incomplete request has `begun`.
    pub(super) fn is_reply_pending(&self, put: u64, consumed: u64, begun: bool) -> bool {
        // Relaxed: pairs with `on_input`.
        match self.put_total.load(Ordering::Relaxed) {
            pending if pending == put + 1 => consumed > self.received.load(Ordering::Relaxed),
            pending => pending == (put + 1) | BEFORE_INPUT && !begun,
        }
    }

    fn expect_from_now(&self, put: u64) {
        // Relaxed: as in `on_input`; and a poller that sees it late takes the connection for idle
        // no earlier than it would have been.
        self.put_total
            .store((put + 1) | BEFORE_INPUT, Ordering::Relaxed);
    }

    fn on_split(&self, put: u64) {
        self.expect_from_now(put);
        // Relaxed: as above.
        self.split.store(1, Ordering::Relaxed);
    }

    fn is_split(&self) -> bool {
        // Relaxed: as above.
        self.split.load(Ordering::Relaxed) != 0
    }
}

impl Extensions {
    /// Returns whether a writer that does not read may reply.
    #[inline]
    pub(super) fn has_separate_writer(&self) -> bool {
        self.reply_tracker.is_split()
            || self
                .wait_queue
                .get()
                .is_some_and(|queue| Arc::strong_count(queue) > 1)
    }
}

impl Shared {
    /// Records `count` bytes of input, to which a separate writer may owe a reply. Call it only on
    /// the poller, when they are counted.
    #[inline]
    pub(super) fn track_reply(&self, count: usize) {
        if let Some(extensions) = self.extensions.get()
            && extensions.has_separate_writer()
        {
            let before = self.metrics.received.get() - count as u64;
            let put = lock(&self.output_buffer).total_put();
            extensions.reply_tracker.on_input(put, before);
        }
    }

    /// Records that the writer has an owner of its own.
    pub(super) fn mark_split(&self) {
        let put = lock(&self.output_buffer).total_put();
        self.extensions.get_or_make().reply_tracker.on_split(put);
    }

    /// Records a new holder of the write queue, which may have it to reply to earlier input.
    pub(super) fn expect_queue_reply(&self) {
        if self.metrics.received.get() > 0 {
            let put = lock(&self.output_buffer).total_put();
            self.extensions
                .get_or_make()
                .reply_tracker
                .expect_from_now(put);
        }
    }

    /// Records that the reader and the writer have one owner again.
    pub(super) fn mark_reunited(&self) {
        if let Some(extensions) = self.extensions.get() {
            // Relaxed: as in `on_split`.
            extensions.reply_tracker.split.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_is_pending_from_consumed_input_until_the_next_put() {
        let tracker = ReplyTracker::default();
        assert!(!tracker.is_reply_pending(0, 0, false), "no input has come");
        tracker.on_input(0, 0);
        assert!(
            !tracker.is_reply_pending(0, 0, true),
            "none of the input was consumed"
        );
        assert!(tracker.is_reply_pending(0, 4, false) && tracker.is_reply_pending(0, 4, true));
        tracker.on_input(0, 4);
        assert!(
            tracker.is_reply_pending(0, 4, true),
            "for the earlier input"
        );
        assert!(!tracker.is_reply_pending(5, 8, false));
        tracker.on_input(5, 8);
        assert!(tracker.is_reply_pending(5, 9, false) && !tracker.is_reply_pending(6, 9, false));
    }

    #[test]
    fn split_writer_may_have_a_pending_reply_before_any_input() {
        let tracker = ReplyTracker::default();
        tracker.on_split(7);
        assert!(tracker.is_split() && tracker.is_reply_pending(7, 0, false));
        assert!(
            !tracker.is_reply_pending(7, 0, true),
            "the peer's request is incomplete"
        );
        assert!(!tracker.is_reply_pending(8, 0, false));
    }
}
