// SPDX-License-Identifier: MIT OR Apache-2.0
//! metrics: exports the counters of a loop to a recorder of the `metrics` crate.

use metrics::{counter, gauge};

use crate::stats::LoopStats;

impl LoopStats {
    /// Passes every count to a recorder of the `metrics` crate: the calling thread's local
    /// recorder, or the installed one. Without a recorder it does nothing.
    ///
    /// Call it periodically, or before each scrape. It sets counters to absolute values, so the
    /// rate of calls does not matter. If a program records several loops, each call overwrites the
    /// values of the one recorded before.
    ///
    /// | name | kind, labels | source |
    /// |---|---|---|
    /// | `netpoll_poller_connections` | gauge, `poller` | [`PollerStats::connections`](crate::stats::PollerStats::connections) |
    /// | `netpoll_poller_FIELD_total` | counter, `poller` | each field of [`PollerStats`](crate::stats::PollerStats): `netpoll_poller_requests_total` and so on |
    /// | `netpoll_closed_total` | counter, `reason` | each field of [`ClosedStats`](crate::stats::ClosedStats) |
    /// | `netpoll_accepted_total`, `netpoll_rejected_total` | counter | [`AcceptStats`](crate::stats::AcceptStats) |
    /// | `netpoll_accept_pauses_total` | counter, `reason`: `limit`, `rate`, `memory` | the `pauses_` fields of [`AcceptStats`](crate::stats::AcceptStats) |
    /// | `netpoll_accept_failures_total` | counter, `reason`: `aborted_in_queue`, `descriptors`, `files`, `memory` | its other fields |
    ///
    /// ```no_run
    /// # fn example(handle: netpoll::LoopHandle) {
    /// std::thread::spawn(move || loop {
    ///     handle.stats().record();
    ///     std::thread::sleep(std::time::Duration::from_secs(10));
    /// });
    /// # }
    /// ```
    pub fn record(&self) {
        for (index, poller) in self.pollers.iter().enumerate() {
            let index = index.to_string();
            gauge!("netpoll_poller_connections", "poller" => index.clone())
                .set(poller.connections() as f64);
            for (field, count) in poller.iter() {
                let name = format!("netpoll_poller_{field}_total");
                counter!(name, "poller" => index.clone()).absolute(count);
            }
        }
        for (reason, count) in self.closed.iter() {
            counter!("netpoll_closed_total", "reason" => reason).absolute(count);
        }
        let accept = &self.accept;
        counter!("netpoll_accepted_total").absolute(accept.accepted);
        counter!("netpoll_rejected_total").absolute(accept.rejected);
        for (reason, count) in [
            ("limit", accept.pauses_at_limit),
            ("rate", accept.pauses_for_rate),
            ("memory", accept.pauses_for_memory),
        ] {
            counter!("netpoll_accept_pauses_total", "reason" => reason).absolute(count);
        }
        for (reason, count) in [
            ("aborted_in_queue", accept.aborted_in_queue),
            ("descriptors", accept.process_out_of_descriptors),
            ("files", accept.system_out_of_files),
            ("memory", accept.out_of_memory),
        ] {
            counter!("netpoll_accept_failures_total", "reason" => reason).absolute(count);
        }
    }
}
