// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a tool to its end: a compiler, or a program that prints its kinds.
//!
//! Compilers start other processes, so a tool is a process group. The group is killed when the
//! comparison is interrupted. If the command comes from a [launcher], it also ends when the
//! comparison is killed.

use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::measurement::process::launcher;
use crate::signal::Interrupt;

/// Runs a command to its end and returns its output.
///
/// # Errors
///
/// The reason of a failure in one line, or an interrupt.
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
    let reason = reason(&String::from_utf8_lossy(&output.stderr));
    Err(format!("{name} failed: {reason}"))
}

/// A process group, killed when this is dropped.
struct ProcessGroup(Child);

impl ProcessGroup {
    /// Waits for the end of the process and returns its output.
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
            // Fails only if the group has already exited.
            kill_process_group(Pid::from_child(&self.0), Signal::KILL).ok();
            self.0.wait().ok();
        }
    }
}

fn read(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        // Keeps the bytes before a read error.
        from.read_to_end(&mut all).ok();
        all
    })
}

/// Returns the line that best explains a failure: the first error, else the last line.
fn reason(printed: &str) -> String {
    let mut lines = printed.lines().map(str::trim);
    let error = lines.clone().find(|line| line.starts_with("error"));
    let last = lines.rfind(|line| !line.is_empty());
    error.or(last).unwrap_or("it printed no reason").to_owned()
}

/// The interval at which a tool is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(30);

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    /// Waits up to ten seconds for `condition`; returns whether it became true.
    fn within_limit(condition: &dyn Fn() -> bool) -> bool {
        let mut checks = Duration::from_secs(10).as_millis() / POLL_INTERVAL.as_millis();
        while checks > 0 && !condition() {
            thread::sleep(POLL_INTERVAL);
            checks -= 1;
        }
        condition()
    }

    #[test]
    fn the_first_error_line_explains_a_failed_build() {
        let printed = "warning: old\nerror: no such crate\n\nCaused by:\n  offline\n";
        assert_eq!(reason(printed), "error: no such crate");
        assert_eq!(
            reason("go: cannot find module\n\n"),
            "go: cannot find module"
        );
        assert_eq!(reason(""), "it printed no reason");
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
        // The process that inherits an ended one may not have reaped it yet.
        let is_over = || {
            let stat = fs::read_to_string(format!("/proc/{child}/stat"));
            stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
        };
        assert!(within_limit(&is_over), "process {child} is left");
    }

    #[test]
    fn a_missing_tool_is_reported_by_name() {
        let interrupt = Interrupt::default();
        let reason = run_to_success(&mut Command::new("no-such-tool"), "a tool", &interrupt);
        assert_eq!(reason.unwrap_err(), "there is no a tool on this machine");
        let reason = run_to_success(
            Command::new("sh").args(["-c", "echo x >&2; exit 3"]),
            "sh",
            &interrupt,
        );
        assert_eq!(reason.unwrap_err(), "sh failed: x");
        // The exit status of the launcher for a missing program.
        let reason = run_to_success(
            Command::new("sh").args(["-c", "exit 127"]),
            "go",
            &interrupt,
        );
        assert_eq!(reason.unwrap_err(), "there is no go on this machine");
    }
}
