// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the servers are used: each scenario stands for one way in which a server is used, and has a
//! figure that decides.

use super::metric::Metric;
use super::peer::Kind;

/// One way to use a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// What it has in common with others.
    pub(crate) group: &'static str,
    /// What tells it from them; empty where there are none.
    pub(crate) point: &'static str,
    /// Whom it stands for.
    pub(crate) meaning: &'static str,
    pub(crate) kind: Kind,
    pub(crate) way: Way,
    /// What is reported, the deciding figure first.
    pub(crate) metrics: &'static [Metric],
}

/// What is done with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A closed loop: an answer is followed by a request.
    Closed(Shape),
}

/// What a load sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    /// Payload bytes of a request and of its answer.
    pub(crate) size: usize,
    /// Requests in flight on each connection.
    pub(crate) depth: usize,
}

/// All of them, in the order they are run.
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
        meaning: "Many calls share few connections, each handled in a task of its own where that is \
                  how a framework does it.",
        kind: Kind::Mux,
        way: Way::Closed(Shape {
            connections: 4,
            size: 1024,
            depth: 25,
        }),
        metrics: &[Metric::RequestsPerSecond, Metric::P99],
    },
    large("64KiB", 64 << 10),
    large("1MiB", 1 << 20),
];

/// What `--quick` runs unless told otherwise.
pub(crate) const QUICK: &[&str] = &["pingpong/100", "pipelined"];

const fn pingpong(point: &'static str, connections: usize) -> Scenario {
    Scenario {
        group: "pingpong",
        point,
        meaning: "Each client waits for its answer before it asks again.",
        kind: Kind::Rpc,
        way: Way::Closed(Shape {
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
        meaning: "Each client has many requests in flight on its connection, and the answers come \
                  in their order.",
        kind: Kind::Rpc,
        way: Way::Closed(Shape {
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
        meaning: "Messages so large that moving their bytes is what costs.",
        kind: Kind::Rpc,
        way: Way::Closed(Shape {
            connections: 10,
            size,
            depth: 1,
        }),
        metrics: &[Metric::BytesPerSecond, Metric::CpuPerRequest],
    }
}

impl Scenario {
    /// Its name: `pingpong/100`.
    pub(crate) fn id(&self) -> String {
        match self.point {
            "" => self.group.to_owned(),
            point => format!("{}/{point}", self.group),
        }
    }

    /// Whether requests per second are called what was offered when the server had time left.
    pub(crate) fn throughput_needs_a_busy_server(&self) -> bool {
        self.group == "pingpong"
    }

    /// What is sent, in words.
    pub(crate) fn shape(&self) -> String {
        match self.way {
            Way::Closed(shape) => format!(
                "{}, {}, {} in flight on each",
                shape.size_in_words(),
                shape.connections_in_words(),
                shape.depth
            ),
        }
    }
}

impl Shape {
    fn size_in_words(self) -> String {
        match self.size {
            size if size >= 1 << 20 => format!("{} MiB", size >> 20),
            size if size >= 1024 => format!("{} KiB", size >> 10),
            size => format!("{size} B"),
        }
    }

    fn connections_in_words(self) -> String {
        match self.connections {
            1 => String::from("1 connection"),
            many => format!("{} connections", crate::load::thousands(many as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_have_one_name() {
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            let others = &SCENARIOS[index + 1..];
            let id = scenario.id();
            assert!(others.iter().all(|other| other.id() != id), "{id}");
        }
    }

    #[test]
    fn a_scenario_says_what_it_sends() {
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
