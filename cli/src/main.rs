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
mod awake;
mod bounds;
mod compare;
mod demo;
mod duration;
mod failure;
mod keepalive;
mod load;
mod log;
mod measure;
mod print;
mod process_stats;
mod progress;
mod reference;
mod runner;
mod serve;
mod signal;
mod statistics;

use std::process::ExitCode;

use arguments::Command;
use failure::Failure;

fn main() -> ExitCode {
    print::tell_panics();
    let _finish = Finish;
    if let Some(failure) = measure::launch::launched() {
        print::complain(&failure);
        return ExitCode::FAILURE;
    }
    let command = match arguments::parse() {
        Ok(command) => command,
        Err(status) => return status,
    };
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print::complain(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Sees to what is not written yet, also if the work panics.
struct Finish;

impl Drop for Finish {
    fn drop(&mut self) {
        print::finish();
    }
}

fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Load(arguments) => load::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Compare(arguments) => compare::run(arguments),
    }
}
