// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of the measuring: scenario by scenario, turn by turn.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::failure::Failure;
use crate::progress::Progress;
use crate::signal::Interrupt;

use super::ceiling::Ceiling;
use super::contender::Contender;
use super::findings::{Entry, Measured};
use super::plan::{Effort, turns};
use super::scenario::{Scenario, Way};

/// What all turns share.
pub(crate) struct Stage<'a> {
    pub(crate) effort: Effort,
    pub(crate) contenders: &'a [Contender],
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) progress: &'a Progress,
    /// How much has been done, in time that it was thought to take.
    pub(crate) done: Cell<Duration>,
    /// What the contenders can do, as far as somebody wanted to know.
    pub(crate) ceilings: RefCell<Vec<Ceiling>>,
}

impl Stage<'_> {
    /// How long a scenario takes, more or less.
    pub(crate) fn guess(effort: &Effort, scenario: &Scenario, contenders: usize) -> Duration {
        let rounds = match scenario.way {
            // What they can do is found out first.
            Way::Rate(..) => effort.rounds + 1,
            _ => effort.rounds,
        };
        let turns = u32::try_from(rounds * contenders).unwrap_or(u32::MAX);
        Self::turn_guess(effort, scenario) * turns
    }

    fn turn_guess(effort: &Effort, scenario: &Scenario) -> Duration {
        match scenario.way {
            Way::Memory(_) => MANY_CONNECTIONS,
            Way::BesideIdle(_) => MANY_CONNECTIONS + effort.turn(),
            _ => effort.turn(),
        }
    }

    /// Runs one scenario with everybody who can.
    ///
    /// # Errors
    ///
    /// An interrupt. What goes wrong with a contender is part of what was found out.
    pub(crate) fn measure(&self, scenario: &'static Scenario) -> Result<Measured, Failure> {
        let id = scenario.id();
        let shape = scenario.shape();
        self.progress.stage(format_args!("{id}: {shape}"));
        let started = self.done.get();
        let entry =
            |contender: &Contender| Entry::new(contender.peer, contender.lacks(scenario.kind));
        let mut measured = Measured::new(scenario, self.contenders.iter().map(entry).collect());
        let (way, note) = self.settled(scenario)?;
        measured.note = note;
        for place in turns(self.effort.rounds, self.contenders.len()) {
            let (contender, entry) = (&self.contenders[place], &mut measured.entries[place]);
            if entry.missing().is_none() {
                let turn = self.turn(scenario, way, contender);
                self.go_on()?;
                match turn {
                    Ok(round) => entry.add(round),
                    Err(failure) => entry.fail(failure.to_string()),
                }
            }
            self.passed(Self::turn_guess(&self.effort, scenario), contender);
        }
        let guess = Self::guess(&self.effort, scenario, self.contenders.len());
        self.done.set(started + guess);
        Ok(measured)
    }

    /// So much more has been done.
    pub(super) fn passed(&self, time: Duration, contender: &Contender) {
        self.done.set(self.done.get() + time);
        self.progress.at(self.done.get(), contender.peer);
    }

    /// # Errors
    ///
    /// If somebody wants all of this to end.
    pub(super) fn go_on(&self) -> Result<(), Failure> {
        if self.interrupt.came() {
            return Err(Failure::new("interrupted before the end"));
        }
        Ok(())
    }
}

/// What it takes to open thousands of connections and to use each once, more or less.
const MANY_CONNECTIONS: Duration = Duration::from_secs(2);
