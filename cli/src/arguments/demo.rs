// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of `netpoll demo`, and the output format that it shares with `netpoll load`.

use std::path::PathBuf;

use clap::Args;

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
