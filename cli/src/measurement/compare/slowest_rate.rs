// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rate of the slowest contender, for open loops at a rate that all contenders can sustain.
//!
//! At a rate that only some can sustain, the others would be measured by their queues. The rate is
//! therefore a percentage of the slowest contender's closed-loop rate, measured in the same run.

use crate::error::CliError;
use crate::measurement::idle_memory::affordable;
use crate::measurement::load::{LoadMode, thousands};

use super::contender::Contender;
use super::peer::{Peer, ServerKind};
use super::run::CompareRun;
use super::scenario::{HUNDRED, LoadShape, Scenario, ScenarioLoad};

/// The closed-loop rate of the slowest contender, for one kind of server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SlowestRate {
    kind: ServerKind,
    slowest: &'static Peer,
    /// Requests per second.
    rate: f64,
}

/// A load with all parameters resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResolvedWorkload {
    /// A load of this size and mode.
    Load(LoadShape, LoadMode),
    /// The same through a proxy.
    Through(LoadShape, LoadMode),
    /// This many connections, each used once.
    Memory(usize),
    /// This many idle connections, beside a closed loop.
    BesideIdle(usize, LoadShape),
}

impl CompareRun<'_> {
    /// Resolves the load of a scenario. Also returns a note on a deviation from its definition.
    ///
    /// # Errors
    ///
    /// An interrupt.
    pub(super) fn resolve_load(
        &self,
        scenario: &Scenario,
    ) -> Result<(ResolvedWorkload, Option<String>), CliError> {
        let wanted = scenario.connections();
        let count = affordable(wanted);
        let fewer = (count < wanted).then(|| {
            format!(
                "{} connections instead of {}: the limit of open descriptors allows no more",
                thousands(count as u64),
                thousands(wanted as u64)
            )
        });
        let fitting = |shape: LoadShape| LoadShape {
            connections: count,
            ..shape
        };
        Ok(match scenario.load {
            ScenarioLoad::Closed(shape) => {
                let mode = LoadMode::Closed(shape.depth);
                (ResolvedWorkload::Load(fitting(shape), mode), fewer)
            }
            ScenarioLoad::Through(shape) => {
                let mode = LoadMode::Closed(shape.depth);
                (ResolvedWorkload::Through(fitting(shape), mode), fewer)
            }
            ScenarioLoad::Churn(_) => (
                ResolvedWorkload::Load(fitting(HUNDRED), LoadMode::Churn),
                fewer,
            ),
            ScenarioLoad::Memory(_) => (ResolvedWorkload::Memory(count), fewer),
            ScenarioLoad::BesideIdle(_) => {
                let (idle, busy) = split_idle(count);
                let busy = LoadShape {
                    connections: busy,
                    ..HUNDRED
                };
                (ResolvedWorkload::BesideIdle(idle, busy), fewer)
            }
            ScenarioLoad::Rate(shape, percent) => {
                let slowest = self.slowest_rate(scenario.kind)?;
                let rate = slowest.map_or(1, |slowest| slowest.share(percent));
                let note = slowest.map(|slowest| slowest.note(rate));
                (
                    ResolvedWorkload::Load(fitting(shape), LoadMode::Open(rate)),
                    note,
                )
            }
        })
    }

    /// Returns the slowest rate; `None` if no contender can be measured.
    fn slowest_rate(&self, kind: ServerKind) -> Result<Option<SlowestRate>, CliError> {
        let known = self
            .slowest_rates
            .borrow()
            .iter()
            .find(|one| one.kind == kind)
            .copied();
        if known.is_some() {
            return Ok(known);
        }
        let mut rates = Vec::with_capacity(self.contenders.len());
        for contender in self.contenders {
            if contender.missing_reason(kind).is_none() {
                let rate = self.closed_loop_rate(kind, contender);
                self.check_interrupt()?;
                // A contender that fails here fails again in its first turn, and that failure is
                // reported.
                rates.extend(rate.ok().map(|rate| (contender.peer, rate)));
            }
            self.advance(self.plan.turn(), contender);
        }
        let found = slowest(&rates).map(|(slowest, rate)| SlowestRate {
            kind,
            slowest,
            rate,
        });
        self.slowest_rates.borrow_mut().extend(found);
        Ok(found)
    }

    /// Measures the requests per second of one contender in a closed loop.
    fn closed_loop_rate(&self, kind: ServerKind, contender: &Contender) -> Result<f64, CliError> {
        let server = contender.start(kind, None)?;
        let mode = LoadMode::Closed(HUNDRED.depth);
        let plan = self.load_plan(&server, kind, HUNDRED, mode);
        Ok(self.drive(contender, &plan)?.rate())
    }
}

impl SlowestRate {
    /// Returns this percentage of the rate, in whole requests and at least 1.
    fn share(self, percent: u32) -> u64 {
        ((self.rate * f64::from(percent) / 100.0) as u64).max(1)
    }

    fn note(self, rate: u64) -> String {
        format!(
            "{} requests/s; the slowest peer, {}, does {}",
            thousands(rate),
            self.slowest,
            thousands(self.rate as u64)
        )
    }
}

/// Returns the slowest peer; a limit only if there is no other peer.
fn slowest(rates: &[(&'static Peer, f64)]) -> Option<(&'static Peer, f64)> {
    let least = |limits: bool| {
        let some = rates
            .iter()
            .filter(move |(peer, _)| peer.is_limit() == limits);
        some.min_by(|one, other| one.1.total_cmp(&other.1)).copied()
    };
    least(false).or_else(|| least(true))
}

/// Splits a number of connections into idle and busy ones, at least one of these.
fn split_idle(count: usize) -> (usize, usize) {
    let busy = (count / 5).max(1);
    (count.saturating_sub(busy), busy)
}

#[cfg(test)]
mod tests {
    use super::super::selection::peer;
    use super::*;

    fn rates(rates: &[(&str, f64)]) -> Vec<(&'static Peer, f64)> {
        rates
            .iter()
            .map(|(name, rate)| (peer(name).unwrap(), *rate))
            .collect()
    }

    #[test]
    fn the_slowest_rate_is_of_a_peer_unless_there_are_only_limits() {
        let all = rates(&[("netpoll", 9.0), ("reference", 1.0), ("tokio", 4.0)]);
        assert_eq!(slowest(&all).unwrap().0.name, "tokio");
        let limits = rates(&[("reference", 3.0), ("reference-uring", 2.0)]);
        assert_eq!(slowest(&limits).unwrap().1, 2.0);
        assert_eq!(slowest(&[]), None);
    }

    #[test]
    fn a_percentage_of_the_slowest_rate_is_at_least_one_request() {
        let slowest = |rate| SlowestRate {
            kind: ServerKind::Rpc,
            slowest: peer("gnet").unwrap(),
            rate,
        };
        assert_eq!(slowest(1000.0).share(30), 300);
        assert_eq!(slowest(0.4).share(30), 1);
        assert!(slowest(1000.0).note(300).contains("gnet, does 1,000"));
    }

    #[test]
    fn four_connections_in_five_are_idle() {
        assert_eq!(split_idle(8_000), (6_400, 1_600));
        assert_eq!(split_idle(1), (0, 1));
    }
}
