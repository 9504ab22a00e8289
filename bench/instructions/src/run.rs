// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runs of a server: what the client asks for in each.
//!
//! In each of them the server is woken by one thing at a time, and finds all of it: a client that
//! sends while another is served decides by its speed how many connections one wake finds, and the
//! count would be a different one every time.

use std::net::{Ipv4Addr, SocketAddrV4};

/// What a client asks of a server.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The name of the bench, of which this is the run.
    pub name: &'static str,
    /// Bytes behind the length of each request.
    pub size: usize,
    /// Requests that are sent in one piece; the next follow when all of them are answered.
    pub depth: usize,
    /// So many times.
    pub batches: usize,
    /// Where the batches go.
    pub over: Connections,
}

/// How many connections a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// So many, which take turns.
    InTurn(usize),
    /// One for each batch, with an orderly end behind it.
    EachItsOwn,
}

impl Run {
    /// The run of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        RUNS.iter().find(|run| run.name == name)
    }

    /// Requests in all.
    #[must_use]
    pub const fn requests(&self) -> usize {
        self.depth * self.batches
    }

    /// Where its server listens. Each run has a port, and each checkout an address, so that runs of
    /// several at once do not meet.
    #[must_use]
    pub fn addr(&self) -> SocketAddrV4 {
        let index = RUNS.iter().position(|run| run.name == self.name);
        let port = FIRST_PORT + index.unwrap_or(RUNS.len()) as u16;
        let checkout = env!("CARGO_MANIFEST_DIR").bytes();
        let hash = checkout.fold(0u32, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(u32::from(byte))
        });
        let [_, first, second, third] = hash.to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(127, first, second, third.clamp(1, 254)), port)
    }
}

/// Below those that the kernel gives to clients.
const FIRST_PORT: u16 = 17_411;

/// The run that only starts a server and ends it. What it takes is no other's cost.
pub const START: &str = "start";

const TURNS: Connections = Connections::InTurn(4);

/// All runs. Those that are counted are long enough for the start not to matter were it not taken
/// off, and for a tick of a clock here or there to be far below the limit.
pub const RUNS: &[Run] = &[
    Run {
        name: START,
        size: 1 << 10,
        depth: 1,
        batches: 4,
        over: TURNS,
    },
    Run {
        name: "frames_of_1k",
        size: 1 << 10,
        depth: 1,
        batches: 4_000,
        over: TURNS,
    },
    Run {
        name: "frames_of_64k",
        size: 64 << 10,
        depth: 1,
        batches: 1_000,
        over: TURNS,
    },
    Run {
        name: "pipelined_128b_by_32",
        size: 128,
        depth: 32,
        batches: 1_000,
        over: TURNS,
    },
    Run {
        name: "pipelined_128b_by_64",
        size: 128,
        depth: 64,
        batches: 1_000,
        over: TURNS,
    },
    Run {
        name: "churn",
        size: 1 << 10,
        depth: 1,
        batches: 1_000,
        over: Connections::EachItsOwn,
    },
];
