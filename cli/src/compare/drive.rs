// SPDX-License-Identifier: MIT OR Apache-2.0
//! One turn: a fresh server, what is done with it, and the figures of that. The server ends with its
//! turn.

use std::thread;

use crate::arguments::Protocol;
use crate::failure::Failure;
use crate::load::{self, Outcome, Plan, Pressure, Report};
use crate::measure::child::{LOAD_PROCESSOR, Program, Server};
use crate::measure::idle;
use crate::measure::load::{Requests, plan};

use super::ceiling::Settled;
use super::contender::Contender;
use super::findings::Round;
use super::metric::Metric;
use super::peer::Kind;
use super::scenario::{Scenario, Shape};
use super::stage::Stage;

impl Stage<'_> {
    /// One turn of one contender.
    ///
    /// # Errors
    ///
    /// Whatever keeps the turn from being what it was meant to be.
    pub(super) fn turn(
        &self,
        scenario: &Scenario,
        way: Settled,
        contender: &Contender,
    ) -> Result<Round, Failure> {
        let kind = scenario.kind;
        match way {
            Settled::Load(shape, pressure) => {
                let server = contender.start(kind, None)?;
                let plan = self.plan(&server, kind, shape, pressure);
                figures(scenario, &plan, &self.drive(contender, &plan)?)
            }
            Settled::Through(shape, pressure) => {
                let origin = Program::serve(Kind::Rpc.name(), &["--pollers", "1"])?;
                let origin = Server::start(&origin, LOAD_PROCESSOR)?;
                let proxy = contender.start(kind, Some(origin.addr()))?;
                let plan = self.plan(&proxy, kind, shape, pressure);
                figures(scenario, &plan, &self.drive(contender, &plan)?)
            }
            Settled::Memory(count) => {
                let server = contender.start(kind, None)?;
                let bytes = beside(|| idle::bytes_each(&server, count, self.interrupt))?;
                Ok(vec![(Metric::ResidentBytes, bytes)])
            }
            Settled::BesideIdle(count, shape) => {
                let server = contender.start(kind, None)?;
                let idle = beside(|| idle::used_once(&server, count, self.interrupt))?;
                let pressure = Pressure::Closed(shape.depth);
                let plan = self.plan(&server, kind, shape, pressure);
                let outcome = self.drive(contender, &plan);
                drop(idle);
                figures(scenario, &plan, &outcome?)
            }
        }
    }

    /// What a load of this shape does to a server.
    pub(super) fn plan(
        &self,
        server: &Server,
        kind: Kind,
        shape: Shape,
        pressure: Pressure,
    ) -> Plan {
        let requests = Requests {
            protocol: match kind {
                Kind::Mux => Protocol::Mux,
                Kind::Rpc | Kind::Heavy | Kind::Proxy => Protocol::Rpc,
            },
            connections: shape.connections,
            size: shape.size,
            pressure,
        };
        plan(server, requests, self.effort.warm_up, self.effort.interval)
    }

    /// Drives a server, and takes nothing but a run without errors for an outcome.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub(super) fn drive(&self, contender: &Contender, plan: &Plan) -> Result<Outcome, Failure> {
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
}

/// Does something on the processor of the load.
fn beside<T: Send>(work: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    let on_its_processor = || {
        netpoll_sys::process::pin_thread(LOAD_PROCESSOR)
            .map_err(|error| Failure::while_trying("stay on one processor", &error))?;
        work()
    };
    let done = thread::scope(|scope| scope.spawn(on_its_processor).join());
    done.unwrap_or_else(|_| Err(Failure::new("a thread panicked")))
}

/// The figures that `scenario` asks for, and those that say how they came about.
fn figures(scenario: &Scenario, plan: &Plan, outcome: &Outcome) -> Result<Round, Failure> {
    let report = Report::of(outcome);
    let offered = matches!(plan.pressure, Pressure::Open(_)).then_some(Metric::OfferedPerSecond);
    let also = offered.into_iter().chain([Metric::ServerBusy]);
    let wanted = scenario.metrics.iter().copied().chain(also);
    wanted
        .map(|metric| match metric.of(&report, plan.size) {
            Some(value) => Ok((metric, value)),
            None => Err(Failure::new(format!("{} is not known", metric.name()))),
        })
        .collect()
}
