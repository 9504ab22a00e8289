// SPDX-License-Identifier: MIT OR Apache-2.0
//! A launcher: this executable once more, which becomes a server that ends with its parent.
//!
//! A command that is killed cannot end its children. The kernel does: a process may ask for a signal
//! when its parent ends (`PR_SET_PDEATHSIG`), and stays so across `execve`. So the child starts as
//! `netpoll`, asks for it, moves to its processor, and then executes the program, which may be
//! anybody's and knows nothing of this.
//!
//! The kernel's parent is the *thread* that started the child. That thread has to live as long as the
//! child may: servers are started on the main thread.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use crate::failure::Failure;

/// The first argument of a launcher. No command has this name.
const WORD: &str = "launch-beside";

/// A command that becomes `program` on the processor given.
///
/// # Errors
///
/// If the kernel does not say which executable this is.
pub(super) fn command(program: &Path, processor: usize) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    let parent = getpid().as_raw_nonzero().to_string();
    command.args([WORD, &parent, &processor.to_string()]);
    command.arg(program);
    Ok(command)
}

/// Becomes the program that this process was started for, if it was started so. Returns only if it was
/// not, or if that fails.
pub(crate) fn launched() -> Option<Failure> {
    let mut arguments = env::args_os().skip(1);
    if arguments.next()? != WORD {
        return None;
    }
    let number = |argument: Option<OsString>| argument?.to_str()?.parse().ok();
    let (Some(parent), Some(processor), Some(program)) = (
        number(arguments.next()),
        number(arguments.next()),
        arguments.next(),
    ) else {
        return Some(Failure::new(
            "a launcher needs a parent, a processor and a program",
        ));
    };
    let name = program.to_string_lossy().into_owned();
    let error = become_program(parent, processor, program, arguments);
    Some(Failure::while_trying(format_args!("start {name}"), &error))
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
        if getppid()
            .map(Pid::as_raw_nonzero)
            .map(|pid| pid.get() as usize)
            != Some(parent)
        {
            return Err(io::Error::other("whoever started it has ended"));
        }
        netpoll_sys::process::pin_thread(processor)
    };
    match prepare() {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}
