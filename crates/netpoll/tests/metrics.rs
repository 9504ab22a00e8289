// SPDX-License-Identifier: MIT OR Apache-2.0
//! The metrics that a recorder of the `metrics` crate receives.

#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the behaviour tests use the rest"
)]
#[path = "support/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};
use netpoll::EventLoop;
use netpoll::event_loop::Balance;
use netpoll::stats::LoopStats;

use support::{Server, eventually, rpc};

/// A recorder that keeps values by name and labels.
#[derive(Default)]
struct Kept {
    values: Arc<Mutex<BTreeMap<String, f64>>>,
}

/// One value of the recorder.
struct Cell {
    key: String,
    values: Arc<Mutex<BTreeMap<String, f64>>>,
}

impl Cell {
    fn put(&self, value: f64) {
        let mut values = self.values.lock().expect("no panic under it");
        values.insert(self.key.clone(), value);
    }
}

impl CounterFn for Cell {
    fn increment(&self, _value: u64) {
        panic!("a counter is set, not incremented");
    }

    fn absolute(&self, value: u64) {
        self.put(value as f64);
    }
}

impl GaugeFn for Cell {
    fn increment(&self, _value: f64) {
        panic!("a gauge is set");
    }

    fn decrement(&self, _value: f64) {
        panic!("a gauge is set");
    }

    fn set(&self, value: f64) {
        self.put(value);
    }
}

impl Kept {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        Arc::new(Cell {
            key: format!("{}{{{}}}", key.name(), labels.join(",")),
            values: Arc::clone(&self.values),
        })
    }

    /// Returns the values that `stats` records, by name and labels.
    fn of(stats: &LoopStats) -> BTreeMap<String, f64> {
        let kept = Self::default();
        metrics::with_local_recorder(&kept, || stats.record());
        let values = kept.values.lock().expect("no panic under it");
        values.clone()
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("{} is no histogram", key.name());
    }
}

/// The documented names, without those of the pollers' counters.
const NAMES: [&str; 26] = [
    "netpoll_accept_failures_total{reason=descriptors}",
    "netpoll_accept_failures_total{reason=aborted_in_queue}",
    "netpoll_accept_failures_total{reason=files}",
    "netpoll_accept_failures_total{reason=memory}",
    "netpoll_accept_pauses_total{reason=limit}",
    "netpoll_accept_pauses_total{reason=memory}",
    "netpoll_accept_pauses_total{reason=rate}",
    "netpoll_accepted_total{}",
    "netpoll_closed_total{reason=broken}",
    "netpoll_closed_total{reason=first_byte_timeout}",
    "netpoll_closed_total{reason=frame_limit}",
    "netpoll_closed_total{reason=handler_error}",
    "netpoll_closed_total{reason=handler_panic}",
    "netpoll_closed_total{reason=idle_timeout}",
    "netpoll_closed_total{reason=local}",
    "netpoll_closed_total{reason=max_age}",
    "netpoll_closed_total{reason=memory_limit}",
    "netpoll_closed_total{reason=min_rate_timeout}",
    "netpoll_closed_total{reason=output_limit}",
    "netpoll_closed_total{reason=peer_fin}",
    "netpoll_closed_total{reason=poller_failed}",
    "netpoll_closed_total{reason=read_timeout}",
    "netpoll_closed_total{reason=shutdown}",
    "netpoll_closed_total{reason=write_timeout}",
    "netpoll_poller_connections{poller=0}",
    "netpoll_rejected_total{}",
];

#[test]
fn every_name_is_the_documented_one() {
    let server = Server::rpc();
    let stats = server.handle.stats();
    let mut expected: Vec<String> = NAMES.iter().map(ToString::to_string).collect();
    let fields = stats.pollers[0].iter();
    expected.extend(fields.map(|(field, _)| format!("netpoll_poller_{field}_total{{poller=0}}")));
    expected.sort();
    let names: Vec<String> = Kept::of(&stats).into_keys().collect();
    assert_eq!(names, expected);
    assert!(names.contains(&"netpoll_poller_requests_total{poller=0}".to_owned()));
}

#[test]
fn the_values_are_those_of_the_snapshot() {
    let builder = EventLoop::builder().pollers(2).balance(Balance::RoundRobin);
    let server = Server::start_as_given(builder.on_request(rpc));
    let mut peers: Vec<_> = (0..3).map(|_| server.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.call(b"body"));
    drop(peers.pop());
    server.ending();
    let mut stats = server.handle.stats();
    eventually("two connections", || {
        stats = server.handle.stats();
        stats.connections == 2 && stats.total().requests == 3
    });
    let values = Kept::of(&stats);
    let sum = |name: &str| -> f64 {
        let of_pollers = |index| values[&format!("{name}{{poller={index}}}")];
        of_pollers(0) + of_pollers(1)
    };
    assert_eq!(sum("netpoll_poller_connections"), 2.0);
    assert_eq!(sum("netpoll_poller_requests_total"), 3.0);
    assert_eq!(sum("netpoll_poller_received_total"), 3.0 * 8.0);
    assert_eq!(values["netpoll_accepted_total{}"], 3.0);
    assert_eq!(values["netpoll_closed_total{reason=peer_fin}"], 1.0);
}
