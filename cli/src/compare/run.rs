// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of the measuring: scenario by scenario, turn by turn.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::error::CliError;
use crate::progress::ProgressDisplay;
use crate::signal::Interrupt;

use super::contender::Contender;
use super::plan::{ComparePlan, turns};
use super::results::{PeerResult, ScenarioResult};
use super::scenario::{Scenario, ScenarioLoad};
use super::slowest_rate::SlowestRate;

/// What all turns share.
pub(crate) struct CompareRun<'a> {
    pub(crate) plan: ComparePlan,
    pub(crate) contenders: &'a [Contender],
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) progress: &'a ProgressDisplay,
    /// How much has been done, in time that it was thought to take.
    pub(crate) done: Cell<Duration>,
    /// What the contenders can do, as far as somebody wanted to know.
    pub(crate) slowest_rates: RefCell<Vec<SlowestRate>>,
}

impl CompareRun<'_> {
    /// How long a scenario takes, more or less.
    pub(crate) fn estimate(
        effort: &ComparePlan,
        scenario: &Scenario,
        contenders: usize,
    ) -> Duration {
        let rounds = match scenario.load {
            // What they can do is found out first.
            ScenarioLoad::Rate(..) => effort.rounds + 1,
            _ => effort.rounds,
        };
        let turns = u32::try_from(rounds * contenders).unwrap_or(u32::MAX);
        Self::turn_estimate(effort, scenario) * turns
    }

    fn turn_estimate(effort: &ComparePlan, scenario: &Scenario) -> Duration {
        match scenario.load {
            ScenarioLoad::Memory(_) => MANY_CONNECTIONS,
            ScenarioLoad::BesideIdle(_) => MANY_CONNECTIONS + effort.turn(),
            _ => effort.turn(),
        }
    }

    /// Runs one scenario with everybody who can.
    ///
    /// # Errors
    ///
    /// An interrupt. What goes wrong with a contender is part of what was found out.
    pub(crate) fn measure(&self, scenario: &'static Scenario) -> Result<ScenarioResult, CliError> {
        let id = scenario.id();
        let shape = scenario.shape();
        self.progress.set_stage(format_args!("{id}: {shape}"));
        let started = self.done.get();
        let entry = |contender: &Contender| {
            PeerResult::new(contender.peer, contender.missing_reason(scenario.kind))
        };
        let mut measured =
            ScenarioResult::new(scenario, self.contenders.iter().map(entry).collect());
        let (way, note) = self.resolve_load(scenario)?;
        measured.note = note;
        for place in turns(self.plan.rounds, self.contenders.len()) {
            let (contender, entry) = (&self.contenders[place], &mut measured.entries[place]);
            if entry.missing().is_none() {
                let turn = self.turn(scenario, way, contender);
                self.check_interrupt()?;
                match turn {
                    Ok(round) => entry.add(round),
                    Err(failure) => entry.fail(failure.to_string()),
                }
            }
            self.advance(Self::turn_estimate(&self.plan, scenario), contender);
        }
        let guess = Self::estimate(&self.plan, scenario, self.contenders.len());
        self.done.set(started + guess);
        Ok(measured)
    }

    /// So much more has been done.
    pub(super) fn advance(&self, time: Duration, contender: &Contender) {
        self.done.set(self.done.get() + time);
        self.progress.update(self.done.get(), contender.peer);
    }

    /// # Errors
    ///
    /// If somebody wants all of this to end.
    pub(super) fn check_interrupt(&self) -> Result<(), CliError> {
        if self.interrupt.is_set() {
            return Err(CliError::new("interrupted before the end"));
        }
        Ok(())
    }
}

/// What it takes to open thousands of connections and to use each once, more or less.
const MANY_CONNECTIONS: Duration = Duration::from_secs(2);
