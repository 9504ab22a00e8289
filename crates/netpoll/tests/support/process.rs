// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a test can see of its process, and a process of its own for tests that look.

use std::fs;
use std::process::Command;

/// Says in a child that it is one.
const ALONE: &str = "NETPOLL_TEST_ALONE";

/// Runs the test called `name`, whose body is `body`, in a process where no other test runs.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let program = std::env::current_exe().expect("a program");
    let output = Command::new(program)
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("a child");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// How many descriptors the process has open.
pub(crate) fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// How much private memory the process has asked for, touched or not.
pub(crate) fn data_segment() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmData:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kibibytes.expect("a line of VmData") << 10
}
