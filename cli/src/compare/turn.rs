// SPDX-License-Identifier: MIT OR Apache-2.0
//! One turn: a fresh server, what is done with it, and the figures of that. The server ends with its
//! turn.

use std::thread;

use crate::arguments::Protocol;
use crate::error::CliError;
use crate::load::{self, LoadMode, LoadPlan, LoadResult, Report};
use crate::measurement::idle;
use crate::measurement::load::{LoadSpec, plan};
use crate::measurement::server_process::{LOAD_PROCESSOR, Program, ServerProcess};

use super::contender::Contender;
use super::metric::Metric;
use super::peer::ServerKind;
use super::results::RoundFigures;
use super::run::CompareRun;
use super::scenario::{LoadShape, Scenario};
use super::slowest_rate::ResolvedWorkload;

impl CompareRun<'_> {
    /// One turn of one contender.
    ///
    /// # Errors
    ///
    /// Whatever keeps the turn from being what it was meant to be.
    pub(super) fn turn(
        &self,
        scenario: &Scenario,
        way: ResolvedWorkload,
        contender: &Contender,
    ) -> Result<RoundFigures, CliError> {
        let kind = scenario.kind;
        match way {
            ResolvedWorkload::Load(shape, pressure) => {
                let server = contender.start(kind, None)?;
                let plan = self.load_plan(&server, kind, shape, pressure);
                figures(scenario, &plan, &self.drive(contender, &plan)?)
            }
            ResolvedWorkload::Through(shape, pressure) => {
                let origin = Program::serve(ServerKind::Rpc.name(), &["--pollers", "1"])?;
                let origin = ServerProcess::start(&origin, LOAD_PROCESSOR)?;
                let proxy = contender.start(kind, Some(origin.addr()))?;
                let plan = self.load_plan(&proxy, kind, shape, pressure);
                figures(scenario, &plan, &self.drive(contender, &plan)?)
            }
            ResolvedWorkload::Memory(count) => {
                let server = contender.start(kind, None)?;
                let bytes = on_load_processor(|| {
                    idle::bytes_per_connection(&server, count, self.interrupt)
                })?;
                Ok(vec![(Metric::ResidentBytes, bytes)])
            }
            ResolvedWorkload::BesideIdle(count, shape) => {
                let server = contender.start(kind, None)?;
                let idle = on_load_processor(|| {
                    idle::open_idle_connections(&server, count, self.interrupt)
                })?;
                let pressure = LoadMode::Closed(shape.depth);
                let plan = self.load_plan(&server, kind, shape, pressure);
                let outcome = self.drive(contender, &plan);
                drop(idle);
                figures(scenario, &plan, &outcome?)
            }
        }
    }

    /// What a load of this shape does to a server.
    pub(super) fn load_plan(
        &self,
        server: &ServerProcess,
        kind: ServerKind,
        shape: LoadShape,
        pressure: LoadMode,
    ) -> LoadPlan {
        let requests = LoadSpec {
            protocol: match kind {
                ServerKind::Mux => Protocol::Mux,
                ServerKind::Rpc | ServerKind::Heavy | ServerKind::Proxy => Protocol::Rpc,
            },
            connections: shape.connections,
            size: shape.size,
            pressure,
        };
        plan(server, requests, self.plan.warm_up, self.plan.interval)
    }

    /// Drives a server, and takes nothing but a run without errors for an outcome.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub(super) fn drive(
        &self,
        contender: &Contender,
        plan: &LoadPlan,
    ) -> Result<LoadResult, CliError> {
        let before = self.done.get();
        let outcome = load::drive(plan, self.interrupt, &mut |moment| {
            self.progress
                .update(before + moment.elapsed, contender.peer);
        })?;
        match &outcome.cause {
            Some(cause) => Err(CliError::new(format!(
                "{} requests failed: {cause}",
                outcome.errors
            ))),
            None if outcome.requests == 0 => Err(CliError::new("it answered nothing")),
            None => Ok(outcome),
        }
    }
}

/// Does something on the processor of the load.
fn on_load_processor<T: Send>(
    work: impl FnOnce() -> Result<T, CliError> + Send,
) -> Result<T, CliError> {
    let on_its_processor = || {
        netpoll_sys::process::pin_thread(LOAD_PROCESSOR)
            .map_err(|error| CliError::io("stay on one processor", &error))?;
        work()
    };
    let done = thread::scope(|scope| scope.spawn(on_its_processor).join());
    done.unwrap_or_else(|_| Err(CliError::new("a thread panicked")))
}

/// The figures that `scenario` asks for, and those that say how they came about.
fn figures(
    scenario: &Scenario,
    plan: &LoadPlan,
    outcome: &LoadResult,
) -> Result<RoundFigures, CliError> {
    let report = Report::of(outcome);
    let offered = matches!(plan.mode, LoadMode::Open(_)).then_some(Metric::OfferedPerSecond);
    let also = offered.into_iter().chain([Metric::ServerBusy]);
    let wanted = scenario.metrics.iter().copied().chain(also);
    wanted
        .map(|metric| match metric.of(&report, plan.size) {
            Some(value) => Ok((metric, value)),
            None => Err(CliError::new(format!("{} is not known", metric.name()))),
        })
        .collect()
}
