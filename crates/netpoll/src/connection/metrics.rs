// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters of one connection that threads other than its poller can read.
//!
//! Only the poller writes them.

use std::time::Instant;

use super::Connection;
use super::handle::ConnectionHandle;
use super::shared::Shared;
use crate::error::CloseReason;
use crate::poll::source::SourceContext;
use crate::stats::ConnStats;
use crate::stats::counters::Counter;
use crate::sync::lock;
use crate::timestamp::Timestamp;

/// The counters that a connection's poller keeps.
#[derive(Debug, Default)]
pub(crate) struct ConnectionMetrics {
    /// Bytes received.
    pub(super) received: Counter,
    /// Requests handled.
    pub(super) requests: Counter,
    /// When bytes last moved in either direction.
    last_active: Counter,
}

impl ConnectionMetrics {
    /// Records that bytes moved at `now`.
    #[inline]
    pub(super) fn record_activity(&self, now: Timestamp) {
        self.last_active.set(now.bits());
    }

    /// Records that bytes moved in this run of the source.
    #[inline]
    pub(super) fn touch(&self, context: &mut SourceContext) {
        if let Some(now) = context.touch() {
            self.record_activity(now);
        }
    }

    /// Returns when bytes last moved.
    pub(super) fn last_active_at(&self) -> Instant {
        self.last_active().to_instant()
    }

    pub(super) fn last_active(&self) -> Timestamp {
        Timestamp::from_bits(self.last_active.get())
    }
}

/// Sends that other threads made for the connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendCounts {
    pub(super) sends: u64,
    pub(super) sent: u64,
    pub(super) blocks: u64,
    /// When they last sent bytes.
    pub(super) last_at: Option<Timestamp>,
}

impl Shared {
    /// Counts the sends of other threads until now. Call it only on the poller.
    pub(super) fn collect_off_poller_sends(&self) {
        let off_poller = lock(&self.output_buffer).take_off_poller_counts();
        if let Some(off_poller) = off_poller {
            self.count_off_poller_sends(off_poller);
        }
    }

    /// Counts the sends of other threads. Call it only on the poller.
    pub(super) fn count_off_poller_sends(&self, off_poller: SendCounts) {
        if let Some(at) = off_poller.last_at {
            self.metrics
                .record_activity(at.max(self.metrics.last_active()));
        }
        let counters = &self.notifier.counters().poller;
        counters.sends.add(off_poller.sends);
        counters.sent.add(off_poller.sent);
        counters.blocked_sends.add(off_poller.blocks);
    }

    /// Counts a completed request batch and its requests. Call it only on the poller.
    #[inline]
    pub(super) fn count_batch(&self, requests: u32) {
        let counters = &self.notifier.counters().poller;
        counters.batches.add(1);
        counters.requests.add(u64::from(requests));
        self.metrics.requests.add(u64::from(requests));
    }

    /// Counts the end of the connection, and the sends that were not counted yet. Call it only on
    /// the poller.
    pub(super) fn count_close(&self, reason: Option<&CloseReason>) {
        self.collect_off_poller_sends();
        let counters = self.notifier.counters();
        counters.poller.closed.add(1);
        if let Some(reason) = reason {
            counters.closed.count(reason);
            self.span.close(reason);
        }
    }

    fn stats(&self) -> ConnStats {
        let waiting = self
            .input_buffer_if_any()
            .map_or(0, |input_buffer| input_buffer.buffer.len());
        let output_buffer = lock(&self.output_buffer);
        let (sent, unsent) = (output_buffer.sent, output_buffer.unsent());
        drop(output_buffer);
        ConnStats {
            received: self.metrics.received.get(),
            sent,
            requests: self.metrics.requests.get(),
            waiting,
            unsent,
            idle: Timestamp::now().since(self.metrics.last_active()),
        }
    }
}

impl Connection {
    /// Returns the statistics of the connection so far. Costs a clock read, and two locks for a few
    /// instructions each.
    #[must_use]
    pub fn stats(&self) -> ConnStats {
        let mut stats = self.shared.stats();
        stats.waiting += self.local.reader.buffer.len();
        stats
    }
}

impl ConnectionHandle {
    /// Returns the statistics as [`Connection::stats`](crate::Connection::stats) does, or `None` if
    /// the connection was already dropped.
    #[must_use]
    pub fn stats(&self) -> Option<ConnStats> {
        self.shared().map(|shared| shared.stats())
    }
}
