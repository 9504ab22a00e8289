// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the contenders can do, for loads at a rate that all of them can bear.
//!
//! At a rate that only some can bear the others would be measured by the queue in front of them, so
//! the rate is a share of what the slowest does in a closed loop, which is found out in the same run.

use crate::error::CliError;
use crate::load::{LoadMode, thousands};
use crate::measurement::idle::affordable;

use super::contender::Contender;
use super::peer::{Peer, ServerKind};
use super::run::CompareRun;
use super::scenario::{HUNDRED, LoadShape, Scenario, ScenarioLoad};

/// What the slowest does with requests of a kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SlowestRate {
    kind: ServerKind,
    slowest: &'static Peer,
    /// Requests per second.
    rate: f64,
}

/// A way with nothing left to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResolvedWorkload {
    /// A load of this shape.
    Load(LoadShape, LoadMode),
    /// The same, through a proxy.
    Through(LoadShape, LoadMode),
    /// So many connections that are used once.
    Memory(usize),
    /// The same, beside a load of this shape.
    BesideIdle(usize, LoadShape),
}

impl CompareRun<'_> {
    /// What is to be done in a scenario here, and what is other than it says.
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
                let pressure = LoadMode::Closed(shape.depth);
                (ResolvedWorkload::Load(fitting(shape), pressure), fewer)
            }
            ScenarioLoad::Through(shape) => {
                let pressure = LoadMode::Closed(shape.depth);
                (ResolvedWorkload::Through(fitting(shape), pressure), fewer)
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
                let ceiling = self.slowest_rate(scenario.kind)?;
                let rate = ceiling.map_or(1, |ceiling| ceiling.share(percent));
                let note = ceiling.map(|ceiling| ceiling.note(rate));
                (
                    ResolvedWorkload::Load(fitting(shape), LoadMode::Open(rate)),
                    note,
                )
            }
        })
    }

    /// What the slowest does; none if nobody does anything.
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
                // Who fails here fails again in its first turn, and that is what is told.
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

    /// Requests per second of one contender in a closed loop.
    fn closed_loop_rate(&self, kind: ServerKind, contender: &Contender) -> Result<f64, CliError> {
        let server = contender.start(kind, None)?;
        let pressure = LoadMode::Closed(HUNDRED.depth);
        let plan = self.load_plan(&server, kind, HUNDRED, pressure);
        Ok(self.drive(contender, &plan)?.rate())
    }
}

impl SlowestRate {
    /// So many percent of it, in whole requests and at least one.
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

/// The slowest peer; of limits only if there is nobody else.
fn slowest(rates: &[(&'static Peer, f64)]) -> Option<(&'static Peer, f64)> {
    let least = |limits: bool| {
        let some = rates
            .iter()
            .filter(move |(peer, _)| peer.is_limit() == limits);
        some.min_by(|one, other| one.1.total_cmp(&other.1)).copied()
    };
    least(false).or_else(|| least(true))
}

/// The idle ones and the others, at least one of these.
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
    fn the_slowest_is_a_peer_unless_there_are_only_limits() {
        let all = rates(&[("netpoll", 9.0), ("reference", 1.0), ("tokio", 4.0)]);
        assert_eq!(slowest(&all).unwrap().0.name, "tokio");
        let limits = rates(&[("reference", 3.0), ("reference-uring", 2.0)]);
        assert_eq!(slowest(&limits).unwrap().1, 2.0);
        assert_eq!(slowest(&[]), None);
    }

    #[test]
    fn a_share_of_a_ceiling_is_a_rate_that_can_be_asked_for() {
        let ceiling = |rate| SlowestRate {
            kind: ServerKind::Rpc,
            slowest: peer("gnet").unwrap(),
            rate,
        };
        assert_eq!(ceiling(1000.0).share(30), 300);
        assert_eq!(ceiling(0.4).share(30), 1);
        assert!(ceiling(1000.0).note(300).contains("gnet, does 1,000"));
    }

    #[test]
    fn four_connections_in_five_are_idle() {
        assert_eq!(split_idle(8_000), (6_400, 1_600));
        assert_eq!(split_idle(1), (0, 1));
    }
}
