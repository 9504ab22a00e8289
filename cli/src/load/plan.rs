// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a load is to do, with nothing left to decide while it runs.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use netpoll_sys::Addr;

use crate::arguments::{LoadArgs, Protocol};
use crate::duration::{self, OptionalDuration};
use crate::error::CliError;

use super::report::thousands;

/// What a load is to do.
#[derive(Clone, Debug)]
pub(crate) struct LoadPlan {
    /// What the server speaks.
    pub(crate) protocol: Protocol,
    /// The server.
    pub(crate) addr: Addr,
    /// Connections in all, at least one.
    pub(crate) connections: usize,
    /// Payload bytes of a request.
    pub(crate) size: usize,
    /// Whether requests say which call they are.
    pub(crate) ids: CallIds,
    /// The most connections, if callers share those of a pool.
    pub(crate) pool: Option<usize>,
    /// When requests are sent.
    pub(crate) mode: LoadMode,
    /// Time before measuring.
    pub(crate) warm_up: Duration,
    /// Time of measuring.
    pub(crate) duration: Duration,
    /// For how long a thread stays awake before it sleeps.
    pub(crate) busy_poll: Duration,
    /// The threads, and where they run.
    pub(crate) threads: LoadThreads,
    /// The server's process, if its processor time is to be told.
    pub(crate) server_pid: Option<u32>,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadMode {
    /// So many in flight on each connection, a new one for each answer.
    Closed(usize),
    /// So many a second in all, spread evenly over the connections.
    Open(u64),
    /// A connection for each, and the next one after its end.
    Churn,
}

/// Whether requests say which call they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallIds {
    /// Answers are counted as they come.
    None,
    /// The first bytes of the payload do, and answers may come in any order.
    First,
}

/// The threads that drive a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadThreads {
    /// How many; never more than there are connections.
    pub(crate) count: usize,
    /// The processor of the first thread; the others have the ones after it.
    pub(crate) pin: Option<usize>,
}

impl LoadPlan {
    /// The plan of a command line. May ask the resolver for the server's name.
    pub(crate) fn from_arguments(arguments: &LoadArgs) -> Result<Self, CliError> {
        let connections = arguments.connections.get() as usize;
        Ok(Self {
            protocol: arguments.protocol,
            addr: arguments.addr.resolve()?,
            connections,
            size: arguments.size as usize,
            ids: if arguments.ids {
                CallIds::First
            } else {
                CallIds::None
            },
            pool: arguments.pool.map(NonZeroUsize::get),
            mode: match arguments.rate {
                Some(rate) => LoadMode::Open(rate.get()),
                None if arguments.churn_args.churn => LoadMode::Churn,
                None => LoadMode::Closed(arguments.depth.get() as usize),
            },
            warm_up: arguments.warm_up.or_zero(),
            duration: arguments.duration,
            busy_poll: arguments
                .busy_poll
                .map_or(Duration::ZERO, OptionalDuration::or_zero),
            threads: LoadThreads {
                count: arguments.threads.get().min(connections),
                pin: arguments.pin,
            },
            server_pid: arguments.server_pid,
        })
    }
}

impl fmt::Display for LoadPlan {
    /// One line for a person: what is sent where, how, and for how long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Echo => "echo",
            Protocol::Rpc => "rpc",
            Protocol::Mux => "mux",
        };
        write!(f, "{protocol} to {}: {} B, ", self.addr, self.size)?;
        match self.pool {
            Some(size) => write!(f, "{} callers, {size} connections, ", self.connections)?,
            None => write!(f, "{} connections, ", self.connections)?,
        }
        match self.mode {
            LoadMode::Closed(depth) => write!(f, "{depth} in flight on each, ")?,
            LoadMode::Open(rate) => write!(f, "{} requests/s in all, ", thousands(rate))?,
            LoadMode::Churn => f.write_str("each for one request and then another, ")?,
        }
        if self.ids == CallIds::First {
            f.write_str("with ids, ")?;
        }
        f.write_str(&duration::display(self.duration))
    }
}
