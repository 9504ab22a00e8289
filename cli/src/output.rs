// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two outputs of the command: results on stdout, log lines on stderr.
//!
//! Either may be a full pipe, or one whose reader is gone. A result is the purpose of the command:
//! printing it blocks, and a failed write is an error of the command (`println!` would panic). Log
//! lines and announcements come from a process that serves meanwhile. They go through a [`Log`],
//! which never blocks, drops lines when it is full, and is flushed within a bounded time at exit.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::CliError;
use crate::log::Log;

/// How long the exit of the process waits for unwritten lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

static STDERR_LOG: OnceLock<Option<Log>> = OnceLock::new();
static STDOUT_LOG: OnceLock<Option<Log>> = OnceLock::new();

/// Returns the log on stderr; `None` if its thread did not start.
fn stderr_log() -> Option<&'static Log> {
    let log = STDERR_LOG.get_or_init(|| Log::to("stderr", io::stderr()).ok());
    log.as_ref()
}

/// Prints one result and a newline on stdout, and flushes it. Blocks while the pipe is full.
pub(crate) fn result(text: impl fmt::Display) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| CliError::io("write to stdout", &error))
}

/// Prints one line on stdout. Never blocks, and ignores write errors: the process continues without
/// it.
pub(crate) fn announce(text: impl fmt::Display) {
    let log = STDOUT_LOG.get_or_init(|| Log::to("stdout", io::stdout()).ok());
    if let Some(log) = log {
        log.write(text.to_string());
    }
}

/// Prints one line on stderr. Never blocks and never fails.
pub(crate) fn log(text: impl fmt::Display) {
    if let Some(log) = stderr_log() {
        log.write(text.to_string());
    }
}

/// Prints an error on stderr, after the command's name.
pub(crate) fn error(text: impl fmt::Display) {
    log(format_args!("netpoll: {text}"));
}

/// Returns the number of lines dropped because stderr was not read.
pub(crate) fn dropped_lines() -> u64 {
    stderr_log().map_or(0, Log::dropped)
}

/// Logs panics as lines of the log. The default hook would write to stderr on the panicking thread,
/// and could block it.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("<unnamed>");
        let panic = panic.to_string().replace('\n', " ");
        error(format_args!("thread {name} {panic}"));
    }));
}

/// Flushes both outputs at exit, for at most half a second each.
pub(crate) fn flush() {
    for log in [&STDOUT_LOG, &STDERR_LOG] {
        if let Some(Some(log)) = log.get() {
            log.flush(FLUSH_TIMEOUT);
        }
    }
}
