// SPDX-License-Identifier: MIT OR Apache-2.0
//! A launcher: this executable once more, which becomes a server, or runs a build, that ends with its
//! parent.
//!
//! A command that is killed cannot end its children. The kernel does: a process may ask for a signal
//! when its parent ends (`PR_SET_PDEATHSIG`), and stays so across `execve`. So the child starts as
//! `netpoll`, asks for it, moves to its processor, and then executes the program, which may be
//! anybody's and knows nothing of this.
//!
//! The kernel's parent is the *thread* that started the child. That thread has to live as long as the
//! child may: servers are started on the main thread.
//!
//! A build starts processes of its own, which a signal to the first of them does not reach. So its launcher
//! stays, as the first of the group of them all, and ends the group when its parent is gone.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, getpgrp, getpid, getppid, kill_process_group, set_parent_process_death_signal,
};

use crate::error::CliError;

/// The first argument of a launcher. No command has this name.
const LAUNCHER_ARGUMENT: &str = "launch-beside";

/// The first argument of the launcher of a build.
const BUILD_WORD: &str = "launch-build";

/// What the launcher of a build ends with if there is no such program, as a shell does.
pub(crate) const NOT_FOUND: i32 = 127;

/// How often the launcher of a build looks whether that has ended, or its own parent has.
const LOOK: Duration = Duration::from_millis(20);

/// A command that becomes `program` on the processor given.
///
/// # Errors
///
/// If the kernel does not say which executable this is.
pub(super) fn command(program: &Path, processor: usize) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    let parent = getpid().as_raw_nonzero().to_string();
    command.args([LAUNCHER_ARGUMENT, &parent, &processor.to_string()]);
    command.arg(program);
    Ok(command)
}

/// A command that runs `program`, and ends it with all processes it has started when this one ends. It
/// has to be the first of a group of processes ([`CommandExt::process_group`]).
///
/// # Errors
///
/// If the kernel does not say which executable this is.
pub(crate) fn build(program: impl AsRef<OsStr>) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    let parent = getpid().as_raw_nonzero().to_string();
    command.args([BUILD_WORD, &parent]).arg(program);
    Ok(command)
}

/// What this process was started for, if it is a launcher: becomes a program, or runs a build and ends as
/// that did. Returns only if it is none, or if that fails.
pub(crate) fn run_if_launcher() -> Option<CliError> {
    let mut arguments = env::args_os().skip(1);
    let word = arguments.next()?;
    let is_build = word == BUILD_WORD;
    if !is_build && word != LAUNCHER_ARGUMENT {
        return None;
    }
    let number = |argument: Option<OsString>| argument?.to_str()?.parse().ok();
    let parent = number(arguments.next());
    let processor = if is_build {
        Some(0)
    } else {
        number(arguments.next())
    };
    let (Some(parent), Some(processor), Some(program)) = (parent, processor, arguments.next())
    else {
        return Some(CliError::new(
            "a launcher needs a parent, a processor and a program",
        ));
    };
    let name = program.to_string_lossy().into_owned();
    let error = if is_build {
        match run_build(parent, program, arguments) {
            Ok(code) => std::process::exit(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::process::exit(NOT_FOUND),
            Err(error) => error,
        }
    } else {
        become_program(parent, processor, program, arguments)
    };
    Some(CliError::io(format_args!("start {name}"), &error))
}

fn become_program(
    parent: usize,
    processor: usize,
    program: OsString,
    arguments: impl Iterator<Item = OsString>,
) -> io::Error {
    let prepare = || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before that.
        if !is_parent(parent) {
            return Err(io::Error::other("the command that started it has ended"));
        }
        netpoll_sys::process::pin_thread(processor)
    };
    match prepare() {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

/// Whether the process `parent` has started this one, and is there.
fn is_parent(parent: usize) -> bool {
    let now = getppid().map(Pid::as_raw_nonzero);
    now.is_some_and(|pid| pid.get() as usize == parent)
}

/// Runs a program to its end, and says with what code it ended. If `parent` ends first, all of this group
/// of processes does.
fn run_build(
    parent: usize,
    program: OsString,
    arguments: impl Iterator<Item = OsString>,
) -> io::Result<i32> {
    let mut child = Command::new(program).args(arguments).spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            let by_signal = || 128 + status.signal().unwrap_or(0);
            return Ok(status.code().unwrap_or_else(by_signal));
        }
        if !is_parent(parent) {
            kill_process_group(getpgrp(), Signal::KILL)?;
        }
        thread::sleep(LOOK);
    }
}
