// SPDX-License-Identifier: MIT OR Apache-2.0
//! `netpoll demo`: shows the framework's performance on this machine in less than a minute.
//!
//! It starts `netpoll serve rpc` and, as the limit to compare with, `netpoll serve reference` as
//! child processes. It drives both through the same scenarios, prints a table and writes a page
//! with plots. The two take turns, round by round: other work of the machine comes and goes over
//! seconds, and so affects both alike.
//!
//! The servers run on one processor and the load on another (if there are two), so the figures are
//! those of one poller. The children end with the demo, whether it succeeds, fails or is killed.

mod idle;
mod page;
mod scenario;
mod table;

use std::time::Duration;

use serde::Serialize;

use crate::arguments::{DemoArgs, Protocol};
use crate::error::CliError;
use crate::measurement::idle_memory::{affordable, bytes_per_connection};
use crate::measurement::load::spec::{LoadSpec, plan};
use crate::measurement::load::{self, LoadMode, LoadResult};
use crate::measurement::output_file::OutputFile;
use crate::measurement::process::machine::Machine;
use crate::measurement::process::server::{Program, SERVER_PROCESSOR, ServerProcess};
use crate::measurement::progress::ProgressDisplay;
use crate::output;
use crate::signal::Interrupt;

use idle::IdleCost;
use scenario::{DemoPlan, DemoScenario, DemoServer, SCENARIOS, ScenarioPair};

/// The results of a demo.
#[derive(Debug, Serialize)]
pub(crate) struct DemoResults {
    pub(crate) scenarios: Vec<ScenarioPair>,
    pub(crate) idle: IdleCost,
    pub(crate) machine: Machine,
    /// The rounds and intervals, in words.
    pub(crate) effort: String,
}

/// Runs the demo, prints the results and writes the page.
///
/// # Errors
///
/// A server that does not start or fails requests, a page that cannot be written, an interrupt.
pub(crate) fn run(arguments: &DemoArgs) -> Result<(), CliError> {
    let interrupt =
        Interrupt::on_signals().map_err(|error| CliError::io("listen for signals", &error))?;
    let plan = if arguments.quick {
        DemoPlan::QUICK
    } else {
        DemoPlan::FULL
    };
    // Children inherit the limit and need as many descriptors as the demo.
    netpoll_sys::process::raise_descriptor_limit().ok();
    let progress = ProgressDisplay::new(
        plan.total_time(SCENARIOS.len()),
        String::from("netpoll demo: a server and a load on this machine"),
    );
    let run = DemoRun {
        plan,
        interrupt: &interrupt,
        progress: &progress,
    };
    let file = OutputFile::reserve(&arguments.page)?;
    let results = run.measure_all();
    progress.finish();
    let results = results?;
    file.write(&page::render(&results)?)?;
    let page = arguments.page.display();
    if arguments.output.json {
        return output::result(json(&results, &page.to_string()));
    }
    output::result(table::render(&results))?;
    output::result("\nThe same with plots, for a browser:")?;
    output::result(page)
}

fn json(results: &DemoResults, page: &str) -> String {
    #[derive(Serialize)]
    struct Output<'a> {
        #[serde(flatten)]
        results: &'a DemoResults,
        page: &'a str,
    }
    serde_json::to_string(&Output { results, page })
        .expect("numbers, nulls and strings can always be written")
}

/// The state that all parts of a demo share.
struct DemoRun<'a> {
    plan: DemoPlan,
    interrupt: &'a Interrupt,
    progress: &'a ProgressDisplay,
}

impl DemoRun<'_> {
    fn measure_all(&self) -> Result<DemoResults, CliError> {
        Ok(DemoResults {
            scenarios: self.run_scenarios()?,
            idle: self.idle()?,
            machine: Machine::this(),
            effort: self.plan.to_string(),
        })
    }

    fn run_scenarios(&self) -> Result<Vec<ScenarioPair>, CliError> {
        let netpoll = start(DemoServer::Netpoll)?;
        let bare_loop = start(DemoServer::BareLoop)?;
        let mut measured = Vec::with_capacity(SCENARIOS.len());
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            self.progress.set_stage(scenario);
            let mut one = ScenarioPair::new(scenario);
            for round in 0..self.plan.rounds {
                // The order alternates, so that neither server always follows the other.
                let order = if round % 2 == 0 {
                    [DemoServer::Netpoll, DemoServer::BareLoop]
                } else {
                    [DemoServer::BareLoop, DemoServer::Netpoll]
                };
                for (turn, side) in order.into_iter().enumerate() {
                    let server = match side {
                        DemoServer::Netpoll => &netpoll,
                        DemoServer::BareLoop => &bare_loop,
                    };
                    let turns = (index * self.plan.rounds + round) * 2 + turn;
                    let result = self.drive(scenario, side, server, turns)?;
                    one.add(side, result);
                }
            }
            measured.push(one);
        }
        Ok(measured)
    }

    /// Runs one turn of one server, after `turns` earlier ones.
    fn drive(
        &self,
        scenario: &DemoScenario,
        side: DemoServer,
        server: &ServerProcess,
        turns: usize,
    ) -> Result<LoadResult, CliError> {
        let requests = LoadSpec {
            protocol: Protocol::Rpc,
            connections: scenario.connections,
            size: scenario.size,
            mode: LoadMode::Closed(scenario.depth),
        };
        let plan = plan(server, requests, self.plan.warm_up, self.plan.interval);
        let before = self.plan.turn() * u32::try_from(turns).unwrap_or(u32::MAX);
        let result = load::drive_until_answered(&plan, self.interrupt, &mut |state| {
            self.progress
                .update(before + state.elapsed, format_args!("{side}"));
        });
        self.check_interrupt()?;
        result.map_err(|error| CliError::new(format!("{side}, {scenario}: {error}")))
    }

    fn idle(&self) -> Result<IdleCost, CliError> {
        let wanted = self.plan.idle_connections;
        let connections = affordable(wanted);
        self.progress
            .set_stage(format_args!("idle: {connections} connections at rest"));
        let before = self.plan.turn() * self.plan.turns(SCENARIOS.len());
        let mut bytes = [0.0; 2];
        for (index, side) in [DemoServer::Netpoll, DemoServer::BareLoop]
            .into_iter()
            .enumerate()
        {
            self.progress.update(
                before + IDLE_ESTIMATE * index as u32,
                format_args!("{side}"),
            );
            // A fresh server: one that has run a scenario would reuse that memory.
            let server = start(side)?;
            bytes[index] = bytes_per_connection(&server, connections, self.interrupt)?;
            self.check_interrupt()?;
        }
        Ok(IdleCost {
            wanted,
            connections,
            netpoll_bytes: bytes[0],
            bare_loop_bytes: bytes[1],
        })
    }

    fn check_interrupt(&self) -> Result<(), CliError> {
        if self.interrupt.is_set() {
            return Err(CliError::new("interrupted"));
        }
        Ok(())
    }
}

/// Starts one of the two servers, with one poller.
fn start(side: DemoServer) -> Result<ServerProcess, CliError> {
    let program = Program::serve(side.kind(), &["--pollers", "1"])?;
    ServerProcess::start(&program, SERVER_PROCESSOR)
}

/// Estimated time of one server's idle connections, for the progress bar only.
const IDLE_ESTIMATE: Duration = Duration::from_millis(1000);
