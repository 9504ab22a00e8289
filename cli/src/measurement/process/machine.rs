// SPDX-License-Identifier: MIT OR Apache-2.0
//! The description of the machine that a reader of figures needs.

use std::thread;
use std::{fmt, fs};

use serde::Serialize;

/// The machine of this process.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// The model name of the processor, as the kernel reports it.
    pub(crate) processor: String,
    /// Number of processors that this process may use.
    pub(crate) processors: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
}

impl Machine {
    /// Reads the description from `/proc`; a value that is missing there is `unknown`.
    pub(crate) fn this() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        let unknown = || String::from("unknown");
        Self {
            processor: processor.unwrap_or_else(unknown),
            processors: thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.map_or_else(unknown, |text| text.trim().to_owned()),
        }
    }
}

/// Formats the description as part of a sentence, without a full stop.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor,
            processors,
            kernel,
        } = self;
        write!(f, "{processor}, {processors} processors, Linux {kernel}")
    }
}
