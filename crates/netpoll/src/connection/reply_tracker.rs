// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether an answer may be owed by somebody whom nobody sees: the owner of a connection's other half, or
//! a task that has its write queue.
//!
//! Such a one works without waiting for anything of the connection. What can be seen is what he puts.
//! So from when input has come until something is put, he may be at work on the answer.

use super::extensions::Extensions;
use super::shared::Shared;
use crate::sync::{Arc, AtomicU8, AtomicU64, Ordering, lock};

/// Whoever may owe has come to the connection, and no input since.
const BEFORE_INPUT: u64 = 1 << 63;

/// What had been put when input came, for whoever answers aside.
#[derive(Debug, Default)]
pub(super) struct ReplyTracker {
    /// One more than the bytes that had been put, with [`BEFORE_INPUT`]; nothing is owed if it is 0.
    put_total: AtomicU64,
    /// What had come before that input.
    received: AtomicU64,
    /// Whether the writer has another owner than the reader.
    split: AtomicU8,
}

impl ReplyTracker {
    /// Input has come behind `received` bytes, when so many had been put. Who owes already still does,
    /// for what came first.
    pub(super) fn on_input(&self, put: u64, received: u64) {
        // Relaxed: pairs with `is_open`; only the poller and whoever splits write these.
        if self.put_total.load(Ordering::Relaxed) != put + 1 {
            self.received.store(received, Ordering::Relaxed);
            self.put_total.store(put + 1, Ordering::Relaxed);
        }
    }

    /// Whether nothing was put since, where so many bytes were by now, and what came was `consumed` so
    /// far: to a peer that has begun something and does not end it nothing is owed for that, nor for
    /// nothing.
    pub(super) fn is_reply_pending(&self, put: u64, consumed: u64, begun: bool) -> bool {
        // Relaxed: pairs with `begin`.
        match self.put_total.load(Ordering::Relaxed) {
            owed if owed == put + 1 => consumed > self.received.load(Ordering::Relaxed),
            owed => owed == (put + 1) | BEFORE_INPUT && !begun,
        }
    }

    fn expect_from_now(&self, put: u64) {
        // Relaxed: as in `begin`; and a poller that sees it late takes the connection for idle no
        // earlier than it would have been.
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
    /// Whether somebody who does not read may answer.
    #[inline]
    pub(super) fn has_separate_writer(&self) -> bool {
        self.reply_tracker.is_split()
            || self
                .wait_queue
                .get()
                .is_some_and(|line| Arc::strong_count(line) > 1)
    }
}

impl Shared {
    /// The writer has an owner of its own from now on.
    pub(super) fn mark_split(&self) {
        let put = lock(&self.output_buffer).total_put();
        self.extensions.get_or_make().reply_tracker.on_split(put);
    }

    /// Somebody has the write queue from now on, and may have it for what has come.
    pub(super) fn expect_queue_reply(&self) {
        if self.metrics.received.get() > 0 {
            let put = lock(&self.output_buffer).total_put();
            self.extensions
                .get_or_make()
                .reply_tracker
                .expect_from_now(put);
        }
    }

    /// It has none any more.
    pub(super) fn mark_reunited(&self) {
        if let Some(extensions) = self.extensions.get() {
            // Relaxed: as in `split`.
            extensions.reply_tracker.split.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_owed_from_input_that_was_consumed_to_the_next_put() {
        let debt = ReplyTracker::default();
        assert!(!debt.is_reply_pending(0, 0, false), "nothing has come");
        debt.on_input(0, 0);
        assert!(
            !debt.is_reply_pending(0, 0, true),
            "nothing of it was consumed"
        );
        assert!(debt.is_reply_pending(0, 4, false) && debt.is_reply_pending(0, 4, true));
        debt.on_input(0, 4);
        assert!(debt.is_reply_pending(0, 4, true), "for what came first");
        assert!(!debt.is_reply_pending(5, 8, false));
        debt.on_input(5, 8);
        assert!(debt.is_reply_pending(5, 9, false) && !debt.is_reply_pending(6, 9, false));
    }

    #[test]
    fn an_owner_of_a_half_may_owe_from_the_beginning() {
        let debt = ReplyTracker::default();
        debt.on_split(7);
        assert!(debt.is_split() && debt.is_reply_pending(7, 0, false));
        assert!(
            !debt.is_reply_pending(7, 0, true),
            "to whom has begun and not ended"
        );
        assert!(!debt.is_reply_pending(8, 0, false));
    }
}
