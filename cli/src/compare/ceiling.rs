// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the contenders can do, for loads at a rate that all of them can bear.
//!
//! At a rate that only some can bear the others would be measured by the queue in front of them, so
//! the rate is a share of what the slowest does in a closed loop, which is found out in the same run.

use crate::failure::Failure;
use crate::load::{Pressure, thousands};
use crate::measure::idle::affordable;

use super::contender::Contender;
use super::peer::{Kind, Peer};
use super::scenario::{HUNDRED, Scenario, Shape, Way};
use super::stage::Stage;

/// What the slowest does with requests of a kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ceiling {
    kind: Kind,
    slowest: &'static Peer,
    /// Requests per second.
    rate: f64,
}

/// A way with nothing left to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// A load of this shape.
    Load(Shape, Pressure),
    /// The same, through a proxy.
    Through(Shape, Pressure),
    /// So many connections that are used once.
    Memory(usize),
    /// The same, beside a load of this shape.
    BesideIdle(usize, Shape),
}

impl Stage<'_> {
    /// What is to be done in a scenario here, and what is other than it says.
    ///
    /// # Errors
    ///
    /// An interrupt.
    pub(super) fn settled(
        &self,
        scenario: &Scenario,
    ) -> Result<(Settled, Option<String>), Failure> {
        let wanted = scenario.connections();
        let count = affordable(wanted);
        let fewer = (count < wanted).then(|| {
            format!(
                "{} connections instead of {}: the limit of open descriptors allows no more",
                thousands(count as u64),
                thousands(wanted as u64)
            )
        });
        let fitting = |shape: Shape| Shape {
            connections: count,
            ..shape
        };
        Ok(match scenario.way {
            Way::Closed(shape) => {
                let pressure = Pressure::Closed(shape.depth);
                (Settled::Load(fitting(shape), pressure), fewer)
            }
            Way::Through(shape) => {
                let pressure = Pressure::Closed(shape.depth);
                (Settled::Through(fitting(shape), pressure), fewer)
            }
            Way::Churn(_) => (Settled::Load(fitting(HUNDRED), Pressure::Churn), fewer),
            Way::Memory(_) => (Settled::Memory(count), fewer),
            Way::BesideIdle(_) => {
                let (idle, busy) = four_in_five(count);
                let busy = Shape {
                    connections: busy,
                    ..HUNDRED
                };
                (Settled::BesideIdle(idle, busy), fewer)
            }
            Way::Rate(shape, percent) => {
                let ceiling = self.ceiling(scenario.kind)?;
                let rate = ceiling.map_or(1, |ceiling| ceiling.share(percent));
                let note = ceiling.map(|ceiling| ceiling.note(rate));
                (Settled::Load(fitting(shape), Pressure::Open(rate)), note)
            }
        })
    }

    /// What the slowest does; none if nobody does anything.
    fn ceiling(&self, kind: Kind) -> Result<Option<Ceiling>, Failure> {
        let known = self
            .ceilings
            .borrow()
            .iter()
            .find(|one| one.kind == kind)
            .copied();
        if known.is_some() {
            return Ok(known);
        }
        let mut rates = Vec::with_capacity(self.contenders.len());
        for contender in self.contenders {
            if contender.lacks(kind).is_none() {
                let rate = self.most(kind, contender);
                self.go_on()?;
                // Who fails here fails again in its first turn, and that is what is told.
                rates.extend(rate.ok().map(|rate| (contender.peer, rate)));
            }
            self.passed(self.effort.turn(), contender);
        }
        let found = slowest(&rates).map(|(slowest, rate)| Ceiling {
            kind,
            slowest,
            rate,
        });
        self.ceilings.borrow_mut().extend(found);
        Ok(found)
    }

    /// Requests per second of one contender in a closed loop.
    fn most(&self, kind: Kind, contender: &Contender) -> Result<f64, Failure> {
        let server = contender.start(kind, None)?;
        let pressure = Pressure::Closed(HUNDRED.depth);
        let plan = self.plan(&server, kind, HUNDRED, pressure);
        Ok(self.drive(contender, &plan)?.rate())
    }
}

impl Ceiling {
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
fn four_in_five(count: usize) -> (usize, usize) {
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
        let ceiling = |rate| Ceiling {
            kind: Kind::Rpc,
            slowest: peer("gnet").unwrap(),
            rate,
        };
        assert_eq!(ceiling(1000.0).share(30), 300);
        assert_eq!(ceiling(0.4).share(30), 1);
        assert!(ceiling(1000.0).note(300).contains("gnet, does 1,000"));
    }

    #[test]
    fn four_connections_in_five_are_idle() {
        assert_eq!(four_in_five(8_000), (6_400, 1_600));
        assert_eq!(four_in_five(1), (0, 1));
    }
}
