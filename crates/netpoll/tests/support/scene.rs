// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hostile scene: something that is done to a server, measured, and held against a limit. It says
//! one line when it is over, which `ci/hostile` picks out, and fails if what was measured is beyond.

use std::fmt::Display;

/// A scene that goes on. One that ends without a verdict, by a panic, has failed.
pub(crate) struct Scene {
    name: &'static str,
    limit: &'static str,
    judged: bool,
}

impl Scene {
    /// Begins the scene called `name`, which may reach `limit` and no more.
    pub(crate) fn begin(name: &'static str, limit: &'static str) -> Self {
        eprintln!("\n{name} ...");
        Self {
            name,
            limit,
            judged: false,
        }
    }

    /// Says on the way what is there so far.
    pub(crate) fn progress(&self, so_far: impl Display) {
        eprintln!("{}: {so_far}", self.name);
    }

    /// Ends it: says what was `measured`, and fails unless that `holds`.
    pub(crate) fn judge(mut self, measured: impl Display, holds: bool) {
        self.judged = true;
        self.say(&measured, if holds { "ok" } else { "FAILED" });
        assert!(holds, "{}: {measured}, not {}", self.name, self.limit);
    }

    fn say(&self, measured: &dyn Display, verdict: &str) {
        // The harness may have begun a line.
        println!(
            "\nscene | {} | {measured} | {} | {verdict}",
            self.name, self.limit
        );
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !self.judged {
            self.say(&"it broke off", "FAILED");
        }
    }
}
