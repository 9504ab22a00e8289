// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a reader of figures has to know of the machine they come from.

use std::thread;
use std::{fmt, fs};

use serde::Serialize;

/// The machine of this process.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// As the kernel names it.
    pub(crate) processor: String,
    /// Processors this process may use.
    pub(crate) processors: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
}

impl Machine {
    /// Looks in `/proc`; what is not to be found there is `unknown`.
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

/// As a sentence says it, without the full stop.
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
