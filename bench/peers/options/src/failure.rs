// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two ways in which a peer fails: one line on stderr each.

use std::fmt::Display;

/// Ends the process with status 2: the command line asks for something that the peer does not
/// support.
pub fn refuse(why: impl Display) -> ! {
    eprintln!("{why}");
    std::process::exit(2)
}

/// Ends the process with status 1: the system reported an error.
pub fn unable(what: &str, why: impl Display) -> ! {
    eprintln!("cannot {what}: {why}");
    std::process::exit(1)
}
