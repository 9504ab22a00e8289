// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two ways to the outside: results on stdout, remarks on stderr.
//!
//! `println!` panics when the other end of a pipe has gone (`netpoll load | head -1`); here that
//! is an ordinary failure on stdout, and on stderr nothing at all, as nobody is left to be told.

use std::fmt;
use std::io::{self, Write};

use crate::failure::Failure;

/// Prints one result on stdout, with a line end, and makes sure it has left the process.
pub(crate) fn result(text: impl fmt::Display) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::while_trying("write to stdout", &error))
}

/// Prints one remark on stderr.
pub(crate) fn remark(text: impl fmt::Display) {
    writeln!(io::stderr(), "{text}").ok();
}

/// Prints why the command failed, on stderr and under the command's name.
pub(crate) fn complain(text: impl fmt::Display) {
    remark(format_args!("netpoll: {text}"));
}
