// SPDX-License-Identifier: MIT OR Apache-2.0
//! Output that is sent straight from the caller's memory, and puts that are bounded by the room
//! below the high watermark: what the [poll functions](crate::connection::polled) write with.
//!
//! A direct send needs an output buffer with nothing in it, so that no byte overtakes another. Its
//! bytes count as taken by a sender while the kernel copies them: puts of other writers meanwhile
//! are queued behind them, and what the kernel does not take goes in front of those. So a direct
//! send takes all the bytes that it was given, at most `write_high`, or fails.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use netpoll_buffer::LinkBuffer;
use netpoll_sys::transfer::{self, MAX_SLICES};

use super::Shared;
use crate::connection::output_buffer::{OutputBuffer, PutOutcome};
use crate::poll::notifier::Notice;
use crate::sync::{MutexGuard, assert_unlocked, lock};

impl Shared {
    /// Sends `parts`, whose first is not empty, from where they are, and queues copies of the bytes that the kernel does not
    /// take. Returns how many bytes it took from the front of `parts`, or `None`, with nothing
    /// done, if other output is queued or the connection accepts none.
    pub(crate) fn send_directly(&self, parts: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        let first = parts.first()?;
        let high = self.options.write_high;
        let whole = match first.len() <= high {
            true => slices_within(parts, high),
            false => &[],
        };
        // A first part that is too long is cut.
        let len = match whole {
            [] => high,
            whole => total_len(whole),
        };
        if !lock(&self.output_buffer).begin_direct_send(len) {
            return None;
        }
        assert_unlocked();
        let sent = match whole {
            [] => transfer::send(self.as_fd(), &first[..len]),
            [one] => transfer::send(self.as_fd(), one),
            several => transfer::send_vectored(self.as_fd(), several),
        };
        let sent = match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            sent => sent,
        };
        let mut rest = LinkBuffer::new();
        if let Ok(sent) = sent {
            copy_rest(parts, sent, len, &mut rest);
            rest.return_tail();
        }
        let result = match &sent {
            Ok(_) => Ok(len),
            Err(error) => Err(same_error(error)),
        };
        let (flushed, poller_must_act) =
            lock(&self.output_buffer).return_unsent_off_poller(&mut rest, sent);
        drop(rest);
        flushed.wake();
        self.notify_wait_queue();
        match poller_must_act {
            true => self.notifier.notify(Notice::Send),
            // Others may have put meanwhile, and have left the send to this one.
            false => self.send_now(),
        }
        Some(result)
    }

    /// Copies `parts` to the end, at most up to the high watermark. Returns how many bytes it
    /// copied, or `None` if there is no room, a call waits for the low watermark, or the connection
    /// accepts no puts.
    pub(crate) fn put_below_high_watermark(&self, parts: &[IoSlice<'_>]) -> Option<usize> {
        let options = &self.options;
        let output_buffer = lock(&self.output_buffer);
        let room = options.write_high.saturating_sub(output_buffer.unsent());
        let may = room > 0
            && output_buffer.is_open()
            && output_buffer.waiting_since(options.write_low).is_none();
        may.then(|| self.put_parts(output_buffer, parts, room))
    }

    /// Copies the first `room` bytes of `parts` to the end, and returns how many there were.
    pub(crate) fn put_at_most(&self, parts: &[IoSlice<'_>], room: usize) -> usize {
        self.put_parts(lock(&self.output_buffer), parts, room)
    }

    fn put_parts(
        &self,
        mut output_buffer: MutexGuard<'_, OutputBuffer>,
        parts: &[IoSlice<'_>],
        room: usize,
    ) -> usize {
        let (mut left, mut outcome) = (room, PutOutcome::Unchanged);
        for part in parts {
            let part = &part[..part.len().min(left)];
            left -= part.len();
            if !part.is_empty() && !output_buffer.put_in_place(&[part]) {
                let put = output_buffer.put_slices(
                    &[part],
                    || self.watermarks(),
                    || self.notifier.role(),
                );
                outcome = outcome.max(put);
            }
        }
        self.unlock_and_notify(output_buffer, outcome, Notice::LocalSend);
        room - left
    }
}

/// Returns the first parts that have `most` bytes together at most, and that one call can send.
fn slices_within<'a, 'b>(parts: &'a [IoSlice<'b>], most: usize) -> &'a [IoSlice<'b>] {
    let mut left = most;
    let fits = |part: &&IoSlice<'_>| {
        let rest = left.checked_sub(part.len());
        rest.inspect(|&rest| left = rest).is_some()
    };
    let count = parts.iter().take(MAX_SLICES).take_while(fits).count();
    &parts[..count]
}

/// Returns how many bytes `parts` have together.
pub(crate) fn total_len(parts: &[IoSlice<'_>]) -> usize {
    parts
        .iter()
        .fold(0, |sum, part| sum.saturating_add(part.len()))
}

/// Copies the bytes of `parts` from byte `from` to byte `to` behind `target`.
fn copy_rest(parts: &[IoSlice<'_>], from: usize, to: usize, target: &mut LinkBuffer) {
    let mut start = 0;
    for part in parts {
        let end = start + part.len();
        if end > from && start < to {
            let begin = from.saturating_sub(start);
            target.put_slice(&part[begin..part.len().min(to - start)]);
        }
        start = end;
    }
}

/// Returns an error with the errno of `error`, which the poller gets.
fn same_error(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
