// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hostile scene: an attack on a server whose cost is measured and compared with a limit. It
//! prints one line at its end, which `ci/hostile` extracts, and fails above the limit.

use std::fmt::Display;

/// A running scene. One that ends without a verdict, by a panic, has failed.
pub(crate) struct Scene {
    name: &'static str,
    limit: &'static str,
    judged: bool,
}

impl Scene {
    /// Starts the scene called `name`, with the limit `limit`.
    pub(crate) fn begin(name: &'static str, limit: &'static str) -> Self {
        eprintln!("\n{name} ...");
        Self {
            name,
            limit,
            judged: false,
        }
    }

    /// Prints progress.
    pub(crate) fn progress(&self, so_far: impl Display) {
        eprintln!("{}: {so_far}", self.name);
    }

    /// Ends the scene: prints the measurement, and fails unless `holds`.
    pub(crate) fn judge(mut self, measured: impl Display, holds: bool) {
        self.judged = true;
        self.print(&measured, if holds { "ok" } else { "FAILED" });
        assert!(holds, "{}: {measured}, not {}", self.name, self.limit);
    }

    fn print(&self, measured: &dyn Display, verdict: &str) {
        // The test harness may have printed a part of a line.
        println!(
            "\nscene | {} | {measured} | {} | {verdict}",
            self.name, self.limit
        );
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !self.judged {
            self.print(&"aborted", "FAILED");
        }
    }
}
