// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lowest rate at which an awaited body must arrive.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use netpoll::time::{Sleep, sleep_until};

/// Measures the rate of a body while the service waits for it. Time in which the service does
/// something else does not count.
#[derive(Debug)]
pub(crate) struct BodyRate {
    /// The bytes that must arrive in each window.
    min_bytes: u64,
    window: Duration,
    /// The bytes of the current window, and the time that was waited in it before the present wait.
    bytes: u64,
    waited: Duration,
    /// When the present wait began.
    since: Option<Instant>,
    sleep: Option<Sleep>,
}

impl BodyRate {
    pub(crate) fn new(bytes_per_second: u32, window: Duration) -> Self {
        let min_bytes = u128::from(bytes_per_second) * window.as_millis() / 1000;
        Self {
            min_bytes: u64::try_from(min_bytes).unwrap_or(u64::MAX),
            window,
            bytes: 0,
            waited: Duration::ZERO,
            since: None,
            sleep: None,
        }
    }

    /// Counts bytes that have arrived. They end a wait.
    pub(crate) fn received(&mut self, count: usize) {
        self.bytes = self.bytes.saturating_add(count as u64);
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Records that the service waits. Returns whether the body arrives too slowly, and wakes the
    /// service when it may.
    pub(crate) fn is_too_slow(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            let now = Instant::now();
            let since = *self.since.get_or_insert(now);
            let Some(deadline) = since.checked_add(self.window.saturating_sub(self.waited)) else {
                return false;
            };
            let sleep = self.sleep.get_or_insert_with(|| sleep_until(deadline));
            sleep.reset(deadline);
            if Pin::new(sleep).poll(context).is_pending() {
                return false;
            }
            if self.bytes < self.min_bytes {
                return true;
            }
            self.bytes = 0;
            self.waited = Duration::ZERO;
            self.since = None;
        }
    }
}
