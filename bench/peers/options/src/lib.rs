// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts that all peers share, so that each contains its server only: the command line, the
//! line with the listen address, and the handling of requests.
//!
//! ```text
//! PEER KIND [--addr ADDR] [--threads N] [--to ADDR]
//! PEER --kinds
//! ```
//!
//! All peers answer requests with the same code ([`Calls`]). A peer reads bytes, passes them to it,
//! and sends the result. The way in which it does that is what is compared.
#![forbid(unsafe_code)]

mod burn;
mod calls;
mod failure;
mod input;

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use clap::{Args, CommandFactory, Parser, ValueEnum};
use rustix::process::{Resource, getrlimit, setrlimit};

pub use burn::burn;
pub use calls::{Calls, MAX_FRAME, TooLong};
pub use failure::{refuse, unable};
pub use input::Input;

/// The size of one read in bytes, where the peer may choose it.
pub const BUFFER: usize = 64 << 10;

/// The kinds of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Echoes bytes.
    Echo,
    /// Frames: a 4-byte big-endian length and that many bytes, and the same back.
    Rpc,
    /// The same protocol, each request in its own task.
    Mux,
    /// As rpc; every tenth request of a connection burns 100 us before its response.
    Heavy,
    /// Forwards bytes in both directions between the client and `--to`.
    Proxy,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// The command line of a peer. `E` contains the peer's own flags.
#[derive(Debug, Parser)]
pub struct Options<E: Args> {
    /// Server to run.
    pub kind: Kind,
    /// Listen address: an IP address and a port (port 0 selects a free port).
    #[arg(long, default_value = "127.0.0.1:0")]
    pub addr: SocketAddr,
    /// Number of threads that serve.
    #[arg(long, default_value = "1")]
    pub threads: NonZeroUsize,
    /// Upstream address of a proxy.
    #[arg(long)]
    pub to: Option<SocketAddr>,
    #[command(flatten)]
    pub extra: E,
}

/// No flags of its own.
#[derive(Clone, Copy, Debug, Args)]
pub struct NoMore {}

impl<E: Args> Options<E> {
    /// Parses the command line of a peer that serves `kinds`. Ends the process with status 2 and a
    /// line on stderr if it is invalid. Raises the soft descriptor limit to the hard one.
    pub fn parse_for(kinds: &[Kind]) -> Self {
        let mut arguments = std::env::args().skip(1);
        if arguments.next().as_deref() == Some("--kinds") && arguments.next().is_none() {
            let names: Vec<String> = kinds.iter().map(Kind::to_string).collect();
            println!("{}", names.join(" "));
            std::process::exit(0);
        }
        let options = Self::parse();
        if !kinds.contains(&options.kind) {
            let name = Self::command().get_name().to_owned();
            refuse(format_args!("{name} does not serve {}", options.kind));
        }
        if options.kind == Kind::Proxy && options.to.is_none() {
            refuse("a proxy needs --to ADDR");
        }
        raise_descriptor_limit();
        options
    }

    /// Ends the process with status 2 unless `--threads` is 1.
    pub fn only_one_thread(&self, why: &str) {
        if self.threads.get() > 1 {
            refuse(format_args!("--threads {}: {why}", self.threads));
        }
    }
}

/// Prints the listen address on stdout.
pub fn listening_on(addr: SocketAddr) {
    let mut stdout = io::stdout().lock();
    // A closed stdout must not stop the server.
    writeln!(stdout, "listening on {addr}")
        .and_then(|()| stdout.flush())
        .ok();
}

/// A lower descriptor limit would distort the measurement.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).ok();
}
