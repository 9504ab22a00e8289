// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has arrived for a connection while a handler holds it, and who waits for it.
//!
//! The poller appends, the Reader takes everything at once. Both hold the lock for that and no
//! longer: no system call and no user code is under it.
//!
//! When enough is here nothing more is read. When there is more to be read then, the poller stops
//! watching, and whoever takes what is here has it watch again.

use netpoll_buffer::LinkBuffer;

use crate::error::CloseReason;
use crate::foreign::{WakerSlot, Wakeup};
use crate::poll::source::{Received, RecvBuffer};
use crate::timeouts::Wait;

/// What is missing at least for the next bytes to land straight in one block. Below that they land
/// in the shared block, and are moved together when they are read.
const OWN_BLOCK_MIN: usize = 8 << 10;

/// What a length that may be a lie costs at most before bytes have come.
const UNVERIFIED_MAX: usize = 4 << 10;

/// The inbox of a link.
#[derive(Debug, Default)]
pub(crate) struct InputBuffer {
    pub(crate) buffer: LinkBuffer,
    /// Nothing will be appended any more.
    pub(crate) end: Option<InputEnd>,
    pub(crate) waiter: Option<ReadWaiter>,
    pub(crate) last_wait: LastWait,
    /// What whoever has the connection holds beside it, as far as he has told.
    pub(crate) reader_held: usize,
    /// Whether anything more is read.
    level: FillLevel,
    /// The poller does not even watch until the chain has been taken, and hears of that.
    pub(crate) paused: bool,
    /// The poller wants to hear of a Reader that waits: it would be idle then.
    pub(crate) on_wait: WaitNotice,
}

/// Whether anything more is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FillLevel {
    #[default]
    Low,
    /// It is not: enough has come, and was not taken since.
    High,
}

/// What became of the last wait, as far as its Reader has not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LastWait {
    /// Nothing to tell.
    #[default]
    None,
    /// Its time ran out.
    TimedOut,
}

/// What a Reader that begins to wait has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WaitNotice {
    /// Nothing: the poller reads on.
    #[default]
    None,
    /// Tell the poller, which is draining.
    NotifyPoller,
}

/// How the input ended.
#[derive(Clone, Debug)]
pub(crate) enum InputEnd {
    Fin,
    Closed(CloseReason),
    /// Nothing more is taken, for this reason. What is put is sent all the same.
    Drained(CloseReason),
}

/// What becomes of a wait that has taken the time of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReadTimeoutPolicy {
    /// The call fails, and whoever made it decides what follows.
    #[default]
    FailCall,
    /// Nothing, unless some of what is awaited has come: a server waits for its next request.
    AllowIdle,
}

/// A Reader that waits until the chain has `need` bytes.
#[derive(Debug)]
pub(crate) struct ReadWaiter {
    pub(crate) need: usize,
    /// The largest read this connection has completed: what its peer can be trusted to mean.
    pub(crate) largest: usize,
    pub(crate) wait: Wait,
    /// Where in the stream what it waits for begins.
    pub(crate) at: usize,
    pub(crate) timeout_policy: ReadTimeoutPolicy,
    pub(crate) waker: WakerSlot,
}

impl InputBuffer {
    /// Where the next bytes should land.
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

    /// Appends what has landed, and gives back the waker of a Reader that has enough now.
    pub(crate) fn append(&mut self, received: Received) -> Wakeup {
        append(&mut self.buffer, received);
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

    /// Nobody waits any more: gives the waker of whoever did.
    pub(crate) fn clear_waiter(&mut self) -> Wakeup {
        match self.waiter.take() {
            Some(mut waiter) => waiter.waker.take(),
            None => Wakeup::none(),
        }
    }

    /// The call that waits has waited long enough: gives back its waker.
    pub(crate) fn time_out(&mut self) -> Wakeup {
        if self.waiter.is_some() {
            self.last_wait = LastWait::TimedOut;
        }
        self.clear_waiter()
    }

    /// So much is held by who has the connection, and counts to what may be read until he takes more.
    pub(crate) fn set_reader_held(&mut self, held: usize, high: usize) {
        self.reader_held = held;
        self.update_level(high);
    }

    /// Notes it if what is here now is [enough](Self::is_full).
    pub(crate) fn update_level(&mut self, high: usize) {
        if self.is_full(high) {
            self.level = FillLevel::High;
        }
    }

    /// Whether what has landed was enough, and has not been taken.
    pub(crate) fn has_enough(&self) -> bool {
        self.level == FillLevel::High
    }

    /// There is more to be read. Whether the poller should not watch that, because there is no room
    /// for it.
    pub(crate) fn pause(&mut self) -> bool {
        self.paused |= self.has_enough();
        self.paused
    }

    /// What is here is being taken, so there is room. Whether the poller has to hear of that.
    pub(crate) fn resume(&mut self) -> bool {
        self.level = FillLevel::Low;
        std::mem::take(&mut self.paused)
    }

    /// Whoever had the connection has it no more: nobody waits, and what has arrived is taken.
    pub(crate) fn clear(&mut self) -> (LinkBuffer, Wakeup) {
        self.reader_held = 0;
        self.resume();
        (std::mem::take(&mut self.buffer), self.clear_waiter())
    }

    /// Notes that nothing more will come, and gives back the waker of a Reader that waits. A FIN
    /// stands; it tells more than the end of the connection after it.
    pub(crate) fn set_end(&mut self, end: InputEnd) -> Wakeup {
        let is_of_all = matches!(end, InputEnd::Closed(_));
        if is_of_all || !matches!(self.end, Some(InputEnd::Fin)) {
            self.end = Some(end);
        }
        self.clear_waiter()
    }

    /// Why nothing more will come.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        match self.end.as_ref()? {
            InputEnd::Fin => Some(CloseReason::PeerFin),
            InputEnd::Closed(reason) | InputEnd::Drained(reason) => Some(reason.clone()),
        }
    }

    /// Whether the poller should read no more for now: enough is here, and nobody waits for more.
    pub(crate) fn is_full(&self, high: usize) -> bool {
        let wanted = self.waiter.as_ref().map_or(0, |waiter| waiter.need);
        self.buffer.len() + self.reader_held >= high.max(wanted)
    }
}

/// Appends what has landed to a chain; a drop is copied behind what the chain owns.
#[inline]
pub(crate) fn append(chain: &mut LinkBuffer, received: Received) {
    match received {
        Received::Shared(window) => {
            if let Err(window) = chain.coalesce(window) {
                chain.push_segment(window);
            }
        }
        Received::Owned(tail, count) => chain.append_tail(tail, count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

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
    fn a_length_that_lies_costs_four_kibibytes() {
        assert_eq!(own_capacity(&mut waiting(4 << 20, 0)), 4 << 10);
    }

    #[test]
    fn a_connection_that_has_kept_its_word_gets_the_whole_block() {
        assert!(own_capacity(&mut waiting(1 << 20, 1 << 20)) >= 1 << 20);
    }

    #[test]
    fn a_block_grows_with_what_has_come() {
        let mut input_buffer = waiting(1 << 20, 0);
        input_buffer
            .buffer
            .push(bytes::Bytes::from(vec![7; 40 << 10]));
        let capacity = own_capacity(&mut input_buffer);
        assert!((80 << 10..=160 << 10).contains(&capacity), "{capacity}");
        assert_eq!(input_buffer.buffer.len(), 40 << 10);
    }

    #[test]
    fn little_that_is_missing_lands_in_the_shared_block() {
        assert_eq!(own_capacity(&mut waiting(1024, 0)), 0);
    }

    #[test]
    fn a_fin_gives_way_to_the_reason_of_the_end_but_not_to_silence() {
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
    fn enough_is_enough_until_it_is_taken() {
        let mut input_buffer = InputBuffer::default();
        input_buffer.buffer.put_slice(&[7; 99]);
        input_buffer.update_level(100);
        assert!(!input_buffer.has_enough() && !input_buffer.pause());
        input_buffer.buffer.put_slice(&[7; 1]);
        input_buffer.update_level(100);
        assert!(input_buffer.has_enough());
        assert!(
            !input_buffer.resume(),
            "nobody has paused, and nobody need hear of it"
        );
        assert!(!input_buffer.has_enough() && !input_buffer.pause());
        input_buffer.update_level(100);
        assert!(input_buffer.pause() && input_buffer.pause());
        assert!(input_buffer.resume());
        assert!(!input_buffer.resume(), "it was told once");
    }

    #[test]
    fn a_pause_that_came_before_anything_has_landed_stands() {
        let mut input_buffer = InputBuffer {
            paused: true,
            ..InputBuffer::default()
        };
        assert!(input_buffer.pause());
        assert!(input_buffer.resume());
    }

    #[test]
    fn a_reader_that_waits_for_more_keeps_the_inbox_open() {
        let mut input_buffer = waiting(1 << 20, 0);
        input_buffer.buffer.put_slice(&[7; 100_000]);
        assert!(!input_buffer.is_full(64 << 10));
        input_buffer.waiter = None;
        assert!(input_buffer.is_full(64 << 10));
    }
}
