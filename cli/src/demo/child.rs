// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server as a child process, which ends with the value that stands for it.
//!
//! A process of its own has its own memory and processor time to look at, and is what a user would
//! run. It is this very executable with `serve`, so nothing has to be installed or found.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::ValueEnum;

use crate::arguments::ServeKind;
use crate::failure::Failure;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    addr: SocketAddr,
}

impl Server {
    /// Starts a server of one poller on the first processor and a free port of the loopback, and
    /// waits until it listens.
    ///
    /// # Errors
    ///
    /// A server that ends or says nothing instead of listening; what it said on stderr is told.
    pub(crate) fn start(kind: ServeKind) -> Result<Self, Failure> {
        let name = kind.to_possible_value();
        let name = name.as_ref().map_or("server", |value| value.get_name());
        let start = || {
            Command::new(env::current_exe()?)
                .args(["serve", name, "--addr", "127.0.0.1:0"])
                .args(["--pollers", "1", "--pin", "0"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        };
        let mut process = start()
            .map_err(|error| Failure::while_trying(format_args!("start `serve {name}`"), &error))?;
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
        Err(Failure::new(format!(
            "`serve {name}` does not listen: {}",
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

impl Drop for Server {
    /// Ends the process at once and waits until it has. It has nothing to lose: who measures it
    /// has closed all connections.
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
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
    let line = receiver.recv_timeout(START).ok()?;
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

/// Ample for a process to start, even on a machine that is busy.
const START: Duration = Duration::from_secs(10);
