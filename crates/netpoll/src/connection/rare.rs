// SPDX-License-Identifier: MIT OR Apache-2.0
//! What only few connections have, in one place that the others do not pay for.

use std::fmt;
use std::net::SocketAddr;

use super::debt::Debt;
use super::draining::Drains;
use super::end_watch::Watched;
use super::in_flight::Workload;
use super::notices::Notices;
use super::serve::Successor;
use super::write_queue::Line;
use crate::addr::Addr;
use crate::error::CloseReason;
use crate::sync::{Arc, AtomicUsize, Mutex, OnceBox, OnceLock, lock};
use crate::timeouts::Timeouts;

/// What a connection has that was asked for something rare.
#[derive(Default)]
pub(crate) struct Rare {
    /// What stands in place of the options' timeouts, once that was changed.
    pub(super) timeouts: Mutex<Option<Timeouts>>,
    pub(super) notices: Notices,
    pub(super) workload: Workload,
    pub(super) debt: Debt,
    pub(super) drains: Drains,
    pub(super) watch: OnceLock<Watched>,
    pub(super) successor: Mutex<Option<Successor>>,
    /// Who waits on its write queue, once it has one.
    pub(super) line: OnceLock<Arc<Line>>,
    /// Who the peer is, where that is another one than was dialed.
    pub(super) peer: OnceLock<Box<Addr>>,
    /// How many bytes came after its end had begun, and were thrown away.
    pub(super) late: AtomicUsize,
    /// Where this end was when it was reset.
    pub(super) local_addr: OnceLock<SocketAddr>,
}

impl fmt::Debug for Rare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rare")
            .field("timeouts", &self.timeouts)
            .field("notices", &self.notices)
            .finish_non_exhaustive()
    }
}

/// A link's place for it: empty until something is asked for, and then never again.
#[derive(Debug, Default)]
pub(super) struct Rarely(OnceBox<Arc<Rare>>);

impl Rarely {
    /// What there is. No lock.
    #[inline]
    pub(super) fn get(&self) -> Option<&Arc<Rare>> {
        self.0.get()
    }

    /// What there is; two allocations if that is nothing.
    pub(super) fn get_or_make(&self) -> &Arc<Rare> {
        self.0.get_or_init(Box::default)
    }

    /// The timeouts, if they were changed.
    pub(super) fn timeouts(&self) -> Option<Timeouts> {
        self.get().and_then(|rare| *lock(&rare.timeouts))
    }
}

impl Drop for Rarely {
    /// A connection that no poller has brought to its end has had one all the same.
    fn drop(&mut self) {
        if let Some(rare) = self.get() {
            if let Some(line) = rare.line.get() {
                line.over(CloseReason::Forgotten);
            }
            rare.drains.begin();
            rare.notices.end(CloseReason::Forgotten);
            rare.notices.over(CloseReason::Forgotten);
        }
    }
}
