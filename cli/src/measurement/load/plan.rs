// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan of a load: all its parameters, resolved before it starts.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use netpoll_sys::Addr;

use crate::arguments::duration::{self, OptionalDuration};
use crate::arguments::{LoadArgs, Protocol};
use crate::error::CliError;

use super::report::thousands;

/// All parameters of a load.
#[derive(Clone, Debug)]
pub(crate) struct LoadPlan {
    /// The protocol of the server.
    pub(crate) protocol: Protocol,
    /// The address of the server.
    pub(crate) addr: Addr,
    /// Number of connections, at least one.
    pub(crate) connections: usize,
    /// Payload bytes of a request.
    pub(crate) size: usize,
    /// Whether requests carry call ids.
    pub(crate) ids: CallIds,
    /// The maximum number of connections, if the callers share a pool.
    pub(crate) pool: Option<usize>,
    /// When requests are sent.
    pub(crate) mode: LoadMode,
    /// The time before the measured interval.
    pub(crate) warm_up: Duration,
    /// The length of the measured interval.
    pub(crate) duration: Duration,
    /// The time that a thread busy-polls before it sleeps.
    pub(crate) busy_poll: Duration,
    /// The threads, and where they run.
    pub(crate) threads: LoadThreads,
    /// The server's process id, if its processor time is reported.
    pub(crate) server_pid: Option<u32>,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadMode {
    /// This many requests in flight on each connection; each response triggers a new request.
    Closed(usize),
    /// This many requests per second, spread evenly over all connections.
    Open(u64),
    /// A new connection for each request.
    Churn,
}

/// Whether requests carry call ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallIds {
    /// No ids; responses are counted as they arrive.
    None,
    /// The first bytes of the payload are an id; responses may arrive in any order.
    First,
}

/// The threads that drive a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadThreads {
    /// The number of threads, never more than connections.
    pub(crate) count: usize,
    /// The processor of the first thread; the other threads use the following ones.
    pub(crate) pin: Option<usize>,
}

impl LoadPlan {
    /// Builds the plan of a command line. May resolve the server's name.
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
    /// One line: protocol, address, requests, mode and duration.
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
            LoadMode::Churn => f.write_str("a new connection for each request, ")?,
        }
        if self.ids == CallIds::First {
            f.write_str("with ids, ")?;
        }
        f.write_str(&duration::display(self.duration))
    }
}
