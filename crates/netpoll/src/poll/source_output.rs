// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sending for a source that has run.
//!
//! A source gives a chain and gets the same back, so much of it sent. What stays after a short send
//! is moved into memory of its own size if it is small, and nothing more is sent for the source
//! until its descriptor is writable.

use std::io;
use std::os::fd::BorrowedFd;

use super::Poller;
use super::registry::RunningSource;
use super::source::{NextAction, Outgoing};
use crate::sync::assert_unlocked;

/// The most chains sent for one source in one turn: each may have it make another.
const MAX_SENDS_PER_TURN: usize = 16;

impl Poller {
    /// Sends what the source gives, until it gives nothing or the socket takes no more. What it
    /// gives beyond [`MAX_SENDS_PER_TURN`] waits for the others of the turn.
    #[inline]
    pub(super) fn send_for(&mut self, run: &mut RunningSource, mut next: NextAction) -> NextAction {
        let mut sends = 0;
        while !run.watch.is_blocked()
            && !matches!(
                next,
                NextAction::Replace(_) | NextAction::Remove | NextAction::OutputDrained
            )
        {
            if sends == MAX_SENDS_PER_TURN {
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

/// Sends until all is gone or the socket takes no more; leaves what did not go, and says how much
/// went, 0 if nothing did. Any thread.
#[inline]
pub(crate) fn send(fd: BorrowedFd<'_>, outgoing: &mut Outgoing) -> io::Result<usize> {
    // What is sent is let go, and the drop of memory that a user pushed is foreign code: a panic ends in
    // the buffer, and no lock is held.
    assert_unlocked();
    match outgoing.drain_to(fd) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
