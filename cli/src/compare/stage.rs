// SPDX-License-Identifier: MIT OR Apache-2.0
//! The measuring itself: turn by turn, each with a fresh server that ends with its turn.

use std::cell::Cell;
use std::time::Duration;

use crate::arguments::Protocol;
use crate::failure::Failure;
use crate::load::{self, Ids, Outcome, Plan, Pressure, Report, Threads};
use crate::measure::child::{LOAD_PROCESSOR, Server};
use crate::progress::Progress;
use crate::signal::Interrupt;

use super::contender::Contender;
use super::findings::{Entry, Measured, Round};
use super::metric::Metric;
use super::peer::Kind;
use super::plan::{Effort, turns};
use super::scenario::{Scenario, Shape, Way};

/// What all turns share.
pub(crate) struct Stage<'a> {
    pub(crate) effort: Effort,
    pub(crate) contenders: &'a [Contender],
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) progress: &'a Progress,
    /// How much has been done, in time that it was thought to take.
    pub(crate) done: Cell<Duration>,
}

impl Stage<'_> {
    /// How long a scenario takes, more or less.
    pub(crate) fn guess(effort: &Effort, contenders: usize) -> Duration {
        let turns = u32::try_from(effort.rounds * contenders).unwrap_or(u32::MAX);
        effort.turn() * turns
    }

    /// Runs one scenario with everybody who can.
    ///
    /// # Errors
    ///
    /// An interrupt. What goes wrong with a contender is part of what was found out.
    pub(crate) fn measure(&self, scenario: &'static Scenario) -> Result<Measured, Failure> {
        let id = scenario.id();
        self.progress
            .stage(format_args!("{id}: {}", scenario.shape()));
        let entry =
            |contender: &Contender| Entry::new(contender.peer, contender.lacks(scenario.kind));
        let mut measured = Measured::new(scenario, self.contenders.iter().map(entry).collect());
        for place in turns(self.effort.rounds, self.contenders.len()) {
            let (contender, entry) = (&self.contenders[place], &mut measured.entries[place]);
            let before = self.done.get();
            if entry.missing().is_none() {
                let turn = self.turn(scenario, contender);
                self.go_on()?;
                match turn {
                    Ok(round) => entry.add(round),
                    Err(failure) => entry.fail(failure.to_string()),
                }
            }
            self.done.set(before + self.effort.turn());
            self.progress.at(self.done.get(), contender.peer);
        }
        Ok(measured)
    }

    /// One turn of one contender.
    fn turn(&self, scenario: &Scenario, contender: &Contender) -> Result<Round, Failure> {
        let server = contender.start(scenario.kind, None)?;
        match scenario.way {
            Way::Closed(shape) => {
                let plan = self.plan(&server, scenario.kind, shape);
                let outcome = self.drive(contender, &plan)?;
                figures(scenario, &outcome, shape.size)
            }
        }
    }

    /// What a closed loop of this shape does.
    fn plan(&self, server: &Server, kind: Kind, shape: Shape) -> Plan {
        Plan {
            protocol: match kind {
                Kind::Mux => Protocol::Mux,
                Kind::Rpc => Protocol::Rpc,
            },
            ids: Ids::None,
            pool: None,
            addr: server.addr().into(),
            connections: shape.connections,
            size: shape.size,
            pressure: Pressure::Closed(shape.depth),
            warm_up: self.effort.warm_up,
            duration: self.effort.interval,
            threads: Threads {
                count: 1,
                pin: Some(LOAD_PROCESSOR),
            },
            server_pid: Some(server.pid()),
        }
    }

    /// Drives a server, and takes nothing but a run without errors for an outcome.
    fn drive(&self, contender: &Contender, plan: &Plan) -> Result<Outcome, Failure> {
        let before = self.done.get();
        let outcome = load::drive(plan, self.interrupt, &mut |moment| {
            self.progress.at(before + moment.elapsed, contender.peer);
        })?;
        match &outcome.cause {
            Some(cause) => Err(Failure::new(format!(
                "{} requests failed: {cause}",
                outcome.errors
            ))),
            None if outcome.requests == 0 => Err(Failure::new("it answered nothing")),
            None => Ok(outcome),
        }
    }

    fn go_on(&self) -> Result<(), Failure> {
        if self.interrupt.came() {
            return Err(Failure::new("interrupted before the end"));
        }
        Ok(())
    }
}

/// The figures that `scenario` asks for, and how busy the server was.
fn figures(scenario: &Scenario, outcome: &Outcome, size: usize) -> Result<Round, Failure> {
    let report = Report::of(outcome);
    let wanted = scenario.metrics.iter().copied().chain([Metric::ServerBusy]);
    wanted
        .map(|metric| match metric.of(&report, size) {
            Some(value) => Ok((metric, value)),
            None => Err(Failure::new(format!("{} is not known", metric.name()))),
        })
        .collect()
}
