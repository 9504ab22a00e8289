// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server as a child process, which ends with the value that stands for it, and with this process,
//! however that ends.
//!
//! A process of its own has its own memory and processor time to look at, and is what a user would
//! run. It stays on one processor and says `listening on ADDR` when it is ready; that is all that is
//! asked of it, so it may be this very executable or somebody else's.

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

/// The processor of what is measured.
pub(crate) const SERVER_PROCESSOR: usize = 0;

/// The processor of what measures. The only one, where there are no two.
pub(crate) const LOAD_PROCESSOR: usize = 1;

/// A server that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// As it is told of when it does not start.
    pub(crate) name: String,
    /// The executable.
    pub(crate) path: PathBuf,
    /// What it is given.
    pub(crate) arguments: Vec<OsString>,
}

impl Program {
    /// This executable as a server on a free port of the loopback.
    ///
    /// # Errors
    ///
    /// If the kernel does not say which executable this is.
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
    /// Starts a server that stays on one processor, and waits until it listens. To be called on the main
    /// thread: the server ends with the thread that has started it.
    ///
    /// # Errors
    ///
    /// A server that ends or says nothing instead of listening; what it said on stderr is told.
    pub(crate) fn start(program: &Program, processor: usize) -> Result<Self, CliError> {
        let name = &program.name;
        let mut process = spawn(program, processor)
            .map_err(|error| CliError::io(format_args!("start {name}"), &error))?;
        let remarks = process.stderr.take().map(last_line);
        let first = process.stdout.take().and_then(first_line);
        // From here on the process ends with this value.
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
        let remark = remarks.and_then(|thread| thread.join().ok());
        let remark = remark.filter(|remark| !remark.is_empty());
        Err(CliError::new(format!(
            "{name} does not listen: {}",
            remark.as_deref().unwrap_or("it does not say why")
        )))
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for ServerProcess {
    /// Ends the process at once and waits until it has. It has nothing to lose: who measures it
    /// has closed all connections.
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Starts the process on `processor`: it learns that it has one before it starts threads of its own.
fn spawn(program: &Program, processor: usize) -> io::Result<Child> {
    launcher::command(&program.path, processor)?
        .args(&program.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// The first line of `from`, if it comes in time.
fn first_line(from: impl Read + Send + 'static) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        if BufReader::new(from).read_line(&mut line).is_ok() {
            // Nobody waits any more if this fails.
            sender.send(line).ok();
        }
    });
    let line = receiver.recv_timeout(START_TIMEOUT).ok()?;
    Some(line.trim_end().to_owned())
}

/// Reads to the end, so that the writer never waits, and keeps the last line.
fn last_line(from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let lines = BufReader::new(from).lines();
        let last = lines.map_while(Result::ok).last().unwrap_or_default();
        last.strip_prefix("netpoll: ").unwrap_or(&last).to_owned()
    })
}

/// Ample for a process to start, even on a machine that is very busy. One that fails says so at once.
const START_TIMEOUT: Duration = Duration::from_secs(60);
