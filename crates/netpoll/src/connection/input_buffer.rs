// SPDX-License-Identifier: MIT OR Apache-2.0
//! The input of a connection that its handler has not taken yet, and the read that waits for more.
//!
//! The poller appends, the `Reader` takes all of it at once. Both hold the lock for that step only:
//! no system call and no user code runs under it.
//!
//! The poller reads no more once the buffer is full. If the socket then has more, the poller stops
//! watching it, and the reader that takes the buffer has the poller watch again.

use std::io;
use std::time::Instant;

use netpoll_buffer::LinkBuffer;

use crate::error::CloseReason;
use crate::foreign::{WakerSlot, Wakeup};
use crate::poll::source::{Received, RecvBuffer};
use crate::timeouts::Wait;

/// If at least this many bytes are missing, they are received straight into one block. Fewer are
/// received into the shared block, and made contiguous when they are read.
const OWN_BLOCK_MIN: usize = 8 << 10;

/// The most that is allocated for an unverified length before bytes have come.
const UNVERIFIED_MAX: usize = 4 << 10;

/// The input buffer of a connection's shared state.
#[derive(Debug, Default)]
pub(crate) struct InputBuffer {
    pub(crate) buffer: LinkBuffer,
    /// Why nothing more will be appended, once that is so.
    pub(crate) end: Option<InputEnd>,
    pub(crate) waiter: Option<ReadWaiter>,
    pub(crate) last_wait: LastWait,
    /// The number of bytes that the reader holds outside this buffer, as last reported by it.
    pub(crate) reader_held: usize,
    /// Whether the poller reads on.
    level: FillLevel,
    /// The poller does not watch the socket until the buffer is taken, and is notified then.
    pub(crate) paused: bool,
    /// Whether the poller is notified when a reader begins to wait.
    pub(crate) on_wait: WaitNotice,
    /// How many bytes the last receive brought.
    pub(crate) last_received: usize,
    /// The error of a receive that the reader made, for the poller, which ends the input.
    pub(crate) receive_error: Option<io::Error>,
}

/// Whether the poller reads on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FillLevel {
    #[default]
    Low,
    /// The poller reads no more: the buffer was filled, and not taken since.
    High,
}

/// The result of the last wait, until its reader has seen it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LastWait {
    /// Nothing to report.
    #[default]
    None,
    /// The wait, which had begun at this time, timed out.
    TimedOut(Instant),
}

/// The action of a reader that begins to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WaitNotice {
    /// Nothing: the poller reads on.
    #[default]
    None,
    /// Notify the poller, which is draining the connection.
    NotifyPoller,
}

/// How the input ended.
#[derive(Clone, Debug)]
pub(crate) enum InputEnd {
    Fin,
    Closed(CloseReason),
    /// The reader gets no more input, for this reason; puts are still sent.
    Drained(CloseReason),
}

/// How the read timeout applies to a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReadTimeoutPolicy {
    /// The call fails, and its caller decides how to go on.
    #[default]
    FailCall,
    /// Nothing, unless a part of the awaited input has come: a server waits for its next request.
    AllowIdle,
}

/// A reader that waits until the buffer has `need` bytes.
#[derive(Debug)]
pub(crate) struct ReadWaiter {
    pub(crate) need: usize,
    /// The largest read that this connection has completed: lengths up to this are trusted.
    pub(crate) largest: usize,
    pub(crate) wait: Wait,
    /// The position in the stream at which the awaited bytes begin.
    pub(crate) at: usize,
    pub(crate) timeout_policy: ReadTimeoutPolicy,
    pub(crate) waker: WakerSlot,
}

impl InputBuffer {
    /// Returns the memory that the next bytes are received into.
    pub(crate) fn recv_buffer(&mut self) -> RecvBuffer {
        let have = self.buffer.len();
        match &self.waiter {
            Some(waiter) if waiter.need >= have + OWN_BLOCK_MIN => {
                let capacity = waiter
                    .need
                    .min(UNVERIFIED_MAX.max(2 * have).max(waiter.largest));
                RecvBuffer::Owned(self.buffer.take_contiguous_tail(waiter.need, capacity))
            }
            _ => RecvBuffer::Shared,
        }
    }

    /// Appends received bytes, and returns the waker of the reader if it has enough now.
    pub(crate) fn append(&mut self, received: Received) -> Wakeup {
        let before = self.buffer.len();
        append(&mut self.buffer, received);
        self.last_received = self.buffer.len() - before;
        let satisfied = self
            .waiter
            .as_ref()
            .is_some_and(|waiter| waiter.need <= self.buffer.len());
        if satisfied {
            self.clear_waiter()
        } else {
            Wakeup::none()
        }
    }

    /// Removes the waiter, and returns its waker.
    pub(crate) fn clear_waiter(&mut self) -> Wakeup {
        match self.waiter.take() {
            Some(mut waiter) => waiter.waker.take(),
            None => Wakeup::none(),
        }
    }

    /// Ends the wait by timeout, and returns its waker.
    pub(crate) fn time_out(&mut self) -> Wakeup {
        if let Some(waiter) = &self.waiter {
            self.last_wait = LastWait::TimedOut(waiter.wait.since);
        }
        self.clear_waiter()
    }

    /// Returns since when the registered wait waits, or since when the last one waited if it timed
    /// out and its reader has not seen that yet.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        match (&self.waiter, self.last_wait) {
            (Some(waiter), _) => Some(waiter.wait.since),
            (None, LastWait::TimedOut(since)) => Some(since),
            (None, LastWait::None) => None,
        }
    }

    /// Sets how many bytes the reader holds outside this buffer. They count toward `high` until the
    /// reader takes more.
    pub(crate) fn set_reader_held(&mut self, held: usize, high: usize) {
        self.reader_held = held;
        self.update_level(high);
    }

    /// Marks the buffer as full if it [is](Self::is_full).
    pub(crate) fn update_level(&mut self, high: usize) {
        if self.is_full(high) {
            self.level = FillLevel::High;
        }
    }

    /// Returns whether the buffer was filled, and not taken since.
    pub(crate) fn has_enough(&self) -> bool {
        self.level == FillLevel::High
    }

    /// The socket has more input. Returns whether the poller should stop watching it, because the
    /// buffer is full.
    pub(crate) fn pause(&mut self) -> bool {
        self.paused |= self.has_enough();
        self.paused
    }

    /// Returns whether the reader has all bytes that were received, and more may come.
    pub(crate) fn is_drained(&self) -> bool {
        self.buffer.is_empty() && self.end.is_none() && !self.paused && !self.has_enough()
    }

    /// The buffer is being taken, so there is space. Returns whether the poller has to be notified
    /// of that.
    pub(crate) fn resume(&mut self) -> bool {
        self.level = FillLevel::Low;
        std::mem::take(&mut self.paused)
    }

    /// The owner gives the connection back: takes the buffer, and returns it with the waker of the
    /// waiter.
    pub(crate) fn clear(&mut self) -> (LinkBuffer, Wakeup) {
        self.reader_held = 0;
        self.last_wait = LastWait::None;
        self.resume();
        (std::mem::take(&mut self.buffer), self.clear_waiter())
    }

    /// Records the end of the input, and returns the waker of the waiting reader. A FIN is replaced
    /// by a close of the connection, and not by a drain.
    pub(crate) fn set_end(&mut self, end: InputEnd) -> Wakeup {
        let is_close = matches!(end, InputEnd::Closed(_));
        if is_close || !matches!(self.end, Some(InputEnd::Fin)) {
            self.end = Some(end);
        }
        self.clear_waiter()
    }

    /// Returns why no more input will come, once that is so.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        match self.end.as_ref()? {
            InputEnd::Fin => Some(CloseReason::PeerFin),
            InputEnd::Closed(reason) | InputEnd::Drained(reason) => Some(reason.clone()),
        }
    }

    /// Returns whether the poller should pause: this buffer and the reader hold `high` bytes, and
    /// no reader waits for more.
    pub(crate) fn is_full(&self, high: usize) -> bool {
        let wanted = self.waiter.as_ref().map_or(0, |waiter| waiter.need);
        self.buffer.len() + self.reader_held >= high.max(wanted)
    }
}

/// Appends received bytes to `buffer`. A small piece is copied behind the last segment that the
/// buffer owns.
#[inline]
pub(crate) fn append(buffer: &mut LinkBuffer, received: Received) {
    match received {
        Received::Shared(window) => {
            if let Err(window) = buffer.coalesce(window) {
                buffer.push_segment(window);
            }
        }
        Received::Owned(tail, count) => buffer.append_tail(tail, count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(need: usize, largest: usize) -> InputBuffer {
        InputBuffer {
            waiter: Some(ReadWaiter {
                need,
                largest,
                wait: Wait {
                    since: Instant::now(),
                    deadline: None,
                },
                at: 0,
                timeout_policy: ReadTimeoutPolicy::FailCall,
                waker: WakerSlot::empty(),
            }),
            ..InputBuffer::default()
        }
    }

    fn own_capacity(input_buffer: &mut InputBuffer) -> usize {
        match input_buffer.recv_buffer() {
            RecvBuffer::Owned(tail) => tail.capacity(),
            RecvBuffer::Shared | RecvBuffer::Unavailable => 0,
        }
    }

    #[test]
    fn unverified_length_allocates_at_most_4_kib() {
        assert_eq!(own_capacity(&mut waiting(4 << 20, 0)), 4 << 10);
    }

    #[test]
    fn verified_length_allocates_the_whole_block() {
        assert!(own_capacity(&mut waiting(1 << 20, 1 << 20)) >= 1 << 20);
    }

    #[test]
    fn block_grows_with_the_bytes_received() {
        let mut input_buffer = waiting(1 << 20, 0);
        input_buffer
            .buffer
            .push(bytes::Bytes::from(vec![7; 40 << 10]));
        let capacity = own_capacity(&mut input_buffer);
        assert!((80 << 10..=160 << 10).contains(&capacity), "{capacity}");
        assert_eq!(input_buffer.buffer.len(), 40 << 10);
    }

    #[test]
    fn small_remainder_is_received_in_the_shared_block() {
        assert_eq!(own_capacity(&mut waiting(1024, 0)), 0);
    }

    #[test]
    fn close_reason_replaces_a_fin() {
        let mut input_buffer = InputBuffer::default();
        for end in [InputEnd::Fin, InputEnd::Closed(CloseReason::Shutdown)] {
            assert!(input_buffer.set_end(end).is_none());
        }
        assert!(matches!(
            input_buffer.end,
            Some(InputEnd::Closed(CloseReason::Shutdown))
        ));
    }

    #[test]
    fn full_buffer_stays_full_until_it_is_taken() {
        let mut input_buffer = InputBuffer::default();
        input_buffer.buffer.put_slice(&[7; 99]);
        input_buffer.update_level(100);
        assert!(!input_buffer.has_enough() && !input_buffer.pause());
        input_buffer.buffer.put_slice(&[7; 1]);
        input_buffer.update_level(100);
        assert!(input_buffer.has_enough());
        assert!(
            !input_buffer.resume(),
            "nothing is paused, so the poller needs no notice"
        );
        assert!(!input_buffer.has_enough() && !input_buffer.pause());
        input_buffer.update_level(100);
        assert!(input_buffer.pause() && input_buffer.pause());
        assert!(input_buffer.resume());
        assert!(!input_buffer.resume(), "the poller is notified once");
    }

    #[test]
    fn pause_before_the_first_bytes_is_kept() {
        let mut input_buffer = InputBuffer {
            paused: true,
            ..InputBuffer::default()
        };
        assert!(input_buffer.pause());
        assert!(input_buffer.resume());
    }

    #[test]
    fn waiting_reader_raises_the_limit_of_the_input_buffer() {
        let mut input_buffer = waiting(1 << 20, 0);
        input_buffer.buffer.put_slice(&[7; 100_000]);
        assert!(!input_buffer.is_full(64 << 10));
        input_buffer.waiter = None;
        assert!(input_buffer.is_full(64 << 10));
    }
}
