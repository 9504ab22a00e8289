// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all peers have in common, so that each is only about its server: the command line, the line
//! that says where it listens, and what is done with a request.
//!
//! ```text
//! PEER KIND [--addr ADDR] [--threads N] [--to ADDR]
//! PEER --kinds
//! ```
//!
//! The requests are answered by the same code everywhere ([`Calls`]). A peer reads bytes, hands them
//! over, and sends what came of them: how it does that is what differs, and what is compared.
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

/// The bytes that a peer asks for with one read, where it may choose.
pub const BUFFER: usize = 64 << 10;

/// What a peer may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The bytes that come, as they are.
    Echo,
    /// Frames of a 4-byte big-endian length and that many bytes, the same back.
    Rpc,
    /// The same wire, each request in a task of its own.
    Mux,
    /// The same as rpc, and every tenth request of a connection burns 100 us before its answer.
    Heavy,
    /// Bytes both ways between the client and `--to`.
    Proxy,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// The command line of a peer. `E` is what it takes besides what all take.
#[derive(Debug, Parser)]
pub struct Options<E: Args> {
    /// What to serve.
    pub kind: Kind,
    /// Where to listen: an IP address and a port (port 0 takes a free one).
    #[arg(long, default_value = "127.0.0.1:0")]
    pub addr: SocketAddr,
    /// How many threads serve.
    #[arg(long, default_value = "1")]
    pub threads: NonZeroUsize,
    /// Where a proxy connects to.
    #[arg(long)]
    pub to: Option<SocketAddr>,
    #[command(flatten)]
    pub extra: E,
}

/// No flags besides those that all take.
#[derive(Clone, Copy, Debug, Args)]
pub struct NoMore {}

impl<E: Args> Options<E> {
    /// The command line, for a peer that serves `kinds`. Ends the process with status 2 and a line
    /// on stderr for what it cannot do. Raises the soft limit of descriptors to the hard one.
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

    /// Ends the process with status 2 unless one thread is asked for.
    pub fn only_one_thread(&self, why: &str) {
        if self.threads.get() > 1 {
            refuse(format_args!("--threads {}: {why}", self.threads));
        }
    }
}

/// Says on stdout where connections are taken.
pub fn listening_on(addr: SocketAddr) {
    let mut stdout = io::stdout().lock();
    // Nobody to tell is no reason not to serve.
    writeln!(stdout, "listening on {addr}")
        .and_then(|()| stdout.flush())
        .ok();
}

/// A peer with fewer descriptors than it may have would be measured for that.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).ok();
}
