// SPDX-License-Identifier: MIT OR Apache-2.0
//! `netpoll compare`: the framework beside others, on this machine, in one run.
//!
//! The peers are programs of `bench/peers`, which are built first. Each contender has one processor
//! for its server, and the load has another. They take turns, round by round, each turn with a fresh
//! server; a figure is the median over the rounds, with its spread, and a ratio is the median of the
//! ratios of the rounds. A peer that cannot be built, started or asked is told of and does not hold
//! up the others. Nothing of a comparison outlives it.
//!
//! ```text
//! selection   what the command line means      peer, scenario, metric   the tables
//! build       the programs                     contender                a peer that takes part
//! stage       scenario by scenario             plan                     how often, in which order
//! drive       one turn                         ceiling                  at which rate
//! findings    what came out                    rows, table, page        how it is shown
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
use crate::measurement::machine::Machine;
use crate::measurement::output_file::OutputFile;
use crate::output;
use crate::progress::ProgressDisplay;
use crate::signal::Interrupt;

use build::{PeerBuilder, PeerDirectory};
use contender::Contender;
use plan::ComparePlan;
use results::CompareResults;
use run::CompareRun;
use scenario::Scenario;

pub(crate) use peer::Peer;

/// Runs the comparison, prints what came out, and writes the files that were asked for.
///
/// # Errors
///
/// A file that cannot be written, an interrupt. Peers that fail are part of what comes out.
pub(crate) fn run(arguments: &CompareArgs) -> Result<(), CliError> {
    let interrupt =
        Interrupt::on_signals().map_err(|error| CliError::io("listen for signals", &error))?;
    let place = |path| OutputFile::reserve(path).map(Some);
    let json = arguments.json.as_deref().map_or(Ok(None), place)?;
    let html = arguments.html.as_deref().map_or(Ok(None), place)?;
    // Children inherit it, and need as many descriptors as the load.
    netpoll_sys::process::raise_descriptor_limit().ok();
    let peers = selection::peers_to_run(&arguments.peers);
    let scenarios = selection::scenarios_to_run(&arguments.scenarios, arguments.quick);
    let rounds = arguments.rounds.map(std::num::NonZeroUsize::get);
    let effort = ComparePlan::new(rounds, arguments.duration, arguments.quick);
    let guess = |scenario: &&'static Scenario| CompareRun::estimate(&effort, scenario, peers.len());
    let in_all = scenarios.iter().map(guess).sum();
    let progress = ProgressDisplay::new(in_all, title(peers.len(), scenarios.len(), in_all));
    let contenders = prepare(&peers, arguments, &interrupt, &progress)?;
    let stage = CompareRun {
        plan: effort,
        contenders: &contenders,
        interrupt: &interrupt,
        progress: &progress,
        done: Cell::new(Duration::ZERO),
        slowest_rates: RefCell::default(),
    };
    let measured = scenarios
        .into_iter()
        .map(|scenario| stage.measure(scenario));
    let measured: Result<Vec<_>, CliError> = measured.collect();
    progress.finish();
    let findings = CompareResults {
        scenarios: measured?,
        machine: Machine::this(),
        effort: effort.to_string(),
        warnings: warnings(&effort),
    };
    if let Some(json) = json {
        json.write(&rows::render(&findings))?;
    }
    if let Some(html) = html {
        html.write(&page::render(&findings)?)?;
    }
    output::result(table::render(&findings))
}

fn title(peers: usize, scenarios: usize, time: Duration) -> String {
    let minutes = time.as_secs().div_ceil(60);
    let plural = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    format!(
        "netpoll compare: {}, {}; about {} after what is built",
        plural(peers, "server"),
        plural(scenarios, "scenario"),
        plural(usize::try_from(minutes).unwrap_or(usize::MAX), "minute"),
    )
}

/// Builds what is needed.
fn prepare(
    peers: &[&'static Peer],
    arguments: &CompareArgs,
    interrupt: &Interrupt,
    progress: &ProgressDisplay,
) -> Result<Vec<Contender>, CliError> {
    let here = env::current_dir().unwrap_or_default();
    let bench = PeerDirectory::find(arguments.bench.as_deref(), &here);
    let mut workshop = PeerBuilder::new(&bench, interrupt);
    let mut contenders = Vec::with_capacity(peers.len());
    for &peer in peers {
        let mut building = || progress.set_stage(format_args!("building {peer}"));
        let ready = workshop.program(peer, &mut building);
        if interrupt.is_set() {
            progress.finish();
            return Err(CliError::new("interrupted before the end"));
        }
        if let (Err(why), None) = (&ready, bench.missing()) {
            progress.set_stage(format_args!("{peer} is not available: {why}"));
        }
        contenders.push(Contender {
            peer,
            program: ready,
        });
    }
    if let Some(why) = bench.missing() {
        progress.set_stage(format_args!("only netpoll and its reference: {why}"));
    }
    Ok(contenders)
}

/// What the figures cannot bear.
fn warnings(effort: &ComparePlan) -> Vec<String> {
    let debug = cfg!(debug_assertions).then(|| {
        String::from("This netpoll was built without optimisation; its figures mean nothing.")
    });
    let alone = (Machine::this().processors < 2).then(|| {
        String::from(
            "There is one processor for the server and the load; no figure is the server's.",
        )
    });
    [effort.warning(), debug, alone]
        .into_iter()
        .flatten()
        .collect()
}
