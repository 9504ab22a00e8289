// SPDX-License-Identifier: MIT OR Apache-2.0
//! metrics: what a loop counts, for whichever exporter the program has installed.

use metrics::{counter, gauge};

use crate::stats::LoopStats;

impl LoopStats {
    /// Gives every count to the recorder of the `metrics` crate that is installed, or to the
    /// calling thread's; without one it does nothing. To be called now and then, by whatever
    /// scrapes or pushes. Counters are set to what the loop has counted, so it does not matter how
    /// often; of several loops in one program, the last that was recorded is seen.
    ///
    /// | name | kind, labels | from |
    /// |---|---|---|
    /// | `netpoll_connections` | gauge, `poller` | [`PollerStats::connections`](crate::PollerStats::connections) |
    /// | `netpoll_FIELD_total` | counter, `poller` | each field of [`PollerStats`](crate::PollerStats): `netpoll_requests_total` and so on |
    /// | `netpoll_closed_total` | counter, `reason` | each field of [`ClosedStats`](crate::ClosedStats) |
    /// | `netpoll_accepted_total`, `netpoll_refused_total` | counter | [`AcceptStats`](crate::AcceptStats) |
    /// | `netpoll_accept_pauses_total` | counter, `why`: `limit`, `rate`, `memory` | its `pauses_` |
    /// | `netpoll_accept_failures_total` | counter, `why`: `aborted_in_queue`, `descriptors`, `files`, `memory` | the rest of it |
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
            gauge!("netpoll_connections", "poller" => index.clone())
                .set(poller.connections() as f64);
            for (field, count) in poller.iter() {
                let name = format!("netpoll_{field}_total");
                counter!(name, "poller" => index.clone()).absolute(count);
            }
        }
        for (reason, count) in self.closed.iter() {
            counter!("netpoll_closed_total", "reason" => reason).absolute(count);
        }
        let accept = &self.accept;
        counter!("netpoll_accepted_total").absolute(accept.accepted);
        counter!("netpoll_refused_total").absolute(accept.rejected);
        for (why, count) in [
            ("limit", accept.pauses_at_limit),
            ("rate", accept.pauses_for_rate),
            ("memory", accept.pauses_for_memory),
        ] {
            counter!("netpoll_accept_pauses_total", "why" => why).absolute(count);
        }
        for (why, count) in [
            ("aborted_in_queue", accept.aborted_in_queue),
            ("descriptors", accept.process_out_of_descriptors),
            ("files", accept.system_out_of_files),
            ("memory", accept.out_of_memory),
        ] {
            counter!("netpoll_accept_failures_total", "why" => why).absolute(count);
        }
    }
}
