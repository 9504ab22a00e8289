// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of `netpoll load`.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::address::Address;
use super::duration::{self, OptionalDuration};
use super::{OutputArgs, busy_poll, byte_size, count};

/// Arguments of `netpoll load`.
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// Protocol of the server
    pub(crate) protocol: Protocol,
    /// Server address: host:port, unix:/path or unix:@name
    #[arg(long, value_name = "A")]
    pub(crate) addr: Address,
    /// Number of connections, open for the whole run unless --churn is given
    #[arg(short, long, value_name = "C", default_value = "100", value_parser = count::<NonZeroU32>)]
    pub(crate) connections: NonZeroU32,
    /// Payload of a request, without the 4-byte header of rpc and mux: bytes, or powers of 1024
    /// such as 64k, 4M
    #[arg(short, long, value_name = "B", default_value = "1024", value_parser = size)]
    pub(crate) size: u32,
    /// Closed loop: requests in flight on each connection; each response triggers a new request
    #[arg(long, value_name = "D", default_value = "1", value_parser = count::<NonZeroU32>, conflicts_with = "rate")]
    pub(crate) depth: NonZeroU32,
    /// Open loop: requests per second over all connections, sent even if earlier ones are
    /// unanswered; latency counts from the time a request was due
    #[arg(long, value_name = "R", value_parser = count::<NonZeroU64>)]
    pub(crate) rate: Option<NonZeroU64>,
    /// Call through netpoll's client, which puts a call id into the first 8 bytes of the payload;
    /// mux only
    #[arg(long, conflicts_with_all = ["rate", "threads"])]
    pub(crate) ids: bool,
    /// Call through a netpoll pool of at most N connections, with --connections callers; rpc only
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>, conflicts_with_all = ["rate", "threads", "depth", "ids"])]
    pub(crate) pool: Option<NonZeroUsize>,
    /// How long connections stay open.
    #[command(flatten)]
    pub(crate) churn_args: ChurnArgs,
    /// Duration of the measured interval, such as 500ms, 10s, 1m30s, 1h [default: 10s, or until
    /// --requests are answered]
    #[arg(short, long, value_name = "T", value_parser = duration::parse)]
    pub(crate) duration: Option<Duration>,
    /// End after this many requests, or after --duration if that is given and comes first; without
    /// a warm-up
    #[arg(short = 'n', long, value_name = "N", value_parser = count::<NonZeroU64>, conflicts_with = "warm_up")]
    pub(crate) requests: Option<NonZeroU64>,
    /// How long to run before measuring; none disables the warm-up [default: 500ms]
    #[arg(long, value_name = "T", value_parser = duration::parse_optional)]
    pub(crate) warm_up: Option<OptionalDuration>,
    /// Number of threads that drive the connections
    #[arg(long, value_name = "N", default_value = "1", value_parser = count::<NonZeroUsize>)]
    pub(crate) threads: NonZeroUsize,
    /// Busy-poll for this long before a load thread sleeps, at most 1s; none disables it [default:
    /// none]
    #[arg(long, value_name = "T", value_parser = busy_poll, conflicts_with_all = ["ids", "pool"])]
    pub(crate) busy_poll: Option<OptionalDuration>,
    /// Process id of a server on this machine; adds its processor time to the report
    #[arg(long, value_name = "P")]
    pub(crate) server_pid: Option<u32>,
    /// Pin thread I to the (INDEX + I)-th of the processors that it may use
    #[arg(long, value_name = "INDEX", hide = true)]
    pub(crate) pin: Option<usize>,
    /// Output format.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How long connections stay open.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ChurnArgs {
    /// Open a connection for each request and wait for its close; at most --connections at once;
    /// rpc only
    #[arg(long, conflicts_with_all = ["rate", "depth", "ids", "pool"])]
    pub(crate) churn: bool,
}

/// The protocols of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// Bytes that the server returns unchanged
    Echo,
    /// Frames: a 4-byte big-endian length and that many payload bytes
    Rpc,
    /// As rpc; responses may arrive in any order
    Mux,
}

impl Protocol {
    /// Returns its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Rpc => "rpc",
            Self::Mux => "mux",
        }
    }
}

/// Parses a payload size.
fn size(text: &str) -> Result<u32, String> {
    byte_size::parse(text)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .filter(|&bytes| bytes <= MAX_PAYLOAD)
        .ok_or_else(|| {
            String::from("must be bytes, such as 1024, 64k or 4M (powers of 1024), at most 64M")
        })
}

/// Above the default frame limit of every server, and small enough for any machine's memory.
const MAX_PAYLOAD: u32 = 64 << 20;
