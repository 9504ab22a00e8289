// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runs of a server: the requests of the client in each.
//!
//! In each run, one event at a time wakes the server, and all of its data has arrived. If a client
//! sent while another is served, its speed would decide how many connections one wake finds, and
//! the count would vary.

use std::net::{Ipv4Addr, SocketAddrV4};

/// The requests of a client.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The name of the bench.
    pub name: &'static str,
    /// Payload bytes of each request.
    pub size: usize,
    /// Requests per batch; the next batch follows when all of them are answered.
    pub depth: usize,
    /// Number of batches.
    pub batches: usize,
    /// The connections for the batches.
    pub over: Connections,
}

/// The connections of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// This many, in turn.
    InTurn(usize),
    /// One for each batch, closed gracefully after it.
    EachItsOwn,
}

impl Run {
    /// Returns the run with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        RUNS.iter().find(|run| run.name == name)
    }

    /// Returns the total number of requests.
    #[must_use]
    pub const fn requests(&self) -> usize {
        self.depth * self.batches
    }

    /// Returns the server's address. Each run has a port and each checkout an address, so that
    /// concurrent runs do not collide.
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

/// Below the ports that the kernel assigns to clients.
const FIRST_PORT: u16 = 17_411;

/// The run that only starts and ends a server. Its count is subtracted from the others.
pub const START: &str = "start";

const TURNS: Connections = Connections::InTurn(4);

/// All runs. The counted ones are long enough that the start would not matter even if it were not
/// subtracted, and that a clock tick is far below the limit.
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
