// SPDX-License-Identifier: MIT OR Apache-2.0
//! `netpoll demo`: what the framework does on this machine, in less than a minute.
//!
//! It starts `netpoll serve rpc` and, as the limit to compare with, `netpoll serve reference` as
//! child processes, drives both through the same scenarios, and shows a table and a page with
//! plots. The two are measured in turns, round by round: what a machine does besides comes and goes
//! over seconds, and so meets both alike.
//!
//! The servers have one processor and the load another (where there are two), so the figures are
//! those of one poller. Nothing of the demo outlives it: the children end with it, whether it ends
//! by itself, by an error or by a signal.

mod idle;
mod page;
mod scenario;
mod table;

use std::time::Duration;

use serde::Serialize;

use crate::arguments::{DemoArgs, Protocol};
use crate::failure::Failure;
use crate::load::{self, Outcome, Pressure};
use crate::measure::child::{Program, SERVER_PROCESSOR, Server};
use crate::measure::idle::{affordable, bytes_each};
use crate::measure::load::{Requests, plan};
use crate::measure::machine::Machine;
use crate::measure::place::Place;
use crate::print;
use crate::progress::Progress;
use crate::signal::Interrupt;

use idle::Idle;
use scenario::{Effort, Measured, SCENARIOS, Scenario, Side};

/// Everything a demo found out.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    pub(crate) scenarios: Vec<Measured>,
    pub(crate) idle: Idle,
    pub(crate) machine: Machine,
    /// How much was measured, in words.
    pub(crate) effort: String,
}

/// Runs the demo, prints what came out, and writes the page.
///
/// # Errors
///
/// A server that does not start or fails requests, a page that cannot be written, an interrupt.
pub(crate) fn run(arguments: &DemoArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::on_signals()
        .map_err(|error| Failure::while_trying("listen for signals", &error))?;
    let effort = if arguments.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    // Children inherit it, and need as many descriptors as the demo itself.
    netpoll_sys::process::raise_descriptor_limit().ok();
    let progress = Progress::new(
        effort.in_all(SCENARIOS.len()),
        String::from("netpoll demo: a server and a load on this machine"),
    );
    let stage = Stage {
        effort,
        interrupt: &interrupt,
        progress: &progress,
    };
    let place = Place::reserve(&arguments.page)?;
    let findings = stage.find_out();
    progress.finish();
    let findings = findings?;
    place.write(&page::render(&findings)?)?;
    let page = arguments.page.display();
    if arguments.output.json {
        return print::result(json(&findings, &page.to_string()));
    }
    print::result(table::render(&findings))?;
    print::result("\nThe same with plots, for a browser:")?;
    print::result(page)
}

fn json(findings: &Findings, page: &str) -> String {
    #[derive(Serialize)]
    struct Whole<'a> {
        #[serde(flatten)]
        findings: &'a Findings,
        page: &'a str,
    }
    serde_json::to_string(&Whole { findings, page })
        .expect("numbers, nulls and strings can always be written")
}

/// What all parts of a demo share.
struct Stage<'a> {
    effort: Effort,
    interrupt: &'a Interrupt,
    progress: &'a Progress,
}

impl Stage<'_> {
    fn find_out(&self) -> Result<Findings, Failure> {
        Ok(Findings {
            scenarios: self.drive_all()?,
            idle: self.idle()?,
            machine: Machine::this(),
            effort: self.effort.to_string(),
        })
    }

    fn drive_all(&self) -> Result<Vec<Measured>, Failure> {
        let netpoll = start(Side::Netpoll)?;
        let bare_loop = start(Side::BareLoop)?;
        let mut measured = Vec::with_capacity(SCENARIOS.len());
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            self.progress.stage(scenario);
            let mut one = Measured::new(scenario);
            for round in 0..self.effort.rounds {
                // Who goes first changes, so that neither always follows the other.
                let order = if round % 2 == 0 {
                    [Side::Netpoll, Side::BareLoop]
                } else {
                    [Side::BareLoop, Side::Netpoll]
                };
                for (turn, side) in order.into_iter().enumerate() {
                    let server = match side {
                        Side::Netpoll => &netpoll,
                        Side::BareLoop => &bare_loop,
                    };
                    let turns = (index * self.effort.rounds + round) * 2 + turn;
                    let outcome = self.drive(scenario, side, server, turns)?;
                    one.add(side, outcome);
                }
            }
            measured.push(one);
        }
        Ok(measured)
    }

    /// One turn of one server. `turns` have gone before.
    fn drive(
        &self,
        scenario: &Scenario,
        side: Side,
        server: &Server,
        turns: usize,
    ) -> Result<Outcome, Failure> {
        let requests = Requests {
            protocol: Protocol::Rpc,
            connections: scenario.connections,
            size: scenario.size,
            pressure: Pressure::Closed(scenario.depth),
        };
        let plan = plan(server, requests, self.effort.warm_up, self.effort.interval);
        let before = self.effort.turn() * u32::try_from(turns).unwrap_or(u32::MAX);
        let outcome = load::drive(&plan, self.interrupt, &mut |moment| {
            self.progress
                .at(before + moment.elapsed, format_args!("{side}"));
        })?;
        self.go_on()?;
        match &outcome.cause {
            Some(cause) => Err(Failure::new(format!(
                "{side} failed {} requests of {scenario}: {cause}",
                outcome.errors
            ))),
            None if outcome.requests == 0 => Err(Failure::new(format!(
                "{side} answered nothing of {scenario}"
            ))),
            None => Ok(outcome),
        }
    }

    fn idle(&self) -> Result<Idle, Failure> {
        let wanted = self.effort.idle_connections;
        let connections = affordable(wanted);
        self.progress
            .stage(format_args!("idle: {connections} connections at rest"));
        let before = self.effort.turn() * self.effort.turns(SCENARIOS.len());
        let mut bytes = [0.0; 2];
        for (index, side) in [Side::Netpoll, Side::BareLoop].into_iter().enumerate() {
            self.progress
                .at(before + IDLE_GUESS * index as u32, format_args!("{side}"));
            // A server of its own: memory that another scenario has used would be used again.
            let server = start(side)?;
            bytes[index] = bytes_each(&server, connections, self.interrupt)?;
            self.go_on()?;
        }
        Ok(Idle {
            wanted,
            connections,
            netpoll_bytes: bytes[0],
            bare_loop_bytes: bytes[1],
        })
    }

    fn go_on(&self) -> Result<(), Failure> {
        if self.interrupt.came() {
            return Err(Failure::new("interrupted before the end"));
        }
        Ok(())
    }
}

/// One of the two servers, with one poller.
fn start(side: Side) -> Result<Server, Failure> {
    let program = Program::serve(side.kind(), &["--pollers", "1"])?;
    Server::start(&program, SERVER_PROCESSOR)
}

/// How long one server's idle connections may take, for the progress bar alone.
const IDLE_GUESS: Duration = Duration::from_millis(1000);
