// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: which commands there are, what each takes, and what is refused.
//!
//! Everything that can be known to be wrong from the text alone is refused here, by name, with
//! status 2 and one line that says what would be right. So the commands themselves receive values
//! that make sense, and have only the outside world to be surprised by.

mod compare;
mod validation;

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::address::Address;
use crate::duration::{self, OptionalDuration};
use crate::limits::LimitArgs;
use crate::output;
use crate::runner::{self, RunnerChoice};

use validation::validate;

pub(crate) use compare::CompareArgs;

/// Reads the command line. When there is nothing to run the answer has been printed already (help
/// and version on stdout, a refusal on stderr) and the status to end with is returned.
pub(crate) fn parse() -> Result<CliCommand, ExitCode> {
    Cli::try_parse()
        .and_then(|arguments| validate(arguments.command))
        .map_err(|error| print_error(&error))
}

/// A network framework for RPC: a server to try, a load to measure it with, and a demonstration.
#[derive(Debug, Parser)]
#[command(name = "netpoll", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

/// One of the things the command does.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Run a server until SIGINT or SIGTERM; it prints `listening on ADDR` when it is ready
    Serve(Box<ServeArgs>),
    /// Drive a server with requests and report throughput and latency
    Load(LoadArgs),
    /// Start a server here, drive it, and show the results as a table and as a page with plots
    Demo(DemoArgs),
    /// Measure netpoll beside other frameworks, the peers, in many scenarios
    Compare(CompareArgs),
}

/// What `netpoll serve` takes.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// What to serve
    pub(crate) kind: ServeKind,
    /// Where to listen: host:port (port 0 takes a free one), unix:/path or unix:@name
    #[arg(long, value_name = "A", default_value = "127.0.0.1:0")]
    pub(crate) addr: Address,
    /// Poller threads, at most 1024 [default: one for each available processor]
    #[arg(long, value_name = "N", value_parser = pollers)]
    pub(crate) pollers: Option<NonZeroUsize>,
    /// Stay awake for so long before sleeping, at most 1s; none is off [default: none]
    #[arg(long, value_name = "T", value_parser = busy_poll)]
    pub(crate) busy_poll: Option<OptionalDuration>,
    /// Connections at once; more wait in the kernel's queue [default: 7/8 of the descriptor limit]
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    pub(crate) max_connections: Option<NonZeroUsize>,
    /// Where handlers run: inline (on the pollers), threads[:N], tokio[:N]; N threads, or one for
    /// each available processor [default: inline]
    #[arg(long, value_name = "R", value_parser = runner::parse)]
    pub(crate) runner: Option<RunnerChoice>,
    /// Where a proxy passes its connections on to
    #[arg(long, value_name = "A")]
    pub(crate) to: Option<Address>,
    /// For one direction of a proxy to be silent once the other has ended; none is off [default: 30s]
    #[arg(long, value_name = "T", value_parser = duration::parse_optional)]
    pub(crate) half_open_timeout: Option<OptionalDuration>,
    /// Accept on each poller, from a socket of its own (SO_REUSEPORT)
    #[arg(long)]
    pub(crate) reuse_port: bool,
    /// Print a line of statistics on stderr so often: a whole number and ms, s or m
    #[arg(long, value_name = "T", value_parser = duration::parse)]
    pub(crate) stats: Option<Duration>,
    /// Keep the server on one processor, the INDEX-th of those it may use
    #[arg(long, value_name = "INDEX", hide = true)]
    pub(crate) pin: Option<usize>,
    /// What bounds its connections.
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// For how long a direction of a proxy may be silent once the other has ended, unless told otherwise.
const DEFAULT_HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(30);

impl ServeArgs {
    /// For how long a direction of a proxy may be silent once the other has ended.
    pub(crate) fn half_open_duration(&self) -> Option<Duration> {
        match self.half_open_timeout {
            None => Some(DEFAULT_HALF_OPEN_TIMEOUT),
            Some(OptionalDuration::Set(time)) => Some(time),
            Some(OptionalDuration::Off) => None,
        }
    }

    /// For how long the server stays awake before it sleeps.
    pub(crate) fn busy_poll(&self) -> Duration {
        self.busy_poll
            .map_or(Duration::ZERO, OptionalDuration::or_zero)
    }
}

/// The servers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServeKind {
    /// Return the bytes that come
    Echo,
    /// Answer each frame (4-byte big-endian length, payload) with the same frame
    Rpc,
    /// The same as rpc, with each request in a task of its own
    Mux,
    /// The same as rpc, where every tenth request of a connection computes for 100 us
    Heavy,
    /// Pass bytes on, both ways, between each client and a connection to --to
    Proxy,
    /// The same as rpc from a bare epoll loop on one thread: the limit to compare with
    Reference,
}

/// What `netpoll load` takes.
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// What the server speaks
    pub(crate) protocol: Protocol,
    /// The server: host:port, unix:/path or unix:@name
    #[arg(long, value_name = "A")]
    pub(crate) addr: Address,
    /// Connections, all of them open from beginning to end unless there is churn
    #[arg(long, value_name = "C", default_value = "100", value_parser = count::<NonZeroU32>)]
    pub(crate) connections: NonZeroU32,
    /// Payload bytes of a request; the 4-byte header of rpc comes on top
    #[arg(long, value_name = "B", default_value = "1024", value_parser = size)]
    pub(crate) size: u32,
    /// Closed loop: requests in flight on each connection, a new one for each answer
    #[arg(long, value_name = "D", default_value = "1", value_parser = count::<NonZeroU32>, conflicts_with = "rate")]
    pub(crate) depth: NonZeroU32,
    /// Open loop: requests per second in all, whatever is still unanswered; latency is counted
    /// from the time a request was meant to be sent
    #[arg(long, value_name = "R", value_parser = count::<NonZeroU64>)]
    pub(crate) rate: Option<NonZeroU64>,
    /// Call through netpoll's client, which gives each call an id: the first 8 bytes of the payload;
    /// for mux
    #[arg(long, conflicts_with_all = ["rate", "threads"])]
    pub(crate) ids: bool,
    /// Call through a pool of netpoll's of at most N connections, with --connections callers; for rpc
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>, conflicts_with_all = ["rate", "threads", "depth", "ids"])]
    pub(crate) pool: Option<NonZeroUsize>,
    /// Whether connections stay.
    #[command(flatten)]
    pub(crate) churn_args: ChurnArgs,
    /// How long to measure: a whole number and us, ms, s or m
    #[arg(long, value_name = "S", default_value = "10s", value_parser = duration::parse)]
    pub(crate) duration: Duration,
    /// How long to run before measuring; `none` for not at all
    #[arg(long, value_name = "T", default_value = "500ms", value_parser = duration::parse_optional)]
    pub(crate) warm_up: OptionalDuration,
    /// Threads that drive the connections
    #[arg(long, value_name = "N", default_value = "1", value_parser = count::<NonZeroUsize>)]
    pub(crate) threads: NonZeroUsize,
    /// Have those threads stay awake for so long before they sleep, at most 1s; none is off
    /// [default: none]
    #[arg(long, value_name = "T", value_parser = busy_poll, conflicts_with_all = ["ids", "pool"])]
    pub(crate) busy_poll: Option<OptionalDuration>,
    /// The server's process, if it runs on this machine: its processor time is reported
    #[arg(long, value_name = "P")]
    pub(crate) server_pid: Option<u32>,
    /// Keep thread I on the (INDEX + I)-th processor it may use
    #[arg(long, value_name = "INDEX", hide = true)]
    pub(crate) pin: Option<usize>,
    /// How results are printed.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Whether connections stay.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ChurnArgs {
    /// A connection for each request: connect, ask, be answered, and hear the end, at most
    /// --connections at once; for rpc
    #[arg(long, conflicts_with_all = ["rate", "depth", "ids", "pool"])]
    pub(crate) churn: bool,
}

/// What a load speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// Bytes that come back as they are
    Echo,
    /// Frames of a 4-byte big-endian length and that many bytes
    Rpc,
    /// The same, where answers may come in any order
    Mux,
}

/// What `netpoll demo` takes.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Be done within ten seconds, with figures to match
    #[arg(long)]
    pub(crate) quick: bool,
    /// Where the page goes
    #[arg(
        long = "output",
        value_name = "FILE",
        default_value = "netpoll-demo.html"
    )]
    pub(crate) page: PathBuf,
    /// How results are printed.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How results are printed.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OutputArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints what clap has to say: help and version whole, a refusal as one line.
fn print_error(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Nobody is left to be told if this fails.
        error.print().ok();
    } else {
        output::error(one_line(&error.render().to_string()));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The first paragraph of a message, without its `error:` and on one line. What follows it is the
/// usage and a hint at `--help`.
fn one_line(message: &str) -> String {
    let paragraph = message.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_ascii_whitespace().collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// A number that is at least one.
fn count<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse()
        .map_err(|_| String::from("must be a whole number, at least 1"))
}

/// A number of pollers that a loop may have: see [`Builder::pollers`](netpoll::Builder::pollers).
fn pollers(text: &str) -> Result<NonZeroUsize, String> {
    match count::<NonZeroUsize>(text)? {
        pollers if pollers.get() > 1024 => Err("must be at most 1024".into()),
        pollers => Ok(pollers),
    }
}

/// A time that a poller may be told to stay awake.
fn busy_poll(text: &str) -> Result<OptionalDuration, String> {
    match duration::parse_optional(text)? {
        OptionalDuration::Set(time) if time > MAX_BUSY_POLL => {
            Err("must be at most 1s, such as 50us; `none` switches it off".into())
        }
        time => Ok(time),
    }
}

/// What the framework takes at most.
const MAX_BUSY_POLL: Duration = Duration::from_secs(1);

fn size(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(size) if size <= MAX_PAYLOAD => Ok(size),
        _ => Err(format!("must be a number of bytes, at most {MAX_PAYLOAD}")),
    }
}

/// Above any default frame bound of a server, and still a buffer that no machine minds.
const MAX_PAYLOAD: u32 = 64 << 20;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    pub(super) fn refusal(line: &str) -> String {
        let error = Cli::try_parse_from(line.split(' '))
            .and_then(|arguments| validate(arguments.command))
            .unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        one_line(&error.render().to_string())
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_refusal_is_one_line_that_names_the_flag_and_what_would_be_right() {
        let line = refusal("netpoll load rpc --addr a:1 --depth 0");
        assert!(!line.contains('\n'), "{line}");
        assert!(
            line.contains("--depth") && line.contains("at least 1"),
            "{line}"
        );
    }

    #[test]
    fn a_missing_address_is_named() {
        assert!(refusal("netpoll load rpc").contains("--addr"));
    }

    #[test]
    fn a_budget_that_no_loop_can_do_with_is_refused_with_the_least() {
        for wrong in ["1000", "many", "0"] {
            let line = refusal(&format!("netpoll serve rpc --budget {wrong}"));
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
            let line = refusal(&format!("netpoll serve rpc --pollers 1 {wrong}"));
            assert!(
                line.contains("--budget") && line.contains("--max-frame"),
                "{line}"
            );
        }
        let line = refusal("netpoll serve rpc --max-frame 9000000000000000");
        assert!(line.contains("--budget"), "{line}");
        let line = refusal("netpoll serve reference --budget 2000000");
        assert!(line.contains("--budget"), "{line}");
    }

    #[test]
    fn a_runner_that_is_none_is_refused_with_those_there_are() {
        for wrong in ["go", "threads:0", "tokio:", "inline:2", "threads:x"] {
            let line = refusal(&format!("netpoll serve rpc --runner {wrong}"));
            assert!(
                line.contains("--runner") && line.contains("threads:4"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_time_of_zero_is_refused_with_the_word_that_switches_it_off() {
        for flag in [
            "first-byte-timeout",
            "read-timeout",
            "write-timeout",
            "idle-timeout",
            "max-age",
        ] {
            let line = refusal(&format!("netpoll serve rpc --{flag} 0"));
            assert!(line.contains(flag) && line.contains("`none`"), "{line}");
        }
    }
}
