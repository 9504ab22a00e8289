// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two ways to the outside: results on stdout, remarks on stderr.
//!
//! Both may be pipes that are full or whose other end has gone. A result is what the command was
//! called for: it is waited for, and a stdout that cannot be written to is a failure (`println!` would
//! panic). Remarks and announcements come from a process that serves meanwhile, so they go through a
//! [`Log`], which blocks nobody, drops what is too much, and is waited for at the end for a bounded
//! time.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::CliError;
use crate::log::Log;

/// How long the end of the process waits for what is not written yet.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

static STDERR_LOG: OnceLock<Option<Log>> = OnceLock::new();
static STDOUT_LOG: OnceLock<Option<Log>> = OnceLock::new();

/// The log of remarks; `None` if it has no thread.
fn stderr_log() -> Option<&'static Log> {
    let log = STDERR_LOG.get_or_init(|| Log::to("stderr", io::stderr()).ok());
    log.as_ref()
}

/// Prints one result on stdout, with a line end, and makes sure it has left the process.
pub(crate) fn result(text: impl fmt::Display) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| CliError::io("write to stdout", &error))
}

/// Prints one line on stdout, of a process that goes on whether or not it can be written.
pub(crate) fn announce(text: impl fmt::Display) {
    let log = STDOUT_LOG.get_or_init(|| Log::to("stdout", io::stdout()).ok());
    if let Some(log) = log {
        log.write(text.to_string());
    }
}

/// Prints one remark on stderr. Never blocks, and never fails.
pub(crate) fn log(text: impl fmt::Display) {
    if let Some(log) = stderr_log() {
        log.write(text.to_string());
    }
}

/// Prints why the command failed, on stderr and under the command's name.
pub(crate) fn error(text: impl fmt::Display) {
    log(format_args!("netpoll: {text}"));
}

/// How many remarks were dropped, since stderr was not read.
pub(crate) fn dropped_lines() -> u64 {
    stderr_log().map_or(0, Log::dropped)
}

/// Has panics told as remarks: the default is to write to stderr there and then, on whichever thread
/// it is.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        let panic = panic.to_string().replace('\n', " ");
        error(format_args!("the thread {name} {panic}"));
    }));
}

/// Waits, at the end of the process, until all is written; not for long, as it may never be.
pub(crate) fn flush() {
    for log in [&STDOUT_LOG, &STDERR_LOG] {
        if let Some(Some(log)) = log.get() {
            log.flush(FLUSH_TIMEOUT);
        }
    }
}
