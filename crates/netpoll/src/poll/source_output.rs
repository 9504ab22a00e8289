// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sending for a source that has run.
//!
//! A source provides an outgoing buffer and gets back the part that was not sent. After a partial
//! send, a small rest is copied into memory of its own size, and nothing more is sent for the
//! source until its descriptor is writable.

use std::io;
use std::os::fd::BorrowedFd;

use super::Poller;
use super::registry::RunningSource;
use super::source::{NextAction, Outgoing};
use crate::sync::assert_unlocked;

/// The most buffers sent for one source in one iteration: each may cause the source to provide
/// another.
const MAX_SENDS_PER_ITERATION: usize = 16;

impl Poller {
    /// Sends the output of the source until there is none or the socket takes no more. Output
    /// beyond [`MAX_SENDS_PER_ITERATION`] buffers waits until other sources have run.
    #[inline(always)]
    pub(super) fn send_for(&mut self, run: &mut RunningSource, mut next: NextAction) -> NextAction {
        let mut sends = 0;
        while !run.watch.is_blocked()
            && !matches!(
                next,
                NextAction::Replace(_) | NextAction::Remove | NextAction::OutputDrained
            )
        {
            if sends == MAX_SENDS_PER_ITERATION {
                self.schedule_yield(run.token);
                break;
            }
            sends += 1;
            let Some(mut outgoing) = run.source.outgoing() else {
                break;
            };
            let Some(fd) = run.source.fd() else {
                break;
            };
            let result = self.driver.send(fd, &mut outgoing);
            let counters = &self.mailbox.counters().poller;
            counters.sends.add(1);
            let sent = *result.as_ref().unwrap_or(&0);
            counters.sent.add(sent as u64);
            if sent > 0 {
                self.context.record_progress();
            }
            if !outgoing.is_empty() && result.is_ok() {
                counters.blocked_sends.add(1);
                outgoing.compact();
                run.watch.block();
            }
            next = run.source.on_sent(outgoing, result, &mut self.context);
        }
        next
    }
}

/// Sends until all is sent or the socket takes no more. Leaves the rest in `outgoing`, and returns
/// the number of bytes sent, which may be 0. Any thread.
#[inline]
pub(crate) fn send(fd: BorrowedFd<'_>, outgoing: &mut Outgoing) -> io::Result<usize> {
    // Sent segments are dropped here, and dropping a user's memory is foreign code: the buffer
    // catches its panic, and no lock is held.
    assert_unlocked();
    match outgoing.drain_to(fd) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
