// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: the commands, their flags, and the rejection of invalid values.
//!
//! The parser rejects every value and combination that the text alone shows to be invalid. The
//! rejection names the flag and the valid values in one line, and the status is 2. The commands
//! receive valid values only; their own errors come from the network and the system.

mod address;
mod byte_size;
mod compare;
mod demo;
pub(crate) mod duration;
mod keepalive;
mod limits;
mod load;
mod serve;
mod validation;

use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use crate::output;

use duration::OptionalDuration;
use validation::validate;

pub(crate) use compare::CompareArgs;
pub(crate) use demo::{DemoArgs, OutputArgs};
pub(crate) use load::{LoadArgs, Protocol};
pub(crate) use serve::{ServeArgs, ServeKind};

/// Parses the command line. If there is nothing to run, prints the help or version on stdout, or
/// the rejection on stderr, and returns the exit status.
pub(crate) fn parse() -> Result<CliCommand, ExitCode> {
    Cli::try_parse()
        .and_then(|arguments| validate(arguments.command))
        .map_err(|error| print_error(&error))
}

/// A network framework for RPC: a server, a load generator and a demonstration
#[derive(Debug, Parser)]
#[command(
    name = "netpoll",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
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

/// Prints help and version in full, and a rejection as one line. Returns the exit status.
fn print_error(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A failed write of the help has no other output to be reported on.
        error.print().ok();
    } else {
        output::error(one_line(error));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Returns a rejection as one line: the first paragraph of its message without `error:`, and the name
/// that was probably meant. The other paragraphs are the usage and a hint at `--help`.
fn one_line(error: &clap::Error) -> String {
    let message = error.render().to_string();
    let words = |text: &str| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = message.split("\n\n").map(words);
    let first = paragraphs.next().unwrap_or_default();
    let line = first.strip_prefix("error: ").unwrap_or(&first);
    let similar = paragraphs.find_map(|tip| {
        let (_, names) = tip.strip_prefix("tip: ")?.split_once(" exist")?;
        Some(names.split_once(": ")?.1.to_owned())
    });
    match similar.or_else(|| similar_value(error)) {
        Some(names) => format!("{line}; did you mean {names}?"),
        None => line.to_owned(),
    }
}

/// Returns the valid value that a rejected one was probably meant to be. The parser itself suggests
/// none for short words with two letters in the wrong order, such as `rcp`.
fn similar_value(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidValue) else {
        return None;
    };
    let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue) else {
        return None;
    };
    let distance = |valid: &String| strsim::osa_distance(given, valid);
    let nearest = valid.iter().min_by_key(|valid| distance(valid))?;
    let is_similar = 3 * distance(nearest) <= given.chars().count();
    is_similar.then(|| format!("'{nearest}'"))
}

/// Parses a number that is at least 1.
fn count<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse()
        .map_err(|_| String::from("must be a whole number, at least 1"))
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    pub(super) fn rejection(line: &str) -> String {
        let error = Cli::try_parse_from(line.split(' '))
            .and_then(|arguments| validate(arguments.command))
            .unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        one_line(&error)
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
    fn a_misspelled_name_is_rejected_with_the_similar_one() {
        for (line, meant) in [
            ("netpoll serv rpc", "'serve'"),
            ("netpoll serve rcp", "'rpc'"),
            ("netpoll serve prox", "'proxy'"),
            (
                "netpoll load rpc --addr a:1 --conections 4",
                "'--connections'",
            ),
            ("netpoll load muxx --addr a:1", "'mux'"),
        ] {
            let line = rejection(line);
            assert!(
                line.ends_with(&format!("; did you mean {meant}?")),
                "{line}"
            );
        }
        for other in ["netpoll load rpc --addr a:1 --depth 0", "netpoll serve cat"] {
            let line = rejection(other);
            assert!(!line.contains("did you mean"), "{line}");
        }
    }

    #[test]
    fn load_has_the_short_options_of_other_load_generators() {
        let line = "netpoll load rpc --addr a:1 -c 4 -n 100 -d 1m30s -s 64k";
        let parsed = Cli::try_parse_from(line.split(' ')).unwrap();
        let CliCommand::Load(load) = parsed.command else {
            panic!("{parsed:?}");
        };
        assert_eq!((load.connections.get(), load.size), (4, 64 << 10));
        assert_eq!(load.requests.map(std::num::NonZero::get), Some(100));
        assert_eq!(load.duration, Some(Duration::from_secs(90)));
        for wrong in ["-n 0", "-s 65M", "-s 4X", "-d 10", "-n 10 --warm-up 1s"] {
            let line = rejection(&format!("netpoll load rpc --addr a:1 {wrong}"));
            assert!(line.contains("--"), "{line}");
        }
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
