// SPDX-License-Identifier: MIT OR Apache-2.0
//! One turn: starts a fresh server, measures it, and ends it.

use std::thread;

use crate::arguments::Protocol;
use crate::error::CliError;
use crate::measurement::idle_memory;
use crate::measurement::load::spec::{LoadSpec, plan};
use crate::measurement::load::{self, LoadMode, LoadPlan, LoadResult, Report};
use crate::measurement::process::server::{LOAD_PROCESSOR, Program, ServerProcess};

use super::contender::Contender;
use super::metric::Metric;
use super::peer::ServerKind;
use super::results::RoundFigures;
use super::run::CompareRun;
use super::scenario::{LoadShape, Scenario};
use super::slowest_rate::ResolvedWorkload;

impl CompareRun<'_> {
    /// Runs one turn of one contender.
    ///
    /// # Errors
    ///
    /// A failure to start the server, to open the connections or to measure without errors.
    pub(super) fn turn(
        &self,
        scenario: &Scenario,
        workload: ResolvedWorkload,
        contender: &Contender,
    ) -> Result<RoundFigures, CliError> {
        let kind = scenario.kind;
        match workload {
            ResolvedWorkload::Load(shape, mode) => {
                let server = contender.start(kind, None)?;
                let plan = self.load_plan(&server, kind, shape, mode);
                figures(scenario, &plan, &self.drive(contender, &plan)?)
            }
            ResolvedWorkload::Through(shape, mode) => {
                let origin = Program::serve(ServerKind::Rpc.name(), &["--pollers", "1"])?;
                let origin = ServerProcess::start(&origin, LOAD_PROCESSOR)?;
                let proxy = contender.start(kind, Some(origin.addr()))?;
                let plan = self.load_plan(&proxy, kind, shape, mode);
                figures(scenario, &plan, &self.drive(contender, &plan)?)
            }
            ResolvedWorkload::Memory(count) => {
                let server = contender.start(kind, None)?;
                let bytes = on_load_processor(|| {
                    idle_memory::bytes_per_connection(&server, count, self.interrupt)
                })?;
                Ok(vec![(Metric::ResidentBytes, bytes)])
            }
            ResolvedWorkload::BesideIdle(count, shape) => {
                let server = contender.start(kind, None)?;
                let idle = on_load_processor(|| {
                    idle_memory::open_idle_connections(&server, count, self.interrupt)
                })?;
                let mode = LoadMode::Closed(shape.depth);
                let plan = self.load_plan(&server, kind, shape, mode);
                let result = self.drive(contender, &plan);
                drop(idle);
                figures(scenario, &plan, &result?)
            }
        }
    }

    /// Returns the plan of a load of this size on a server.
    pub(super) fn load_plan(
        &self,
        server: &ServerProcess,
        kind: ServerKind,
        shape: LoadShape,
        mode: LoadMode,
    ) -> LoadPlan {
        let requests = LoadSpec {
            protocol: match kind {
                ServerKind::Mux => Protocol::Mux,
                ServerKind::Rpc | ServerKind::Heavy | ServerKind::Proxy => Protocol::Rpc,
            },
            connections: shape.connections,
            size: shape.size,
            mode,
        };
        plan(server, requests, self.plan.warm_up, self.plan.interval)
    }

    /// Drives a server and returns the result of a run without errors.
    ///
    /// # Errors
    ///
    /// Failed requests, no response at all, or an error of the load.
    pub(super) fn drive(
        &self,
        contender: &Contender,
        plan: &LoadPlan,
    ) -> Result<LoadResult, CliError> {
        let before = self.done.get();
        load::drive_until_answered(plan, self.interrupt, &mut |state| {
            self.progress.update(before + state.elapsed, contender.peer);
        })
    }
}

/// Runs `work` on a thread that is pinned to the load's processor.
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

/// Returns the metrics of `scenario`, and those that explain them.
fn figures(
    scenario: &Scenario,
    plan: &LoadPlan,
    result: &LoadResult,
) -> Result<RoundFigures, CliError> {
    let report = Report::of(result);
    let offered = matches!(plan.mode, LoadMode::Open(_)).then_some(Metric::OfferedPerSecond);
    let also = offered.into_iter().chain([Metric::ServerBusy]);
    let wanted = scenario.metrics.iter().copied().chain(also);
    wanted
        .map(|metric| match metric.of(&report, plan.size) {
            Some(value) => Ok((metric, value)),
            None => Err(CliError::new(format!("{} was not measured", metric.name()))),
        })
        .collect()
}
