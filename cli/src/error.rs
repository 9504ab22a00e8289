// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why work that a command was asked to do did not succeed.
//!
//! There are two ways for a command to end without success and scripts tell them apart: a command
//! line that cannot be meant (status 2, decided in [`crate::arguments`]), which will fail the same
//! way for ever, and work that did not succeed (status 1, this type), which may succeed the next
//! time. Both are one line; whoever makes one says what was tried, not only what the kernel said.

use std::fmt;
use std::io;

/// Why a command ended without success: one line for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CliError {
    text: String,
}

impl CliError {
    /// A failure in words of its own.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// What the kernel refused, after what was tried: `cannot listen on A: Address in use`.
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
    fn a_failure_names_what_was_tried_and_what_the_kernel_said() {
        let error = io::Error::from(io::ErrorKind::AddrInUse);
        let failure = CliError::io("listen on 127.0.0.1:80", &error);
        assert_eq!(
            failure.to_string(),
            "cannot listen on 127.0.0.1:80: address in use"
        );
    }
}
