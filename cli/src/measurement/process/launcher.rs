// SPDX-License-Identifier: MIT OR Apache-2.0
//! The launcher: this executable, started again to become a server or to run a build that ends with
//! its parent.
//!
//! A killed command cannot end its children, but the kernel can: a process may request a signal for
//! the end of its parent (`PR_SET_PDEATHSIG`), and `execve` keeps the request. The child therefore
//! starts as `netpoll`, makes the request, moves to its processor, and then executes the program.
//! The program may be any executable and needs no support for this.
//!
//! For the kernel, the parent is the *thread* that started the child. The thread has to live as
//! long as the child: servers are started on the main thread.
//!
//! A build starts processes of its own, which a signal to the first one does not reach. Its
//! launcher therefore stays, as the leader of their process group, and kills the group when its
//! parent is gone.

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

/// The first argument of a launcher of a server. No command has this name.
const LAUNCHER_ARGUMENT: &str = "launch-beside";

/// The first argument of the launcher of a build.
const BUILD_ARGUMENT: &str = "launch-build";

/// The exit status of a build launcher if the program does not exist, as in a shell.
pub(crate) const NOT_FOUND: i32 = 127;

/// The interval at which a build launcher checks its child and its parent.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Returns a command that becomes `program` on the given processor.
///
/// # Errors
///
/// The path of this executable cannot be read.
pub(super) fn command(program: &Path, processor: usize) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    let parent = getpid().as_raw_nonzero().to_string();
    command.args([LAUNCHER_ARGUMENT, &parent, &processor.to_string()]);
    command.arg(program);
    Ok(command)
}

/// Returns a command that runs `program` and kills it, with all processes that it has started, when
/// this process ends. The command has to lead a process group ([`CommandExt::process_group`]).
///
/// # Errors
///
/// The path of this executable cannot be read.
pub(crate) fn build(program: impl AsRef<OsStr>) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    let parent = getpid().as_raw_nonzero().to_string();
    command.args([BUILD_ARGUMENT, &parent]).arg(program);
    Ok(command)
}

/// Runs the launcher if this process was started as one: becomes the program, or runs the build and
/// exits with its status. Returns `None` if this is no launcher, else the error.
pub(crate) fn run_if_launcher() -> Option<CliError> {
    let mut arguments = env::args_os().skip(1);
    let word = arguments.next()?;
    let is_build = word == BUILD_ARGUMENT;
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
            "the launcher needs a parent, a processor and a program",
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
        // The parent may have ended before the request.
        if !is_parent(parent) {
            return Err(io::Error::other("the parent process has exited"));
        }
        netpoll_sys::process::pin_thread(processor)
    };
    match prepare() {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

/// Returns whether `parent` is still the parent of this process.
fn is_parent(parent: usize) -> bool {
    let now = getppid().map(Pid::as_raw_nonzero);
    now.is_some_and(|pid| pid.get() as usize == parent)
}

/// Runs a program to its end and returns its exit status. If `parent` ends first, kills the whole
/// process group, this process included.
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
        thread::sleep(POLL_INTERVAL);
    }
}
