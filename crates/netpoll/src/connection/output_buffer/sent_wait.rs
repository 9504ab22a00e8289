// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`SentWait`]: a wait for output to be sent. An output buffer has one at a time. That of a future
//! ends when the future completes or is dropped; that of a poll function stays registered between
//! polls.

use std::task::Context;
use std::time::Instant;

use super::OutputBuffer;
use crate::connection::shared::Shared;
use crate::foreign::register;
use crate::sync::{Arc, lock};
use crate::timeouts::Wait;

/// The state of a wait for output, kept between polls.
#[derive(Default)]
pub(crate) struct SentWait<'a> {
    since: Option<Instant>,
    /// The connection whose output buffer has the waker.
    registered: Option<&'a Arc<Shared>>,
}

impl<'a> SentWait<'a> {
    /// Continues the wait that an earlier poll has [left](Self::leave) registered, if it was for
    /// the same number of bytes and is not over.
    pub(in crate::connection) fn registered(shared: &Shared, most: usize) -> Self {
        Self {
            since: lock(&shared.output_buffer).waiting_since(most),
            registered: None,
        }
    }

    /// Leaves the wait registered. The next poll continues it.
    pub(in crate::connection) fn leave(mut self) {
        self.registered = None;
    }

    /// Returns whether an earlier poll began to wait.
    pub(in crate::connection) fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// Returns the value that `look` finds. If `look` returns `Err(most)`, registers to be woken
    /// once at most `most` bytes are unsent, and returns `None`.
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

    /// Ends the wait.
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
