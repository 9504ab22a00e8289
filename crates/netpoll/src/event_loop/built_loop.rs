// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`BuiltLoop`]: the facts about a built loop that its handles read.

use crate::addr::Addr;
use crate::admission::{AcceptStats, AdmissionControl};
use crate::budget::Budget;
use crate::stats::counters::Counters;
use crate::sync::{Arc, Mutex, lock};

/// The facts about a loop that exist once it is built, and outlive it.
#[derive(Debug)]
pub(crate) struct BuiltLoop {
    pub(super) local_addrs: Vec<Addr>,
    pub(super) budget: Budget,
    /// The counters of each poller. Their number is the number of pollers.
    pub(super) counters: Arc<[Arc<Counters>]>,
    accept_stats: Mutex<AcceptCounts>,
}

/// The source of the accept statistics.
#[derive(Debug)]
enum AcceptCounts {
    Live(Arc<AdmissionControl>),
    /// Admission control owns the event sink, and the sink may own a handle of the loop. So it is
    /// released when the loop ends.
    Final(AcceptStats),
}

impl BuiltLoop {
    pub(super) fn new(
        local_addrs: Vec<Addr>,
        counters: Arc<[Arc<Counters>]>,
        admission: Arc<AdmissionControl>,
    ) -> Self {
        Self {
            local_addrs,
            budget: admission.budget().clone(),
            counters,
            accept_stats: Mutex::new(AcceptCounts::Live(admission)),
        }
    }

    pub(super) fn accept_stats(&self) -> AcceptStats {
        match &*lock(&self.accept_stats) {
            AcceptCounts::Live(admission) => admission.stats(),
            AcceptCounts::Final(stats) => *stats,
        }
    }

    /// Keeps the statistics of the ended loop, and releases the rest.
    pub(super) fn release_admission(&self) {
        let last = AcceptCounts::Final(self.accept_stats());
        // User code may be dropped with it, under no lock.
        let released = std::mem::replace(&mut *lock(&self.accept_stats), last);
        drop(released);
    }
}
