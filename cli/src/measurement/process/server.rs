// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server as a child process. It ends when its [`ServerProcess`] is dropped, and with this
//! process, however that ends.
//!
//! A separate process has its own memory and processor time to measure, as in production. It runs
//! on one processor and prints `listening on ADDR` when it is ready. Nothing else is required of
//! it, so it may be this executable or any other.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::launcher;
use crate::error::CliError;

/// The processor of the measured server.
pub(crate) const SERVER_PROCESSOR: usize = 0;

/// The processor of the load; on a machine with one processor, the same as the server's.
pub(crate) const LOAD_PROCESSOR: usize = 1;

/// A server that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The name for error messages.
    pub(crate) name: String,
    /// The executable.
    pub(crate) path: PathBuf,
    /// The arguments.
    pub(crate) arguments: Vec<OsString>,
}

impl Program {
    /// Returns this executable as a server on a free port of the loopback.
    ///
    /// # Errors
    ///
    /// The path of this executable cannot be read.
    pub(crate) fn serve(kind: &str, flags: &[&str]) -> Result<Self, CliError> {
        let path =
            env::current_exe().map_err(|error| CliError::io("find this executable", &error))?;
        let arguments = ["serve", kind, "--addr", ANY_PORT];
        Ok(Self {
            name: format!("`serve {kind}`"),
            path,
            arguments: arguments.iter().chain(flags).map(OsString::from).collect(),
        })
    }
}

/// A free port of the loopback.
pub(crate) const ANY_PORT: &str = "127.0.0.1:0";

/// A running server.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    process: Child,
    addr: SocketAddr,
}

impl ServerProcess {
    /// Starts a server on `processor` and waits until it listens. Call it on the main thread: the
    /// server ends with the thread that started it.
    ///
    /// # Errors
    ///
    /// A server that exits or prints something else. The error contains its last line on stderr.
    pub(crate) fn start(program: &Program, processor: usize) -> Result<Self, CliError> {
        let name = &program.name;
        let mut process = spawn(program, processor)
            .map_err(|error| CliError::io(format_args!("start {name}"), &error))?;
        let log_lines = process.stderr.take().map(last_line);
        let first = process.stdout.take().and_then(first_line);
        // From here on, dropping this value ends the process.
        let mut server = Self {
            process,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let listening = first.and_then(|line| line.strip_prefix("listening on ")?.parse().ok());
        if let Some(addr) = listening {
            server.addr = addr;
            return Ok(server);
        }
        drop(server);
        let last = log_lines.and_then(|thread| thread.join().ok());
        let last = last.filter(|last| !last.is_empty());
        Err(CliError::new(format!(
            "{name} does not listen: {}",
            last.as_deref().unwrap_or("it printed no reason")
        )))
    }

    /// Returns the address on which it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for ServerProcess {
    /// Kills the process and waits for its end. No graceful shutdown is needed: the load has closed
    /// all connections.
    fn drop(&mut self) {
        // Both fail only if the process has already exited.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Starts the process on `processor`. It is pinned before it starts threads, which inherit the pin.
fn spawn(program: &Program, processor: usize) -> io::Result<Child> {
    launcher::command(&program.path, processor)?
        .args(&program.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Returns the first line of `from`, if it arrives within [`START_TIMEOUT`].
fn first_line(from: impl Read + Send + 'static) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        if BufReader::new(from).read_line(&mut line).is_ok() {
            // Fails only after the timeout.
            sender.send(line).ok();
        }
    });
    let line = receiver.recv_timeout(START_TIMEOUT).ok()?;
    Some(line.trim_end().to_owned())
}

/// Reads to the end, so that the writer never blocks, and keeps the last line.
fn last_line(from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let lines = BufReader::new(from).lines();
        let last = lines.map_while(Result::ok).last().unwrap_or_default();
        last.strip_prefix("netpoll: ").unwrap_or(&last).to_owned()
    })
}

/// Ample for a process to start on a very busy machine. A process that fails reports it at once.
const START_TIMEOUT: Duration = Duration::from_secs(60);
