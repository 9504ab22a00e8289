// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs suites again with another runner or another kind of socket. Each test here starts this test
//! program again with the suites that do not depend on the changed setting.
//!
//! Behaviour that holds only on the poller is in `on_the_poller.rs` and runs once.

use std::process::Command;

use crate::support::setting::{KIND, RUNS};

/// Suites that hold with every runner.
const ANYWHERE: [&str; 8] = [
    "deadlines",
    "dial",
    "everywhere",
    "flow",
    "hazards",
    "limits",
    "resets",
    "timeouts",
];

/// Suites that hold over TCP and Unix sockets.
const ANY_SOCKET: [&str; 23] = [
    "blocking",
    "close_notifications",
    "descriptors",
    "edge_cases",
    "everywhere",
    "frames",
    "halves",
    "hazards",
    "liveness",
    "mux",
    "mux_serving",
    "on_the_poller",
    "pinned_handlers",
    "pool",
    "pool_idle",
    "pool_wait_queue",
    "pushed_memory",
    "reading",
    "reservations",
    "serve",
    "write_queue",
    "write_shutdown",
    "writing",
];

/// Runs the tests of `suites` in a new process of this program with these settings.
fn run_again(runs: &str, kind: &str, suites: &[&str]) {
    let program = std::env::current_exe().expect("a program");
    let mut command = Command::new(program);
    command.env(RUNS, runs).env(KIND, kind);
    // Pass on the filters of the caller, which a sanitizer run uses for example.
    command.args(std::env::args().filter(|argument| argument.starts_with("--skip=")));
    command.args(suites.iter().map(|suite| format!("{suite}::")));
    let output = command.output().expect("a child");
    let stdout = String::from_utf8_lossy(&output.stdout);
    println!("{stdout}");
    assert!(
        output.status.success() && !stdout.contains(" 0 passed"),
        "handlers {runs}, sockets {kind}: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn suites_hold_with_handlers_pinned_to_threads() {
    run_again(
        "pinned",
        "tcp",
        &[&ANYWHERE[..], &["edge_cases", "pinned_handlers"]].concat(),
    );
}

#[test]
fn suites_hold_with_handlers_that_move_between_threads_over_unix_sockets() {
    run_again("moving", "unix", &["everywhere", "hazards"]);
}

#[test]
fn suites_hold_over_unix_sockets() {
    run_again("inline", "unix", &ANY_SOCKET);
}

#[cfg(feature = "tokio")]
#[test]
fn suites_hold_with_handlers_as_tasks_of_tokio() {
    run_again("tokio", "tcp", &ANYWHERE);
}

#[cfg(feature = "tokio")]
#[test]
fn suites_hold_with_handlers_as_tasks_of_tokio_over_unix_sockets() {
    run_again("tokio", "unix", &["everywhere"]);
}
