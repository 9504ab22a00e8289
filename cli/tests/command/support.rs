// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared by the tests: running the binary, a server that ends with its test, waiting with limits.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The time limit of each wait: a wait that takes so long hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The status and the outputs of a finished command.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Returns a command with these arguments, not started yet.
pub(crate) fn netpoll(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpoll"));
    command
        .args(line.split_ascii_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
pub(crate) fn run(line: &str) -> Finished {
    finish(netpoll(line).spawn().unwrap())
}

/// Waits for the end of a command.
pub(crate) fn finish(mut child: Child) -> Finished {
    let stdout = reader(child.stdout.take().unwrap());
    let stderr = reader(child.stderr.take().unwrap());
    let status = wait(&mut child);
    Finished {
        status: status.code().expect("the command was killed by a signal"),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

/// Waits for the end of a process, and kills it at [`LIMIT`].
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    let ended = within_limit(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        child.kill().unwrap();
        panic!("{child:?} does not end");
    }
    status.unwrap()
}

/// Waits up to [`LIMIT`] for `condition`; returns whether it became true.
pub(crate) fn within_limit(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Returns the processor time that the threads of a process have used.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let used = tasks.map(|task| {
        let text = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        let nanos = text.split_ascii_whitespace().next().unwrap();
        Duration::from_nanos(nanos.parse().unwrap())
    });
    used.sum()
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn reader(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    })
}

/// A reference server that ends with its test.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) addr: SocketAddr,
    /// The unread part of stdout.
    pub(crate) stdout: BufReader<std::process::ChildStdout>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_as("reference")
    }

    /// Starts another server than the reference, with its flags.
    pub(crate) fn start_as(kind_and_flags: &str) -> Self {
        Self::start_in(kind_and_flags, &[])
    }

    /// As [`start_as`](Self::start_as), with environment variables.
    pub(crate) fn start_in(kind_and_flags: &str, environment: &[(&str, &str)]) -> Self {
        let line = format!("serve {kind_and_flags} --addr 127.0.0.1:0");
        let mut command = netpoll(&line);
        command.envs(environment.iter().copied());
        let mut process = command.spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let addr = line.trim_end().strip_prefix("listening on ").unwrap();
        Self {
            addr: addr.parse().unwrap(),
            process,
            stdout,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns a connection whose reads and writes time out.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Returns the number of open descriptors of the process.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .count()
    }

    /// Returns the resident bytes of the process.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kibibytes = line.split_ascii_whitespace().next().unwrap();
        kibibytes.parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the process has already exited.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Starts a server in the test; `serve` handles its connections one after the other.
pub(crate) fn fake_server(
    serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // A load that ends resets its connections; that is not a failure of the test.
            serve(stream).ok();
        }
    });
    addr
}

/// Returns a frame of the rpc protocol.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// Returns `count` bytes that differ from their neighbours.
pub(crate) fn payload(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 + at / 256) as u8).collect()
}

/// Sends `bytes` and asserts that they come back.
pub(crate) fn echoed(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer == bytes, "the response differs from the request");
}

/// Returns the child processes that have not ended.
pub(crate) fn children(of: &Child) -> Vec<u32> {
    let pid = of.id();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|process| parent(*process) == Some(pid))
        .collect()
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))?
        .trim()
        .parse()
        .ok()
}

/// Returns whether a process has ended, reaped or not.
pub(crate) fn has_ended(process: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{process}/stat")) else {
        return true;
    };
    status
        .rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with(['Z', 'X']))
}
