// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two ways in which a peer ends by itself: one line on stderr each.

use std::fmt::Display;

/// Ends the process with status 2: it was asked for something that it does not do.
pub fn refuse(why: impl Display) -> ! {
    eprintln!("{why}");
    std::process::exit(2)
}

/// Ends the process with status 1: this machine does not let it.
pub fn unable(what: &str, why: impl Display) -> ! {
    eprintln!("cannot {what}: {why}");
    std::process::exit(1)
}
