// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a comparison: scenario by scenario, turn by turn.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::error::CliError;
use crate::measurement::progress::ProgressDisplay;
use crate::signal::Interrupt;

use super::contender::Contender;
use super::plan::{ComparePlan, turns};
use super::results::{PeerResult, ScenarioResult};
use super::scenario::{Scenario, ScenarioLoad};
use super::slowest_rate::SlowestRate;

/// The state that all turns share.
pub(crate) struct CompareRun<'a> {
    pub(crate) plan: ComparePlan,
    pub(crate) contenders: &'a [Contender],
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) progress: &'a ProgressDisplay,
    /// Estimated duration of the completed turns.
    pub(crate) done: Cell<Duration>,
    /// The slowest rates that have been measured so far.
    pub(crate) slowest_rates: RefCell<Vec<SlowestRate>>,
}

impl CompareRun<'_> {
    /// Returns the approximate duration of a scenario.
    pub(crate) fn estimate(plan: &ComparePlan, scenario: &Scenario, contenders: usize) -> Duration {
        let rounds = match scenario.load {
            // One more round, to measure the rates of a closed loop.
            ScenarioLoad::Rate(..) => plan.rounds + 1,
            _ => plan.rounds,
        };
        let turns = u32::try_from(rounds * contenders).unwrap_or(u32::MAX);
        Self::turn_estimate(plan, scenario) * turns
    }

    fn turn_estimate(plan: &ComparePlan, scenario: &Scenario) -> Duration {
        match scenario.load {
            ScenarioLoad::Memory(_) => MANY_CONNECTIONS,
            ScenarioLoad::BesideIdle(_) => MANY_CONNECTIONS + plan.turn(),
            _ => plan.turn(),
        }
    }

    /// Runs one scenario with every contender that supports it.
    ///
    /// # Errors
    ///
    /// An interrupt. A failure of a contender is part of the results.
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
        let (workload, note) = self.resolve_load(scenario)?;
        measured.note = note;
        for index in turns(self.plan.rounds, self.contenders.len()) {
            let (contender, entry) = (&self.contenders[index], &mut measured.entries[index]);
            if entry.missing().is_none() {
                let turn = self.turn(scenario, workload, contender);
                self.check_interrupt()?;
                match turn {
                    Ok(round) => entry.add(round),
                    Err(failure) => entry.fail(failure.to_string()),
                }
            }
            self.advance(Self::turn_estimate(&self.plan, scenario), contender);
        }
        let estimate = Self::estimate(&self.plan, scenario, self.contenders.len());
        self.done.set(started + estimate);
        Ok(measured)
    }

    /// Advances the progress display by `time`.
    pub(super) fn advance(&self, time: Duration, contender: &Contender) {
        self.done.set(self.done.get() + time);
        self.progress.update(self.done.get(), contender.peer);
    }

    /// Returns an error after an interrupt.
    pub(super) fn check_interrupt(&self) -> Result<(), CliError> {
        if self.interrupt.is_set() {
            return Err(CliError::new("interrupted"));
        }
        Ok(())
    }
}

/// Approximate time to open thousands of connections and to use each once.
const MANY_CONNECTIONS: Duration = Duration::from_secs(2);
