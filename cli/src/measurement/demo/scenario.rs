// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scenarios of a demo, its plan, and the results that it collects.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::arguments::duration;
use crate::measurement::load::{LoadResult, Report};
use crate::measurement::plot::SeriesColor;
use crate::measurement::spread;

/// One load pattern.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct DemoScenario {
    /// A name of one or two words.
    pub(crate) name: &'static str,
    /// An explanation for readers who have never seen the code.
    #[serde(skip)]
    pub(crate) meaning: &'static str,
    pub(crate) connections: usize,
    /// Payload bytes of a request and of its response.
    pub(crate) size: usize,
    /// Requests in flight on each connection.
    pub(crate) depth: usize,
}

/// The scenarios of a demo, in the order of the output.
pub(crate) const SCENARIOS: [DemoScenario; 4] = [
    DemoScenario {
        name: "ping-pong",
        meaning: "Each client waits for the response before it sends the next request.",
        connections: 100,
        size: 1024,
        depth: 1,
    },
    DemoScenario {
        name: "pipelined",
        meaning: "Each client keeps 16 requests in flight on its connection.",
        connections: 100,
        size: 1024,
        depth: 16,
    },
    DemoScenario {
        name: "small",
        meaning: "Short messages, 64 in flight on each connection: the cost of a request itself.",
        connections: 100,
        size: 128,
        depth: 64,
    },
    DemoScenario {
        name: "large",
        meaning: "Messages of 64 KiB: the cost of moving bytes.",
        connections: 10,
        size: 64 << 10,
        depth: 1,
    },
];

impl DemoScenario {
    /// Describes the load in words: `1 KiB, 100 connections, 16 in flight on each`.
    pub(crate) fn shape(&self) -> String {
        let (size, connections, depth) = (self.size_in_words(), self.connections, self.depth);
        format!("{size}, {connections} connections, {depth} in flight on each")
    }

    /// Describes the load in short: `1 KiB x 100 x 16`.
    pub(crate) fn short_shape(&self) -> String {
        let (size, connections, depth) = (self.size_in_words(), self.connections, self.depth);
        format!("{size} x {connections} x {depth}")
    }

    fn size_in_words(&self) -> String {
        if self.size >= 1024 {
            format!("{} KiB", self.size / 1024)
        } else {
            format!("{} B", self.size)
        }
    }
}

impl fmt::Display for DemoScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.shape())
    }
}

/// The two servers of a demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DemoServer {
    /// The framework.
    Netpoll,
    /// `netpoll serve reference`.
    BareLoop,
}

impl DemoServer {
    /// Returns its color in plots.
    pub(crate) fn color(self) -> SeriesColor {
        match self {
            Self::Netpoll => SeriesColor::Ours,
            Self::BareLoop => SeriesColor::Limit,
        }
    }

    /// Returns its kind, as an argument of `netpoll serve`.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Netpoll => "rpc",
            Self::BareLoop => "reference",
        }
    }
}

impl fmt::Display for DemoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Netpoll => "netpoll",
            Self::BareLoop => "bare loop",
        })
    }
}

/// The results of one scenario for both servers.
#[derive(Debug)]
pub(crate) struct ScenarioPair {
    pub(crate) scenario: DemoScenario,
    netpoll: ServerTotals,
    bare_loop: ServerTotals,
}

/// The results of all rounds of one server.
#[derive(Debug, Default)]
pub(crate) struct ServerTotals {
    result: Option<LoadResult>,
    /// Requests per second of each round.
    rates: Vec<f64>,
}

impl ScenarioPair {
    pub(crate) fn new(scenario: &DemoScenario) -> Self {
        Self {
            scenario: *scenario,
            netpoll: ServerTotals::default(),
            bare_loop: ServerTotals::default(),
        }
    }

    /// Adds the result of a round.
    pub(crate) fn add(&mut self, side: DemoServer, result: LoadResult) {
        let total = match side {
            DemoServer::Netpoll => &mut self.netpoll,
            DemoServer::BareLoop => &mut self.bare_loop,
        };
        total.rates.push(result.rate());
        match &mut total.result {
            Some(merged) => merged.merge(result),
            none => *none = Some(result),
        }
    }

    /// Returns both servers, the framework first.
    pub(crate) fn sides(&self) -> [(DemoServer, &ServerTotals); 2] {
        [
            (DemoServer::Netpoll, &self.netpoll),
            (DemoServer::BareLoop, &self.bare_loop),
        ]
    }

    /// Returns the framework's throughput as a share of the bare loop's; `None` before the first
    /// round. This is the median over the rounds: the two turns of a round meet the same machine
    /// load, and one disturbed round does not decide.
    pub(crate) fn share_of_limit(&self) -> Option<f64> {
        spread::ratio(&self.netpoll.rates, &self.bare_loop.rates)
    }

    /// Returns whether the framework seems to be faster than the bare loop by half a percent or
    /// more. The bare loop does less for each request, so this is noise.
    pub(crate) fn is_beyond_limit(&self) -> bool {
        self.share_of_limit().is_some_and(|share| share >= 1.005)
    }
}

impl ServerTotals {
    /// Returns the figures over all rounds; `None` before the first round.
    pub(crate) fn report(&self) -> Option<Report> {
        self.result.as_ref().map(Report::of)
    }

    /// Returns the merged result of all rounds; `None` before the first round.
    pub(crate) fn result(&self) -> Option<&LoadResult> {
        self.result.as_ref()
    }
}

impl Serialize for ScenarioPair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Figures {
            #[serde(flatten)]
            scenario: DemoScenario,
            netpoll: Option<Report>,
            bare_loop: Option<Report>,
            share_of_limit: Option<f64>,
        }
        let figures = Figures {
            scenario: self.scenario,
            netpoll: self.netpoll.report(),
            bare_loop: self.bare_loop.report(),
            share_of_limit: self.share_of_limit(),
        };
        figures.serialize(serializer)
    }
}

/// The rounds and intervals of a demo.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DemoPlan {
    /// Rounds: each server has one turn in each scenario.
    pub(crate) rounds: usize,
    /// Warm-up of a turn.
    pub(crate) warm_up: Duration,
    /// Measured interval of a turn.
    pub(crate) interval: Duration,
    /// Number of idle connections.
    pub(crate) idle_connections: usize,
}

impl DemoPlan {
    /// About 45 seconds.
    pub(crate) const FULL: Self = Self {
        rounds: 3,
        warm_up: Duration::from_millis(300),
        interval: Duration::from_millis(1500),
        idle_connections: 8_000,
    };

    /// Well below ten seconds.
    pub(crate) const QUICK: Self = Self {
        rounds: 2,
        warm_up: Duration::from_millis(100),
        interval: Duration::from_millis(300),
        idle_connections: 1_000,
    };

    /// Returns the duration of one turn.
    pub(crate) fn turn(&self) -> Duration {
        self.warm_up + self.interval
    }

    /// Returns the number of turns of both servers in this many scenarios.
    pub(crate) fn turns(&self, scenarios: usize) -> u32 {
        u32::try_from(2 * self.rounds * scenarios).unwrap_or(u32::MAX)
    }

    /// Returns the approximate duration of the demo.
    pub(crate) fn total_time(&self, scenarios: usize) -> Duration {
        self.turn() * self.turns(scenarios) + Duration::from_secs(2)
    }
}

impl fmt::Display for DemoPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (interval, warm_up) = (self.interval, self.warm_up);
        write!(
            f,
            "{} rounds of {}",
            self.rounds,
            duration::display(interval)
        )?;
        write!(
            f,
            ", each after a warm-up of {}",
            duration::display(warm_up)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_demo_is_planned_for_less_than_nine_seconds() {
        assert!(DemoPlan::QUICK.total_time(SCENARIOS.len()) < Duration::from_millis(8500));
    }

    #[test]
    fn a_full_demo_takes_about_45_seconds() {
        let seconds = DemoPlan::FULL.total_time(SCENARIOS.len()).as_secs();
        assert!((40..=60).contains(&seconds), "{seconds}");
    }

    fn round(requests: u64) -> LoadResult {
        LoadResult {
            requests,
            ..LoadResult::empty(1.0)
        }
    }

    #[test]
    fn one_disturbed_round_does_not_decide_the_share() {
        let mut measured = ScenarioPair::new(&SCENARIOS[0]);
        assert_eq!(measured.share_of_limit(), None);
        for (ours, limit) in [(90, 100), (900, 1000), (5, 100)] {
            measured.add(DemoServer::Netpoll, round(ours));
            measured.add(DemoServer::BareLoop, round(limit));
        }
        assert_eq!(measured.share_of_limit(), Some(0.9));
        let report = measured.netpoll.report().map(|report| report.requests);
        assert_eq!(report, Some(995));
    }

    #[test]
    fn a_scenario_describes_its_load() {
        assert_eq!(
            SCENARIOS[1].to_string(),
            "pipelined: 1 KiB, 100 connections, 16 in flight on each"
        );
        assert_eq!(SCENARIOS[2].short_shape(), "128 B x 100 x 64");
    }
}
