// SPDX-License-Identifier: MIT OR Apache-2.0
//! Validation of a [`Builder`]: invalid options are rejected by name.

use std::time::Duration;

use super::Builder;
use crate::error::InvalidConfig;
use crate::event_loop::handler_kind::HandlerKind;
use crate::poll::busy_poll;

/// The most pollers of a loop: each is a thread with two descriptors.
const MAX_POLLERS: usize = 1024;

impl<K: HandlerKind> Builder<K> {
    /// Rejects options that cannot work, by name.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        if let Some(invalid) = &self.invalid_config {
            return Err(*invalid);
        }
        self.options.check()?;
        if self.listeners.is_empty() {
            return Err(InvalidConfig::new("listeners", "must contain at least one"));
        }
        if self.pollers == Some(0) {
            return Err(InvalidConfig::new("pollers", "must be at least 1"));
        }
        if self.pollers.is_some_and(|count| count > MAX_POLLERS) {
            return Err(InvalidConfig::new("pollers", "must be at most 1024"));
        }
        if self.busy_poll > busy_poll::MAX_BUSY_POLL {
            return Err(InvalidConfig::new("busy_poll", "must be at most 1 second"));
        }
        if self.max_connections == Some(0) {
            return Err(InvalidConfig::new("max_connections", "must be at least 1"));
        }
        if self.slow_threshold.0 == Some(Duration::ZERO) {
            let expected = "must be greater than zero; use None to disable it";
            return Err(InvalidConfig::new("slow_handler", expected));
        }
        if self.accept_rate == Some(0) {
            let expected = "must be at least 1; use None to disable it";
            return Err(InvalidConfig::new("accept_rate", expected));
        }
        Ok(())
    }
}
