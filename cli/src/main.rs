// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `netpoll` command: a server to try, and the tools that measure it.
//!
//! * `netpoll serve` runs a server until a signal ends it.
//! * `netpoll load` drives a server and reports throughput and latency.
//! * `netpoll demo` does both on this machine and draws the results.
//! * `netpoll compare` measures netpoll and its peers.
//!
//! All commands print results on stdout and everything else on stderr, so that a script reads the
//! one and a person the other. An invalid command line ends with status 2, failed work with status
//! 1; each prints one line on stderr that names the error.
//!
//! The modules follow this split: `arguments` is the command line, `serve` the server,
//! `measurement` the tools. `serve` uses nothing of `measurement`, which in turn starts servers as
//! child processes only.
//!
//! The load generator and the reference server use the kernel layer alone, not the framework that
//! they measure. A bug of the framework can therefore not hide on both sides of a measurement. The
//! loads through netpoll's own client (`load --ids`, `load --pool`) are the exception: they measure
//! the client, too.
#![forbid(unsafe_code)]

mod arguments;
mod busy_poll;
mod error;
mod log;
mod measurement;
mod output;
mod serve;
mod signal;

use std::process::ExitCode;

use arguments::CliCommand;
use error::CliError;
use measurement::{compare, demo, load};

fn main() -> ExitCode {
    output::log_panics();
    let _finish = FlushGuard;
    if let Some(failure) = measurement::process::launcher::run_if_launcher() {
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

/// Flushes the output when `main` returns or panics.
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
