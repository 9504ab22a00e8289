// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `netpoll compare` takes.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::compare::Peer;
use crate::compare::selection::{self, ScenarioSelection};
use crate::duration;

use super::count;

/// What `netpoll compare` takes.
#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// Fewer scenarios, three rounds of one second: done in twenty minutes, with figures to match
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these, separated by commas: netpoll, tokio, go-netpoll ... [default: everybody]
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = selection::peer)]
    pub(crate) peers: Vec<&'static Peer>,
    /// Only these, separated by commas, all points (pingpong) or one (pingpong/100) [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = selection::scenarios)]
    pub(crate) scenarios: Vec<ScenarioSelection>,
    /// Turns of each server in each scenario [default: 5; 3 if quick]
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    pub(crate) rounds: Option<NonZeroUsize>,
    /// How long a turn measures: a whole number and ms, s or m [default: 2s; 1s if quick]
    #[arg(long, value_name = "T", value_parser = duration::parse)]
    pub(crate) duration: Option<Duration>,
    /// Write the figures to FILE: a JSON array of rows
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a page with plots to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Where the programs of the peers are [default: bench/peers of the checkout one is in]
    #[arg(long, value_name = "DIR")]
    pub(crate) bench: Option<PathBuf>,
}
