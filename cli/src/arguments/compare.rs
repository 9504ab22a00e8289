// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of `netpoll compare`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration;
use crate::measurement::compare::Peer;
use crate::measurement::compare::selection::{self, ScenarioSelection};

use super::count;

/// Arguments of `netpoll compare`.
#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// Run fewer scenarios, three rounds of one second: finish within twenty minutes, with less
    /// precise figures
    #[arg(long)]
    pub(crate) quick: bool,
    /// Run only these peers, separated by commas: netpoll, tokio, go-netpoll ... [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = selection::peer)]
    pub(crate) peers: Vec<&'static Peer>,
    /// Run only these scenarios, separated by commas: a group (pingpong) or one point of it
    /// (pingpong/100) [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = selection::scenarios)]
    pub(crate) scenarios: Vec<ScenarioSelection>,
    /// Number of rounds: each server has one turn a round [default: 5; 3 if quick]
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    pub(crate) rounds: Option<NonZeroUsize>,
    /// Measured time of a turn: a whole number and us, ms, s or m [default: 2s; 1s if quick]
    #[arg(long, value_name = "T", value_parser = duration::parse)]
    pub(crate) duration: Option<Duration>,
    /// Write the figures to FILE as a JSON array of rows
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a page with plots to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Directory of the peers' programs [default: bench/peers of the checkout that contains the
    /// working directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) bench: Option<PathBuf>,
}
