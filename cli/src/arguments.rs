// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: the commands, their flags, and the rejection of invalid values.
//!
//! The parser rejects every value and combination that the text alone shows to be invalid. The
//! rejection names the flag and the valid values in one line, and the status is 2. The commands
//! receive valid values only; their own errors come from the network and the system.

pub(crate) mod address;
mod compare;
pub(crate) mod duration;
mod keepalive;
pub(crate) mod limits;
mod validation;

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::output;
use crate::serve::runner::{self, RunnerChoice};

use address::Address;
use duration::OptionalDuration;
use limits::LimitArgs;
use validation::validate;

pub(crate) use compare::CompareArgs;

/// Parses the command line. If there is nothing to run, prints the help or version on stdout, or
/// the rejection on stderr, and returns the exit status.
pub(crate) fn parse() -> Result<CliCommand, ExitCode> {
    Cli::try_parse()
        .and_then(|arguments| validate(arguments.command))
        .map_err(|error| print_error(&error))
}

/// A network framework for RPC: a server, a load generator and a demonstration
#[derive(Debug, Parser)]
#[command(name = "netpoll", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

/// One subcommand.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Run a server until SIGINT or SIGTERM; print `listening on ADDR` once it accepts connections
    Serve(Box<ServeArgs>),
    /// Send requests to a server and report throughput and latency
    Load(LoadArgs),
    /// Measure a server on this machine; print a table and write a page with plots
    Demo(DemoArgs),
    /// Measure netpoll and other frameworks (peers) in many scenarios
    Compare(CompareArgs),
}

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

/// Arguments of `netpoll load`.
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// Protocol of the server
    pub(crate) protocol: Protocol,
    /// Server address: host:port, unix:/path or unix:@name
    #[arg(long, value_name = "A")]
    pub(crate) addr: Address,
    /// Number of connections, open for the whole run unless --churn is given
    #[arg(long, value_name = "C", default_value = "100", value_parser = count::<NonZeroU32>)]
    pub(crate) connections: NonZeroU32,
    /// Payload bytes of a request, without the 4-byte header of rpc and mux
    #[arg(long, value_name = "B", default_value = "1024", value_parser = size)]
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
    /// Duration of the measured interval: a whole number and us, ms, s or m
    #[arg(long, value_name = "S", default_value = "10s", value_parser = duration::parse)]
    pub(crate) duration: Duration,
    /// How long to run before measuring; none disables the warm-up
    #[arg(long, value_name = "T", default_value = "500ms", value_parser = duration::parse_optional)]
    pub(crate) warm_up: OptionalDuration,
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

/// Arguments of `netpoll demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Finish within ten seconds, with less precise figures
    #[arg(long)]
    pub(crate) quick: bool,
    /// Path of the page
    #[arg(
        long = "output",
        value_name = "FILE",
        default_value = "netpoll-demo.html"
    )]
    pub(crate) page: PathBuf,
    /// Output format.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Output format.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OutputArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints help and version in full, and a rejection as one line. Returns the exit status.
fn print_error(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A failed write of the help has no other output to be reported on.
        error.print().ok();
    } else {
        output::error(one_line(&error.render().to_string()));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Returns the first paragraph of a message as one line, without its `error:`. The paragraphs after
/// it are the usage and a hint at `--help`.
fn one_line(message: &str) -> String {
    let paragraph = message.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_ascii_whitespace().collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// Parses a number that is at least 1.
fn count<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse()
        .map_err(|_| String::from("must be a whole number, at least 1"))
}

/// Parses a number of pollers; see [`Builder::pollers`](netpoll::Builder::pollers) for the bound.
fn pollers(text: &str) -> Result<NonZeroUsize, String> {
    match count::<NonZeroUsize>(text)? {
        pollers if pollers.get() > 1024 => Err("must be at most 1024".into()),
        pollers => Ok(pollers),
    }
}

/// Parses a busy-poll time.
fn busy_poll(text: &str) -> Result<OptionalDuration, String> {
    match duration::parse_optional(text)? {
        OptionalDuration::Set(time) if time > MAX_BUSY_POLL => {
            Err("must be at most 1s, such as 50us; `none` disables it".into())
        }
        time => Ok(time),
    }
}

/// The framework's upper bound for busy polling.
const MAX_BUSY_POLL: Duration = Duration::from_secs(1);

fn size(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(size) if size <= MAX_PAYLOAD => Ok(size),
        _ => Err(format!("must be a number of bytes, at most {MAX_PAYLOAD}")),
    }
}

/// Above the default frame limit of every server, and small enough for any machine's memory.
const MAX_PAYLOAD: u32 = 64 << 20;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    pub(super) fn rejection(line: &str) -> String {
        let error = Cli::try_parse_from(line.split(' '))
            .and_then(|arguments| validate(arguments.command))
            .unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        one_line(&error.render().to_string())
    }

    #[test]
    fn the_command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_rejection_is_one_line_with_the_flag_and_the_valid_values() {
        let line = rejection("netpoll load rpc --addr a:1 --depth 0");
        assert!(!line.contains('\n'), "{line}");
        assert!(
            line.contains("--depth") && line.contains("at least 1"),
            "{line}"
        );
    }

    #[test]
    fn a_missing_address_is_reported_by_flag() {
        assert!(rejection("netpoll load rpc").contains("--addr"));
    }

    #[test]
    fn a_budget_below_the_minimum_is_rejected_with_the_minimum() {
        for wrong in ["1000", "many", "0"] {
            let line = rejection(&format!("netpoll serve rpc --budget {wrong}"));
            assert!(
                line.contains("--budget") && line.contains("1048576"),
                "{line}"
            );
        }
        for wrong in [
            "--budget 1048576",
            "--budget 4194304",
            "--budget 8000000 --max-frame 8000000",
        ] {
            let line = rejection(&format!("netpoll serve rpc --pollers 1 {wrong}"));
            assert!(
                line.contains("--budget") && line.contains("--max-frame"),
                "{line}"
            );
        }
        let line = rejection("netpoll serve rpc --max-frame 9000000000000000");
        assert!(line.contains("--budget"), "{line}");
        let line = rejection("netpoll serve reference --budget 2000000");
        assert!(line.contains("--budget"), "{line}");
    }

    #[test]
    fn an_unknown_runner_is_rejected_with_the_known_ones() {
        for wrong in ["go", "threads:0", "tokio:", "inline:2", "threads:x"] {
            let line = rejection(&format!("netpoll serve rpc --runner {wrong}"));
            assert!(
                line.contains("--runner") && line.contains("threads:4"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_zero_time_is_rejected_with_the_word_that_disables_it() {
        for flag in [
            "first-byte-timeout",
            "read-timeout",
            "write-timeout",
            "idle-timeout",
            "max-age",
        ] {
            let line = rejection(&format!("netpoll serve rpc --{flag} 0"));
            assert!(line.contains(flag) && line.contains("`none`"), "{line}");
        }
    }
}
