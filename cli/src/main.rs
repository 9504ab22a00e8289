// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `netpoll` command: how one meets the project, and what its measurements are made with.
//!
//! * `netpoll serve` runs a server until a signal ends it.
//! * `netpoll load` drives a server and says how fast it answered.
//! * `netpoll demo` does both on this machine, and draws what came out.
//! * `netpoll compare` does so for netpoll and its peers.
//!
//! What holds for all of them: results go to stdout and everything else to stderr, so that a
//! script reads one and a person the other. A command line that cannot be meant ends with status
//! 2, work that failed with status 1, each with one line on stderr that says what was wrong.
//!
//! The load generator and the reference server stand on the kernel layer alone and not on the
//! framework they measure: a mistake of the framework must not be able to hide in both.
#![forbid(unsafe_code)]

mod address;
mod arguments;
mod busy_poll;
mod compare;
mod demo;
mod duration;
mod error;
mod keepalive;
mod limits;
mod load;
mod log;
mod measurement;
mod output;
mod process_stats;
mod progress;
mod reference;
mod runner;
mod serve;
mod signal;
mod statistics;

use std::process::ExitCode;

use arguments::CliCommand;
use error::CliError;

fn main() -> ExitCode {
    output::log_panics();
    let _finish = FlushGuard;
    if let Some(failure) = measurement::launcher::run_if_launcher() {
        output::error(&failure);
        return ExitCode::FAILURE;
    }
    let command = match arguments::parse() {
        Ok(command) => command,
        Err(status) => return status,
    };
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Sees to what is not written yet, also if the work panics.
struct FlushGuard;

impl Drop for FlushGuard {
    fn drop(&mut self) {
        output::flush();
    }
}

fn run(command: &CliCommand) -> Result<(), CliError> {
    match command {
        CliCommand::Serve(arguments) => serve::run(arguments),
        CliCommand::Load(arguments) => load::run(arguments),
        CliCommand::Demo(arguments) => demo::run(arguments),
        CliCommand::Compare(arguments) => compare::run(arguments),
    }
}
