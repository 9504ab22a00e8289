// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan of a load: all its parameters, resolved before it starts.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use netpoll_sys::Addr;

use crate::arguments::duration::{self, MAX_DURATION, OptionalDuration};
use crate::arguments::{LoadArgs, Protocol};
use crate::error::CliError;

use super::report::thousands;

/// The default of `--warm-up`.
const DEFAULT_WARM_UP: Duration = Duration::from_millis(500);

/// The default of `--duration`.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);

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
    /// The length of the measured interval; [`MAX_DURATION`] if only the requests are limited.
    pub(crate) duration: Duration,
    /// The most requests, if they are limited.
    pub(crate) requests: Option<u64>,
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
            warm_up: match (arguments.warm_up, arguments.requests) {
                (Some(given), _) => given.or_zero(),
                (None, Some(_)) => Duration::ZERO,
                (None, None) => DEFAULT_WARM_UP,
            },
            duration: match (arguments.duration, arguments.requests) {
                (Some(given), _) => given,
                (None, Some(_)) => MAX_DURATION,
                (None, None) => DEFAULT_DURATION,
            },
            requests: arguments.requests.map(NonZeroU64::get),
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

    /// Returns whether the measured interval ends at a time.
    pub(crate) fn has_duration(&self) -> bool {
        self.duration < MAX_DURATION
    }

    /// Returns how much of the run is done, from 0 to 1.
    pub(crate) fn done(&self, elapsed: Duration, answered: u64) -> f64 {
        let of_time = elapsed.as_secs_f64() / (self.warm_up + self.duration).as_secs_f64();
        let of_requests = self.requests.map(|all| answered as f64 / all as f64);
        of_requests.map_or(of_time, |share| share.max(of_time))
    }
}

impl fmt::Display for LoadPlan {
    /// One line: protocol, address, requests, mode and duration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.name();
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
        if let Some(requests) = self.requests {
            write!(f, "{} requests", thousands(requests))?;
        }
        match (self.requests, self.has_duration()) {
            (_, false) => Ok(()),
            (Some(_), true) => write!(f, " or {}", duration::display(self.duration)),
            (None, true) => f.write_str(&duration::display(self.duration)),
        }
    }
}
