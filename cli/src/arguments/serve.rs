// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of `netpoll serve`.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::serve::runner::{self, RunnerChoice};

use super::address::Address;
use super::duration::{self, OptionalDuration};
use super::limits::LimitArgs;
use super::{busy_poll, count};

/// Arguments of `netpoll serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Server to run
    pub(crate) kind: ServeKind,
    /// Listen address: host:port (port 0 selects a free port), unix:/path or unix:@name
    #[arg(long, value_name = "A", default_value = "127.0.0.1:0")]
    pub(crate) addr: Address,
    /// Poller threads, at most 1024 [default: one per available processor]
    #[arg(long, value_name = "N", value_parser = pollers)]
    pub(crate) pollers: Option<NonZeroUsize>,
    /// Busy-poll for this long before sleeping, at most 1s; none disables it [default: none]
    #[arg(long, value_name = "T", value_parser = busy_poll)]
    pub(crate) busy_poll: Option<OptionalDuration>,
    /// Maximum open connections; more wait in the kernel's accept queue [default: 7/8 of the
    /// descriptor limit]
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    pub(crate) max_connections: Option<NonZeroUsize>,
    /// Where handlers run: inline (on the pollers), threads[:N] or tokio[:N]; N is the number of
    /// threads, one per available processor if omitted [default: inline]
    #[arg(long, value_name = "R", value_parser = runner::parse)]
    pub(crate) runner: Option<RunnerChoice>,
    /// Upstream address of a proxy
    #[arg(long, value_name = "A")]
    pub(crate) to: Option<Address>,
    /// How long one direction of a proxied connection may stay silent after the other has ended;
    /// none disables it [default: 30s]
    #[arg(long, value_name = "T", value_parser = duration::parse_optional)]
    pub(crate) half_open_timeout: Option<OptionalDuration>,
    /// Accept on each poller from its own listening socket (SO_REUSEPORT)
    #[arg(long)]
    pub(crate) reuse_port: bool,
    /// Print a line of statistics on stderr at this interval: a whole number and us, ms, s or m
    #[arg(long, value_name = "T", value_parser = duration::parse)]
    pub(crate) stats: Option<Duration>,
    /// Pin the server to the INDEX-th of the processors that it may use
    #[arg(long, value_name = "INDEX", hide = true)]
    pub(crate) pin: Option<usize>,
    /// Limits of each connection.
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// The default of `--half-open-timeout`.
const DEFAULT_HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(30);

impl ServeArgs {
    /// Returns the time that one direction of a proxied connection may stay silent after the other
    /// has ended; `None` for no limit.
    pub(crate) fn half_open_duration(&self) -> Option<Duration> {
        match self.half_open_timeout {
            None => Some(DEFAULT_HALF_OPEN_TIMEOUT),
            Some(OptionalDuration::Set(time)) => Some(time),
            Some(OptionalDuration::Off) => None,
        }
    }

    /// Returns the time that the server busy-polls before it sleeps; zero if disabled.
    pub(crate) fn busy_poll(&self) -> Duration {
        self.busy_poll
            .map_or(Duration::ZERO, OptionalDuration::or_zero)
    }
}

/// The kinds of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServeKind {
    /// Echo the received bytes
    Echo,
    /// Answer each frame (4-byte big-endian length, payload) with the same frame
    Rpc,
    /// As rpc, with each request in its own task
    Mux,
    /// As rpc, with 100 us of computing in every tenth request of a connection
    Heavy,
    /// Forward bytes in both directions between each client and --to
    Proxy,
    /// As rpc, from a bare epoll loop on one thread: the upper limit to compare with
    Reference,
}

/// Parses a number of pollers; see [`Builder::pollers`](netpoll::Builder::pollers) for the bound.
fn pollers(text: &str) -> Result<NonZeroUsize, String> {
    match count::<NonZeroUsize>(text)? {
        pollers if pollers.get() > 1024 => Err("must be at most 1024".into()),
        pollers => Ok(pollers),
    }
}
