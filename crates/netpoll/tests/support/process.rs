// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures of the test process, and child processes for tests that need one of their own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use netpoll::{Addr, Builder, Listener};

/// The variable that marks a child process.
const ALONE: &str = "NETPOLL_TEST_ALONE";

/// Runs the test called `name`, whose body is `body`, in a process without other tests.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    finish(name, program());
}

/// As [`alone`], twice in that process; the second run must leak no descriptor.
pub(crate) fn alone_twice(name: &str, body: impl Fn()) {
    alone(name, || twice(body));
}

/// As [`alone_twice`], in a process with a limit of descriptors.
pub(crate) fn alone_twice_with(descriptors: u32, name: &str, body: impl Fn()) {
    if std::env::var_os(ALONE).is_some() {
        return twice(body);
    }
    finish(name, limited(descriptors));
}

/// The first run creates what a process has once, such as the shared pollers of dialers.
fn twice(body: impl Fn()) {
    body();
    let before = open_descriptors();
    body();
    super::eventually("as many descriptors as before", || {
        open_descriptors() <= before
    });
}

fn program() -> Command {
    Command::new(std::env::current_exe().expect("a program"))
}

fn limited(descriptors: u32) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
    command.arg("-c").arg(script);
    command.arg(std::env::current_exe().expect("a program"));
    command
}

fn as_test<'a>(name: &str, command: &'a mut Command) -> &'a mut Command {
    command
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(ALONE, "1")
}

fn finish(name: &str, mut command: Command) {
    let output = as_test(name, &mut command).output().expect("a child");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A server in a process of its own.
pub(crate) struct Apart {
    child: Child,
    pub(crate) addr: Addr,
    /// The server runs while this is open.
    _serve: ChildStdin,
}

impl Apart {
    /// Starts a child that runs the test called `name` with a limit of descriptors. In the child,
    /// this call serves what `builder` describes, and returns `None` at the end.
    pub(crate) fn start(
        descriptors: u32,
        name: &str,
        builder: impl FnOnce() -> Builder,
    ) -> Option<Self> {
        if std::env::var_os(ALONE).is_some() {
            serve_here(builder());
            return None;
        }
        let mut command = limited(descriptors);
        let command = as_test(name, &mut command);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().expect("a child");
        let said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut said = said.map(|line| line.expect("a text"));
        let addr = said.find_map(|line| Some(line.strip_prefix("at ")?.parse().expect("where")));
        Some(Self {
            addr: addr.expect("a server"),
            _serve: child.stdin.take().expect("a pipe"),
            child,
        })
    }

    /// Returns the processor time that its threads have used.
    pub(crate) fn processor_time(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id())).expect("procfs");
        let time = |thread: fs::DirEntry| {
            let had = fs::read_to_string(thread.path().join("schedstat")).expect("procfs");
            let nanoseconds = had.split(' ').next().and_then(|first| first.parse().ok());
            Duration::from_nanos(nanoseconds.expect("a number"))
        };
        threads.map(|thread| time(thread.expect("a thread"))).sum()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // Both fail only if the child has exited already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Serves until standard input ends.
fn serve_here(builder: Builder) {
    let listener = Listener::bind("127.0.0.1:0").expect("a free port");
    println!("\nat {}", listener.local_addr().expect("an address"));
    let running = builder.listen(listener).build().expect("a loop");
    let handle = running.handle();
    std::thread::spawn(move || {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        drop(handle.shutdown(super::LIMIT));
    });
    running.run().expect("a loop that runs");
}

/// Returns the number of open descriptors of the process.
pub(crate) fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// Returns the private memory that the process has allocated, touched or not, in bytes.
pub(crate) fn data_segment() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmData:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kibibytes.expect("a line of VmData") << 10
}
