// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a tool to its end: a compiler, or a program that is asked something.
//!
//! It is a group of processes, since compilers start others, and ends as one when the comparison is
//! interrupted. Where the command comes from a [launcher](crate::measure::launch), it does so as well when
//! the comparison is killed.

use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::measurement::launcher;
use crate::signal::Interrupt;

/// Runs a command to its end.
///
/// # Errors
///
/// Why it did not do what it was to, in a line; an interrupt.
pub(super) fn run_to_success(
    command: &mut Command,
    name: &str,
    interrupt: &Interrupt,
) -> Result<Output, String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("there is no {name} on this machine"),
        _ => format!("{name} does not start: {error}"),
    })?;
    let output = ProcessGroup(child).output(interrupt)?;
    if output.status.success() {
        return Ok(output);
    }
    if output.status.code() == Some(launcher::NOT_FOUND) {
        return Err(format!("there is no {name} on this machine"));
    }
    let why = reason(&String::from_utf8_lossy(&output.stderr));
    Err(format!("{name} failed: {why}"))
}

/// A process and those it has started, which end with this value.
struct ProcessGroup(Child);

impl ProcessGroup {
    /// What it printed, once it has ended.
    fn output(mut self, interrupt: &Interrupt) -> Result<Output, String> {
        let stdout = self.0.stdout.take().map(read);
        let stderr = self.0.stderr.take().map(read);
        let status = loop {
            match self.0.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if interrupt.is_set() => return Err(String::from("interrupted")),
                Ok(None) => thread::sleep(POLL_INTERVAL),
                Err(error) => return Err(error.to_string()),
            }
        };
        let all = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
            reader
                .and_then(|reader| reader.join().ok())
                .unwrap_or_default()
        };
        Ok(Output {
            status,
            stdout: all(stdout),
            stderr: all(stderr),
        })
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // It fails only for a group that is gone already.
            kill_process_group(Pid::from_child(&self.0), Signal::KILL).ok();
            self.0.wait().ok();
        }
    }
}

fn read(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        // What came before an error is all there is.
        from.read_to_end(&mut all).ok();
        all
    })
}

/// The line that says most of what a build printed: the first error, else the last line.
fn reason(printed: &str) -> String {
    let mut lines = printed.lines().map(str::trim);
    let error = lines.clone().find(|line| line.starts_with("error"));
    let last = lines.rfind(|line| !line.is_empty());
    error.or(last).unwrap_or("it does not say why").to_owned()
}

/// How often a build is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(30);

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    /// Whether `condition` comes true in ten seconds.
    fn within_limit(condition: &dyn Fn() -> bool) -> bool {
        let mut looks = Duration::from_secs(10).as_millis() / POLL_INTERVAL.as_millis();
        while looks > 0 && !condition() {
            thread::sleep(POLL_INTERVAL);
            looks -= 1;
        }
        condition()
    }

    #[test]
    fn the_first_error_says_why_a_build_failed() {
        let printed = "warning: old\nerror: no such crate\n\nCaused by:\n  offline\n";
        assert_eq!(reason(printed), "error: no such crate");
        assert_eq!(
            reason("go: cannot find module\n\n"),
            "go: cannot find module"
        );
        assert_eq!(reason(""), "it does not say why");
    }

    #[test]
    fn an_interrupt_ends_all_processes_of_a_build() {
        let interrupt = Interrupt::default();
        let note = env::temp_dir().join(format!("netpoll-build-{}", std::process::id()));
        let script = format!("sleep 1000 & echo $! > {}; wait", note.display());
        let started = || {
            let text = fs::read_to_string(&note).unwrap_or_default();
            text.strip_suffix('\n').map(str::to_owned)
        };
        let (ended, child) = thread::scope(|scope| {
            let build =
                || run_to_success(Command::new("sh").args(["-c", &script]), "sh", &interrupt);
            let build = scope.spawn(build);
            within_limit(&|| started().is_some());
            let child = started();
            interrupt.set();
            (build.join().unwrap(), child)
        });
        let child = child.expect("the process did not start");
        fs::remove_file(&note).unwrap();
        assert_eq!(ended.unwrap_err(), "interrupted");
        // Whoever inherits a process that has ended may not have looked at it yet.
        let is_over = || {
            let stat = fs::read_to_string(format!("/proc/{child}/stat"));
            stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
        };
        assert!(within_limit(&is_over), "process {child} is left");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let interrupt = Interrupt::default();
        let why = run_to_success(&mut Command::new("no-such-tool"), "a tool", &interrupt);
        assert_eq!(why.unwrap_err(), "there is no a tool on this machine");
        let why = run_to_success(
            Command::new("sh").args(["-c", "echo x >&2; exit 3"]),
            "sh",
            &interrupt,
        );
        assert_eq!(why.unwrap_err(), "sh failed: x");
        // As a launcher says it.
        let why = run_to_success(
            Command::new("sh").args(["-c", "exit 127"]),
            "go",
            &interrupt,
        );
        assert_eq!(why.unwrap_err(), "there is no go on this machine");
    }
}
