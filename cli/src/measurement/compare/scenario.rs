// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scenarios: each stands for one use of a server and has one deciding metric.

use crate::measurement::load::thousands;

use super::metric::Metric;
use super::peer::ServerKind;

/// One load pattern.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// The group's name.
    pub(crate) group: &'static str,
    /// The name within the group; empty if it is the only scenario of the group.
    pub(crate) point: &'static str,
    /// An explanation for readers of the page.
    pub(crate) meaning: &'static str,
    pub(crate) kind: ServerKind,
    pub(crate) load: ScenarioLoad,
    /// The reported metrics, the deciding one first.
    pub(crate) metrics: &'static [Metric],
}

/// The load of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScenarioLoad {
    /// A closed loop: each response triggers a new request.
    Closed(LoadShape),
    /// An open loop at this percentage of the slowest peer's closed-loop rate.
    Rate(LoadShape, u32),
    /// This many connections are used once and kept; measures the memory of each.
    Memory(usize),
    /// This many connections: four in five are idle, the others run a closed loop.
    BesideIdle(usize),
    /// This many connections at a time, each for one request.
    Churn(usize),
    /// A closed loop through a proxy.
    Through(LoadShape),
}

/// The size of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoadShape {
    pub(crate) connections: usize,
    /// Payload bytes of a request and of its response.
    pub(crate) size: usize,
    /// Requests in flight on each connection.
    pub(crate) depth: usize,
}

/// All scenarios, in the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    pingpong("1", 1),
    pingpong("100", 100),
    pingpong("1000", 1_000),
    pingpong("8000", 8_000),
    pipelined("1KiBx16", 1024, 16),
    pipelined("128Bx64", 128, 64),
    Scenario {
        group: "mux",
        point: "100",
        meaning: "Many calls share few connections. Each is handled in its own task where the framework \
                  works that way.",
        kind: ServerKind::Mux,
        load: ScenarioLoad::Closed(LoadShape {
            connections: 4,
            size: 1024,
            depth: 25,
        }),
        metrics: &[Metric::RequestsPerSecond, Metric::P99],
    },
    large("64KiB", 64 << 10),
    large("1MiB", 1 << 20),
    Scenario {
        group: "idle",
        point: "8000",
        meaning: "Most connections of most servers do nothing most of the time. Each of these was \
                  used once and then left alone. The kernel's memory for a socket is not counted.",
        kind: ServerKind::Rpc,
        load: ScenarioLoad::Memory(8_000),
        metrics: &[Metric::ResidentBytes],
    },
    Scenario {
        group: "idle",
        point: "busy",
        meaning: "Four connections in five do nothing; measures the latency on the others.",
        kind: ServerKind::Rpc,
        load: ScenarioLoad::BesideIdle(8_000),
        metrics: &[Metric::P99],
    },
    Scenario {
        group: "churn",
        point: "",
        meaning: "Each client connects, sends one request, and closes its connection gracefully.",
        kind: ServerKind::Rpc,
        load: ScenarioLoad::Churn(64),
        metrics: &[Metric::CpuPerConnection],
    },
    Scenario {
        group: "heavy",
        point: "",
        meaning: "Every tenth request of a connection computes for 100 us in its handler; measures the \
                  latency at a fixed rate that does not depend on the state of the server. Latency \
                  counts from the time a request was due.",
        kind: ServerKind::Heavy,
        load: ScenarioLoad::Rate(HUNDRED, 50),
        metrics: &[Metric::P99, Metric::P999],
    },
    fixed_rate("30", 30),
    fixed_rate("70", 70),
    Scenario {
        group: "proxy",
        point: "",
        meaning: "A proxy between the load and a server of netpoll's, which shares the load's \
                  processor.",
        kind: ServerKind::Proxy,
        load: ScenarioLoad::Through(LoadShape {
            connections: 4,
            size: 1 << 20,
            depth: 1,
        }),
        metrics: &[Metric::BytesPerSecond, Metric::CpuPerMebibyte],
    },
];

/// The scenarios of `--quick`, unless others are named.
pub(crate) const QUICK: &[&str] = &["pingpong/100", "pipelined", "idle"];

/// The usual load.
pub(crate) const HUNDRED: LoadShape = LoadShape {
    connections: 100,
    size: 1024,
    depth: 1,
};

const fn pingpong(point: &'static str, connections: usize) -> Scenario {
    Scenario {
        group: "pingpong",
        point,
        meaning: "Each client waits for the response before it sends the next request.",
        kind: ServerKind::Rpc,
        load: ScenarioLoad::Closed(LoadShape {
            connections,
            size: 1024,
            depth: 1,
        }),
        metrics: &[
            Metric::CpuPerRequest,
            Metric::P99,
            Metric::RequestsPerSecond,
        ],
    }
}

const fn pipelined(point: &'static str, size: usize, depth: usize) -> Scenario {
    Scenario {
        group: "pipelined",
        point,
        meaning: "Each client has many requests in flight on its connection; the responses arrive in \
                  request order.",
        kind: ServerKind::Rpc,
        load: ScenarioLoad::Closed(LoadShape {
            connections: 100,
            size,
            depth,
        }),
        metrics: &[Metric::RequestsPerSecond, Metric::CpuPerRequest],
    }
}

const fn large(point: &'static str, size: usize) -> Scenario {
    Scenario {
        group: "large",
        point,
        meaning: "Messages so large that moving their bytes dominates the cost.",
        kind: ServerKind::Rpc,
        load: ScenarioLoad::Closed(LoadShape {
            connections: 10,
            size,
            depth: 1,
        }),
        metrics: &[Metric::BytesPerSecond, Metric::CpuPerRequest],
    }
}

const fn fixed_rate(point: &'static str, percent: u32) -> Scenario {
    Scenario {
        group: "fixed-rate",
        point,
        meaning: "Requests arrive at a fixed rate that every server can sustain and that does not depend \
                  on the state of the server. Latency counts from the time a request was due.",
        kind: ServerKind::Rpc,
        load: ScenarioLoad::Rate(HUNDRED, percent),
        metrics: &[Metric::P50, Metric::P99, Metric::P999],
    }
}

impl Scenario {
    /// Returns its name, such as `pingpong/100`.
    pub(crate) fn id(&self) -> String {
        match self.point {
            "" => self.group.to_owned(),
            point => format!("{}/{point}", self.group),
        }
    }

    /// Returns whether the throughput of a server that was not busy is renamed to what the load
    /// offered.
    pub(crate) fn throughput_needs_a_busy_server(&self) -> bool {
        self.group == "pingpong"
    }

    /// Returns the number of concurrent connections.
    pub(crate) fn connections(&self) -> usize {
        match self.load {
            ScenarioLoad::Closed(shape)
            | ScenarioLoad::Through(shape)
            | ScenarioLoad::Rate(shape, _) => shape.connections,
            ScenarioLoad::Memory(count)
            | ScenarioLoad::BesideIdle(count)
            | ScenarioLoad::Churn(count) => count,
        }
    }

    /// Describes the load in words.
    pub(crate) fn shape(&self) -> String {
        match self.load {
            ScenarioLoad::Closed(shape) | ScenarioLoad::Through(shape) => format!(
                "{}, {}, {} in flight on each",
                shape.size_in_words(),
                connections_in_words(shape.connections),
                shape.depth
            ),
            ScenarioLoad::Rate(shape, percent) => format!(
                "{}, {}, at {percent} % of what the slowest peer does",
                shape.size_in_words(),
                connections_in_words(shape.connections)
            ),
            ScenarioLoad::Memory(count) => {
                format!("{}, each used once", connections_in_words(count))
            }
            ScenarioLoad::BesideIdle(count) => format!(
                "1 KiB, {}, four in five of them idle, 1 in flight on each other",
                connections_in_words(count)
            ),
            ScenarioLoad::Churn(count) => format!(
                "1 KiB, {} at a time, each for one request",
                connections_in_words(count)
            ),
        }
    }
}

impl LoadShape {
    fn size_in_words(self) -> String {
        match self.size {
            size if size >= 1 << 20 => format!("{} MiB", size >> 20),
            size if size >= 1024 => format!("{} KiB", size >> 10),
            size => format!("{size} B"),
        }
    }
}

fn connections_in_words(count: usize) -> String {
    match count {
        1 => String::from("1 connection"),
        many => format!("{} connections", thousands(many as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenario_names_are_unique() {
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            let others = &SCENARIOS[index + 1..];
            let id = scenario.id();
            assert!(others.iter().all(|other| other.id() != id), "{id}");
        }
    }

    #[test]
    fn a_scenario_describes_its_load() {
        assert_eq!(SCENARIOS[0].id(), "pingpong/1");
        assert_eq!(
            SCENARIOS[0].shape(),
            "1 KiB, 1 connection, 1 in flight on each"
        );
        let small = SCENARIOS.iter().find(|one| one.id() == "pipelined/128Bx64");
        assert_eq!(
            small.unwrap().shape(),
            "128 B, 100 connections, 64 in flight on each"
        );
    }
}
