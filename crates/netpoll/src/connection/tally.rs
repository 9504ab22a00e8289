// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one connection has done so far, where others than its poller can see it.
//!
//! Its poller writes, anybody reads.

use std::time::Instant;

use super::Connection;
use super::handle::ConnectionHandle;
use super::link::Link;
use crate::error::CloseReason;
use crate::moment::Moment;
use crate::poll::source::Turn;
use crate::stats::ConnStats;
use crate::stats::counters::Counter;
use crate::sync::lock;

/// What a connection's poller counts of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Bytes that have come.
    pub(super) received: Counter,
    /// Requests that were handled.
    pub(super) requests: Counter,
    /// When bytes last moved, either way.
    active: Counter,
}

impl Tally {
    /// Bytes have moved.
    #[inline]
    pub(super) fn moved(&self, now: Moment) {
        self.active.set(now.bits());
    }

    /// Bytes have moved in this run of the source.
    #[inline]
    pub(super) fn note(&self, turn: &mut Turn) {
        if let Some(now) = turn.note() {
            self.moved(now);
        }
    }

    /// When bytes last moved.
    pub(super) fn active(&self) -> Instant {
        self.last_active().instant()
    }

    pub(super) fn last_active(&self) -> Moment {
        Moment::from_bits(self.active.get())
    }
}

/// What has left by other hands than the session's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sends {
    pub(super) sends: u64,
    pub(super) sent: u64,
    pub(super) blocks: u64,
    /// When bytes last did.
    pub(super) at: Option<Moment>,
}

impl Link {
    /// Counts what others than the session have sent till now. Only on the poller.
    pub(super) fn count_all_elsewhere(&self) {
        let elsewhere = lock(&self.outbox).take_elsewhere_sent();
        if let Some(elsewhere) = elsewhere {
            self.count_elsewhere(elsewhere);
        }
    }

    /// Counts what others than the session have sent. Only on the poller.
    pub(super) fn count_elsewhere(&self, elsewhere: Sends) {
        if let Some(at) = elsewhere.at {
            self.tally.moved(at.max(self.tally.last_active()));
        }
        let counters = &self.bell.counters().poller;
        counters.sends.add(elsewhere.sends);
        counters.sent.add(elsewhere.sent);
        counters.blocks.add(elsewhere.blocks);
    }

    /// Counts a burst that is over, and the requests of it. Only on the poller.
    #[inline]
    pub(super) fn count_burst(&self, requests: u32) {
        let counters = &self.bell.counters().poller;
        counters.bursts.add(1);
        counters.requests.add(u64::from(requests));
        self.tally.requests.add(u64::from(requests));
    }

    /// Counts the end of the connection, and what had not been counted. Only on the poller.
    pub(super) fn count_end(&self, reason: Option<&CloseReason>) {
        self.count_all_elsewhere();
        let counters = self.bell.counters();
        counters.poller.ended.add(1);
        if let Some(reason) = reason {
            counters.closed.count(reason);
            self.span.close(reason);
        }
    }

    fn stats(&self) -> ConnStats {
        let waiting = self.inbox_if_any().map_or(0, |inbox| inbox.chain.len());
        let outbox = lock(&self.outbox);
        let (sent, unsent) = (outbox.sent, outbox.unsent());
        drop(outbox);
        ConnStats {
            received: self.tally.received.get(),
            sent,
            requests: self.tally.requests.get(),
            waiting,
            unsent,
            idle: Moment::now().since(self.tally.last_active()),
        }
    }
}

impl Connection {
    /// What it has done so far. A clock read, and two locks for a few instructions each.
    #[must_use]
    pub fn stats(&self) -> ConnStats {
        let mut stats = self.link.stats();
        stats.waiting += self.held.input.chain.len();
        stats
    }
}

impl ConnectionHandle {
    /// As [`Connection::stats`](crate::Connection::stats); `None` if nothing is left of the
    /// connection.
    #[must_use]
    pub fn stats(&self) -> Option<ConnStats> {
        self.link().map(|link| link.stats())
    }
}
