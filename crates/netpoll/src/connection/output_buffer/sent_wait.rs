// SPDX-License-Identifier: MIT OR Apache-2.0
//! A wait for output to leave, as its future has it: there is one at a time on an outbox, and it is
//! over when the future is done or dropped.

use std::task::Context;
use std::time::Instant;

use super::OutputBuffer;
use crate::connection::shared::Shared;
use crate::foreign::register;
use crate::sync::{Arc, lock};
use crate::timeouts::Wait;

/// A wait for output to leave, between polls.
#[derive(Default)]
pub(crate) struct SentWait<'a> {
    since: Option<Instant>,
    /// Whose outbox has its waker.
    registered: Option<&'a Arc<Shared>>,
}

impl<'a> SentWait<'a> {
    /// Whether it waits, and has since an earlier poll.
    pub(in crate::connection) fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// What `look` finds; or waits, until no more is unsent than it says.
    pub(in crate::connection) fn register<T>(
        &mut self,
        shared: &'a Arc<Shared>,
        context: &Context<'_>,
        deadline: Option<Instant>,
        look: impl Fn(&OutputBuffer) -> Result<T, usize>,
    ) -> Option<T> {
        let found = register(context.waker(), |caller_waker| {
            let mut output_buffer = lock(&shared.output_buffer);
            let most = match look(&output_buffer) {
                Ok(found) => return Ok(Some(found)),
                Err(most) => most,
            };
            let wait = Wait {
                since: *self.since.get_or_insert_with(Instant::now),
                deadline,
            };
            output_buffer.wait_until_sent(most, caller_waker, wait)?;
            Ok(None)
        });
        if found.is_none() {
            self.registered = Some(shared);
        }
        found
    }

    /// Nobody waits any more.
    pub(in crate::connection) fn clear(&mut self) {
        self.since = None;
        if let Some(shared) = self.registered.take() {
            let waker = lock(&shared.output_buffer).take_waiter();
            drop(waker);
        }
    }
}

impl Drop for SentWait<'_> {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}
