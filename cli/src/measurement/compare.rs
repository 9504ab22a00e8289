// SPDX-License-Identifier: MIT OR Apache-2.0
//! `netpoll compare`: measures the framework and other frameworks on this machine, in one run.
//!
//! The peers are programs in `bench/peers`, which are built first. Each server has one processor,
//! and the load has another. The contenders take turns, round by round, each turn with a fresh
//! server. A figure is the median over the rounds, with its spread; a ratio is the median of the
//! ratios of the rounds. A peer that fails to build, start or answer is reported and skipped. Child
//! processes end with the comparison.
//!
//! ```text
//! selection   the peers and scenarios of the command line
//! peer, scenario, metric   the tables
//! build       builds the programs        contender      a peer and its program
//! run         scenario by scenario       plan           rounds, intervals, order of turns
//! turn        one turn                   slowest_rate   the rates of the open loops
//! results     the collected results      rows, table, page   the outputs
//! ```

mod build;
mod contender;
mod metric;
mod page;
mod peer;
mod plan;
mod results;
mod rows;
mod run;
mod scenario;
pub(crate) mod selection;
mod slowest_rate;
mod table;
mod tool;
mod turn;

use std::cell::{Cell, RefCell};
use std::env;
use std::time::Duration;

use crate::arguments::CompareArgs;
use crate::error::CliError;
use crate::measurement::output_file::OutputFile;
use crate::measurement::process::machine::Machine;
use crate::measurement::progress::ProgressDisplay;
use crate::output;
use crate::signal::Interrupt;

use build::{PeerBuilder, PeerDirectory};
use contender::Contender;
use plan::ComparePlan;
use results::CompareResults;
use run::CompareRun;
use scenario::Scenario;

pub(crate) use peer::Peer;

/// Runs the comparison, prints the results, and writes the requested files.
///
/// # Errors
///
/// A file that cannot be written, or an interrupt. A peer that fails is part of the results.
pub(crate) fn run(arguments: &CompareArgs) -> Result<(), CliError> {
    let interrupt =
        Interrupt::on_signals().map_err(|error| CliError::io("listen for signals", &error))?;
    let reserve = |path| OutputFile::reserve(path).map(Some);
    let json = arguments.json.as_deref().map_or(Ok(None), reserve)?;
    let html = arguments.html.as_deref().map_or(Ok(None), reserve)?;
    // Children inherit the limit and need as many descriptors as the load.
    netpoll_sys::process::raise_descriptor_limit().ok();
    let peers = selection::peers_to_run(&arguments.peers);
    let scenarios = selection::scenarios_to_run(&arguments.scenarios, arguments.quick);
    let rounds = arguments.rounds.map(std::num::NonZeroUsize::get);
    let plan = ComparePlan::new(rounds, arguments.duration, arguments.quick);
    let estimate =
        |scenario: &&'static Scenario| CompareRun::estimate(&plan, scenario, peers.len());
    let total = scenarios.iter().map(estimate).sum();
    let progress = ProgressDisplay::new(total, title(peers.len(), scenarios.len(), total));
    let contenders = prepare(&peers, arguments, &interrupt, &progress)?;
    let run = CompareRun {
        plan,
        contenders: &contenders,
        interrupt: &interrupt,
        progress: &progress,
        done: Cell::new(Duration::ZERO),
        slowest_rates: RefCell::default(),
    };
    let measured = scenarios.into_iter().map(|scenario| run.measure(scenario));
    let measured: Result<Vec<_>, CliError> = measured.collect();
    progress.finish();
    let results = CompareResults {
        scenarios: measured?,
        machine: Machine::this(),
        effort: plan.to_string(),
        warnings: warnings(&plan),
    };
    if let Some(json) = json {
        json.write(&rows::render(&results))?;
    }
    if let Some(html) = html {
        html.write(&page::render(&results)?)?;
    }
    output::result(table::render(&results))
}

fn title(peers: usize, scenarios: usize, time: Duration) -> String {
    let minutes = time.as_secs().div_ceil(60);
    let plural = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    format!(
        "netpoll compare: {}, {}; about {} after the builds",
        plural(peers, "server"),
        plural(scenarios, "scenario"),
        plural(usize::try_from(minutes).unwrap_or(usize::MAX), "minute"),
    )
}

/// Builds the programs of the peers.
fn prepare(
    peers: &[&'static Peer],
    arguments: &CompareArgs,
    interrupt: &Interrupt,
    progress: &ProgressDisplay,
) -> Result<Vec<Contender>, CliError> {
    let here = env::current_dir().unwrap_or_default();
    let directory = PeerDirectory::find(arguments.bench.as_deref(), &here);
    let mut builder = PeerBuilder::new(&directory, interrupt);
    let mut contenders = Vec::with_capacity(peers.len());
    for &peer in peers {
        let mut building = || progress.set_stage(format_args!("building {peer}"));
        let program = builder.program(peer, &mut building);
        if interrupt.is_set() {
            progress.finish();
            return Err(CliError::new("interrupted"));
        }
        if let (Err(reason), None) = (&program, directory.missing()) {
            progress.set_stage(format_args!("{peer} is not available: {reason}"));
        }
        contenders.push(Contender { peer, program });
    }
    if let Some(reason) = directory.missing() {
        progress.set_stage(format_args!(
            "running netpoll and its reference only: {reason}"
        ));
    }
    Ok(contenders)
}

/// Returns the reasons why the figures are not reliable.
fn warnings(plan: &ComparePlan) -> Vec<String> {
    let debug = cfg!(debug_assertions).then(|| {
        String::from("This netpoll was built without optimization; its figures mean nothing.")
    });
    let alone = (Machine::this().processors < 2).then(|| {
        String::from(
            "The server and the load share one processor; the figures are not the server's alone.",
        )
    });
    [plan.warning(), debug, alone]
        .into_iter()
        .flatten()
        .collect()
}
