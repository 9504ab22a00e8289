// SPDX-License-Identifier: MIT OR Apache-2.0
//! The error of a command that ran and did not succeed.
//!
//! A command fails with one of two statuses, and scripts distinguish them. Status 2 is an invalid
//! command line, which fails again however often it is repeated ([`crate::arguments`]). Status 1 is
//! work that did not succeed (this type); it may succeed the next time. Either error is one line.
//! It names the operation that failed, not only the kernel's error.

use std::fmt;
use std::io;

/// The error of a command: one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CliError {
    text: String,
}

impl CliError {
    /// Creates an error from a text.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// Creates an error from an I/O error and the operation that failed: `cannot listen on A:
    /// Address in use`.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(format!("cannot {what}: {error}"))
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_names_the_operation_and_the_kernel_error() {
        let error = io::Error::from(io::ErrorKind::AddrInUse);
        let failure = CliError::io("listen on 127.0.0.1:80", &error);
        assert_eq!(
            failure.to_string(),
            "cannot listen on 127.0.0.1:80: address in use"
        );
    }
}
