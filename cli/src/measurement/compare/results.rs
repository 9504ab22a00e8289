// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results by scenario and contender, round by round, and the reasons for missing ones.

use crate::measurement::plot::SeriesColor;
use crate::measurement::process::machine::Machine;
use crate::measurement::spread::{self, Spread};

use super::metric::{BetterDirection, Metric};
use super::peer::Peer;
use super::scenario::Scenario;

/// All results of a comparison.
#[derive(Debug)]
pub(crate) struct CompareResults {
    pub(crate) scenarios: Vec<ScenarioResult>,
    pub(crate) machine: Machine,
    /// The rounds and intervals, in words.
    pub(crate) effort: String,
    /// Reasons why the figures are not reliable.
    pub(crate) warnings: Vec<String>,
}

/// The results of one scenario.
#[derive(Debug)]
pub(crate) struct ScenarioResult {
    pub(crate) scenario: &'static Scenario,
    pub(crate) entries: Vec<PeerResult>,
    /// A deviation from the scenario's definition.
    pub(crate) note: Option<String>,
}

/// The results of one contender in a scenario.
#[derive(Debug)]
pub(crate) struct PeerResult {
    pub(crate) peer: &'static Peer,
    rounds: Result<Vec<RoundFigures>, String>,
}

/// The figures of one turn.
pub(crate) type RoundFigures = Vec<(Metric, f64)>;

/// One figure over all rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) metric: Metric,
    pub(crate) spread: Spread,
    /// The ratio to netpoll's figure; `None` where it would be meaningless.
    pub(crate) ratio: Option<f64>,
    /// It is better than that of the bare loop, which does less: this is noise.
    pub(crate) beyond_limit: bool,
}

impl PeerResult {
    /// Creates an empty result, or one that is missing for the given reason.
    pub(crate) fn new(peer: &'static Peer, missing: Option<String>) -> Self {
        Self {
            peer,
            rounds: missing.map_or_else(|| Ok(Vec::new()), Err),
        }
    }

    /// Adds the figures of a turn.
    pub(crate) fn add(&mut self, round: RoundFigures) {
        if let Ok(rounds) = &mut self.rounds {
            rounds.push(round);
        }
    }

    /// Discards all figures of a contender that failed a turn: the remaining ones would be from its
    /// better turns only.
    pub(crate) fn fail(&mut self, why: String) {
        self.rounds = Err(why);
    }

    /// Returns the reason why there are no figures, if there are none.
    pub(crate) fn missing(&self) -> Option<&str> {
        self.rounds.as_ref().err().map(String::as_str)
    }

    /// Returns the values of one metric, one per round.
    pub(crate) fn samples(&self, metric: Metric) -> Vec<f64> {
        let rounds = self.rounds.iter().flatten().flatten();
        rounds
            .filter_map(|(one, value)| (*one == metric).then_some(*value))
            .collect()
    }

    /// Returns whether the server was busy in every round, so that its throughput is its own limit
    /// and not the load's.
    fn was_busy(&self) -> bool {
        let busy = self.samples(Metric::ServerBusy);
        !busy.is_empty() && busy.iter().all(|share| *share >= BUSY)
    }
}

impl ScenarioResult {
    /// Creates the results of a scenario without figures.
    pub(crate) fn new(scenario: &'static Scenario, entries: Vec<PeerResult>) -> Self {
        Self {
            scenario,
            entries,
            note: None,
        }
    }

    /// Returns all figures of an entry, the deciding one first.
    pub(crate) fn figures(&self, entry: &PeerResult) -> Vec<Figure> {
        let own = self.scenario.metrics.iter().copied();
        let context = [Metric::OfferedPerSecond, Metric::ServerBusy];
        own.chain(
            context
                .into_iter()
                .filter(|metric| !self.scenario.metrics.contains(metric)),
        )
        .filter_map(|metric| self.figure(entry, metric))
        .collect()
    }

    /// Returns one figure. The throughput of a server that was not busy is renamed to what the load
    /// offered.
    fn figure(&self, entry: &PeerResult, metric: Metric) -> Option<Figure> {
        let samples = entry.samples(metric);
        let spread = Spread::of(&samples)?;
        let netpoll = self.entries.iter().find(|entry| entry.peer.is_netpoll());
        let compared = netpoll.filter(|netpoll| {
            let busy = entry.was_busy() && netpoll.was_busy();
            metric.is_comparable() && (busy || !metric.is_throughput())
        });
        let ratio = compared.and_then(|netpoll| spread::ratio(&samples, &netpoll.samples(metric)));
        let offered = metric == Metric::RequestsPerSecond
            && self.scenario.throughput_needs_a_busy_server()
            && !entry.was_busy();
        let metric = if offered {
            Metric::OfferedPerSecond
        } else {
            metric
        };
        Some(Figure {
            metric,
            spread,
            ratio,
            beyond_limit: self.is_beyond_limit(metric, spread),
        })
    }

    /// Returns whether a figure is better than that of the bare loop.
    fn is_beyond_limit(&self, metric: Metric, spread: Spread) -> bool {
        let mut limits = self.entries.iter().filter_map(|entry| {
            let is_limit = entry.peer.color() == SeriesColor::Limit;
            is_limit.then(|| Spread::of(&entry.samples(metric)))?
        });
        limits.any(|limit| match metric.better() {
            BetterDirection::Lower => spread.median < limit.median,
            BetterDirection::Higher => spread.median > limit.median,
            BetterDirection::None => false,
        })
    }

    /// Returns the contenders without figures, and the reasons.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (&'static Peer, &str)> {
        let entries = self.entries.iter();
        entries.filter_map(|entry| Some((entry.peer, entry.missing()?)))
    }
}

impl CompareResults {
    /// Returns the missing results: each reason once, with its peer and scenarios.
    pub(crate) fn not_measured(&self) -> Vec<MissingResult<'_>> {
        let mut all: Vec<MissingResult<'_>> = Vec::new();
        for measured in &self.scenarios {
            let id = measured.scenario.id();
            for (peer, why) in measured.missing() {
                match all
                    .iter_mut()
                    .find(|one| one.peer == peer && one.why == why)
                {
                    Some(one) => one.scenarios.push(id.clone()),
                    None => all.push(MissingResult {
                        peer,
                        why,
                        scenarios: vec![id.clone()],
                    }),
                }
            }
        }
        for one in &mut all {
            if one.scenarios.len() == self.scenarios.len() {
                one.scenarios = vec![String::from("everything")];
            }
        }
        all
    }
}

/// The reason why a peer has no figures in some scenarios.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MissingResult<'a> {
    pub(crate) peer: &'static Peer,
    pub(crate) why: &'a str,
    pub(crate) scenarios: Vec<String>,
}

/// The processor share from which a server counts as busy; below it, it could have done more.
const BUSY: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::super::peer::PEERS;
    use super::super::selection::{peer, scenarios_to_run};
    use super::*;

    fn round(requests: f64, cpu: f64, busy: f64) -> RoundFigures {
        vec![
            (Metric::RequestsPerSecond, requests),
            (Metric::CpuPerRequest, cpu),
            (Metric::ServerBusy, busy),
        ]
    }

    /// netpoll and tokio in the first of all scenarios, a ping-pong.
    fn measured(busy: f64) -> ScenarioResult {
        let (mut ours, mut theirs) = (
            PeerResult::new(&PEERS[0], None),
            PeerResult::new(tokio(), None),
        );
        for factor in [1.0, 3.0, 2.0] {
            ours.add(round(100.0 * factor, 2.0, 1.0));
            theirs.add(round(50.0 * factor, 3.0, busy));
        }
        ScenarioResult::new(scenarios_to_run(&[], false)[0], vec![ours, theirs])
    }

    fn tokio() -> &'static Peer {
        peer("tokio").unwrap()
    }

    fn figure(measured: &ScenarioResult, entry: usize, metric: Metric) -> Option<Figure> {
        let figures = measured.figures(&measured.entries[entry]);
        figures.into_iter().find(|figure| figure.metric == metric)
    }

    #[test]
    fn figures_are_medians_and_the_deciding_one_is_first() {
        let measured = measured(1.0);
        let figures = measured.figures(&measured.entries[1]);
        assert_eq!(figures[0].metric, Metric::CpuPerRequest);
        assert_eq!(figures[0].ratio, Some(1.5));
        let requests = figure(&measured, 1, Metric::RequestsPerSecond).unwrap();
        assert_eq!((requests.spread.median, requests.ratio), (100.0, Some(0.5)));
    }

    #[test]
    fn the_throughput_of_an_idle_server_is_reported_as_offered_without_a_ratio() {
        let measured = measured(0.89);
        assert!(figure(&measured, 1, Metric::RequestsPerSecond).is_none());
        let offered = figure(&measured, 1, Metric::OfferedPerSecond).unwrap();
        assert_eq!((offered.spread.median, offered.ratio), (100.0, None));
        assert!(figure(&measured, 0, Metric::RequestsPerSecond).is_some());
        let cpu = figure(&measured, 1, Metric::CpuPerRequest).unwrap();
        assert_eq!(cpu.ratio, Some(1.5));
    }

    #[test]
    fn a_figure_beyond_the_bare_loop_is_marked_as_noise() {
        let mut measured = measured(1.0);
        let mut limit = PeerResult::new(peer("reference").unwrap(), None);
        limit.add(round(150.0, 2.5, 1.0));
        measured.entries.push(limit);
        let marks = |measured: &ScenarioResult, metric| {
            let of = |entry| figure(measured, entry, metric).map(|figure| figure.beyond_limit);
            [of(0), of(1), of(2)]
        };
        // 200, 100 and 150 requests a second at 2, 3 and 2.5 us each.
        let expected = [Some(true), Some(false), Some(false)];
        assert_eq!(marks(&measured, Metric::RequestsPerSecond), expected);
        assert_eq!(marks(&measured, Metric::CpuPerRequest), expected);
        assert_eq!(marks(&measured, Metric::ServerBusy), [Some(false); 3]);
        measured.entries.pop();
        assert!(
            !figure(&measured, 0, Metric::CpuPerRequest)
                .unwrap()
                .beyond_limit
        );
    }

    #[test]
    fn a_failed_turn_discards_all_figures_of_the_contender() {
        let mut measured = measured(1.0);
        measured.entries[1].fail(String::from("gone"));
        measured.entries[1].add(round(1.0, 1.0, 1.0));
        assert!(measured.figures(&measured.entries[1]).is_empty());
        let missing: Vec<_> = measured.missing().collect();
        assert_eq!(missing, [(tokio(), "gone")]);
    }

    #[test]
    fn missing_results_are_reported_once_per_reason() {
        let scenarios = scenarios_to_run(&[], false);
        let entry = |why: &str| vec![PeerResult::new(tokio(), Some(why.to_owned()))];
        let mut results = CompareResults {
            scenarios: vec![
                ScenarioResult::new(scenarios[0], entry("no cargo")),
                ScenarioResult::new(scenarios[1], entry("no cargo")),
            ],
            machine: Machine::this(),
            effort: String::new(),
            warnings: Vec::new(),
        };
        assert_eq!(results.not_measured()[0].scenarios, ["everything"]);
        results
            .scenarios
            .push(ScenarioResult::new(scenarios[2], entry("gone")));
        let missing = results.not_measured();
        assert_eq!(missing.len(), 2);
        assert_eq!(missing[0].scenarios, ["pingpong/1", "pingpong/100"]);
    }
}
