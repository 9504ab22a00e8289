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
use crate::poll::source::{Landed, Room};
use crate::timeouts::Wait;

/// What is missing at least for the next bytes to land straight in one block. Below that they land
/// in the shared block, and are moved together when they are read.
const WORTH_OWN_BLOCK: usize = 8 << 10;

/// What a length that may be a lie costs at most before bytes have come.
const ON_CREDIT: usize = 4 << 10;

/// The inbox of a link.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) chain: LinkBuffer,
    /// Nothing will be appended any more.
    pub(crate) end: Option<InputEnd>,
    pub(crate) waiter: Option<Waiter>,
    pub(crate) last_wait: LastWait,
    /// What whoever has the connection holds beside it, as far as he has told.
    pub(crate) held: usize,
    /// Whether anything more is read.
    level: Level,
    /// The poller does not even watch until the chain has been taken, and hears of that.
    pub(crate) paused: bool,
    /// The poller wants to hear of a Reader that waits: it would be idle then.
    pub(crate) waits: Waits,
}

/// Whether anything more is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Level {
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
    Untold,
    /// Its time ran out.
    TimedOut,
}

/// What a Reader that begins to wait has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Nothing: the poller reads on.
    #[default]
    Untold,
    /// Tell the poller, which is draining.
    Told,
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
pub(crate) enum Patience {
    /// The call fails, and whoever made it decides what follows.
    #[default]
    OfCall,
    /// Nothing, unless some of what is awaited has come: a server waits for its next request.
    OfConnection,
}

/// A Reader that waits until the chain has `need` bytes.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) need: usize,
    /// The largest read this connection has completed: what its peer can be trusted to mean.
    pub(crate) largest: usize,
    pub(crate) wait: Wait,
    /// Where in the stream what it waits for begins.
    pub(crate) at: usize,
    pub(crate) patience: Patience,
    pub(crate) waker: WakerSlot,
}

impl Inbox {
    /// Where the next bytes should land.
    pub(crate) fn room(&mut self) -> Room {
        let have = self.chain.len();
        match &self.waiter {
            Some(waiter) if waiter.need >= have + WORTH_OWN_BLOCK => {
                let capacity = waiter.need.min(ON_CREDIT.max(2 * have).max(waiter.largest));
                Room::Own(self.chain.landing(waiter.need, capacity))
            }
            _ => Room::Shared,
        }
    }

    /// Appends what has landed, and gives back the waker of a Reader that has enough now.
    pub(crate) fn append(&mut self, landed: Landed) -> Wakeup {
        append(&mut self.chain, landed);
        let satisfied = self
            .waiter
            .as_ref()
            .is_some_and(|waiter| waiter.need <= self.chain.len());
        if satisfied {
            self.stop_waiting()
        } else {
            Wakeup::none()
        }
    }

    /// Nobody waits any more: gives the waker of whoever did.
    pub(crate) fn stop_waiting(&mut self) -> Wakeup {
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
        self.stop_waiting()
    }

    /// So much is held by who has the connection, and counts to what may be read until he takes more.
    pub(crate) fn hold(&mut self, held: usize, high: usize) {
        self.held = held;
        self.mark(high);
    }

    /// Notes it if what is here now is [enough](Self::is_full).
    pub(crate) fn mark(&mut self, high: usize) {
        if self.is_full(high) {
            self.level = Level::High;
        }
    }

    /// Whether what has landed was enough, and has not been taken.
    pub(crate) fn has_enough(&self) -> bool {
        self.level == Level::High
    }

    /// There is more to be read. Whether the poller should not watch that, because there is no room
    /// for it.
    pub(crate) fn pause(&mut self) -> bool {
        self.paused |= self.has_enough();
        self.paused
    }

    /// What is here is being taken, so there is room. Whether the poller has to hear of that.
    pub(crate) fn resume(&mut self) -> bool {
        self.level = Level::Low;
        std::mem::take(&mut self.paused)
    }

    /// Whoever had the connection has it no more: nobody waits, and what has arrived is taken.
    pub(crate) fn clear(&mut self) -> (LinkBuffer, Wakeup) {
        self.held = 0;
        self.resume();
        (std::mem::take(&mut self.chain), self.stop_waiting())
    }

    /// Notes that nothing more will come, and gives back the waker of a Reader that waits. A FIN
    /// stands; it tells more than the end of the connection after it.
    pub(crate) fn finish(&mut self, end: InputEnd) -> Wakeup {
        let is_of_all = matches!(end, InputEnd::Closed(_));
        if is_of_all || !matches!(self.end, Some(InputEnd::Fin)) {
            self.end = Some(end);
        }
        self.stop_waiting()
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
        self.chain.len() + self.held >= high.max(wanted)
    }
}

/// Appends what has landed to a chain; a drop is copied behind what the chain owns.
#[inline]
pub(crate) fn append(chain: &mut LinkBuffer, landed: Landed) {
    match landed {
        Landed::Shared(window) => {
            if let Err(window) = chain.absorb(window) {
                chain.push_segment(window);
            }
        }
        Landed::Own(tail, count) => chain.accept_tail(tail, count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn waiting(need: usize, largest: usize) -> Inbox {
        Inbox {
            waiter: Some(Waiter {
                need,
                largest,
                wait: Wait {
                    since: Instant::now(),
                    deadline: None,
                },
                at: 0,
                patience: Patience::OfCall,
                waker: WakerSlot::empty(),
            }),
            ..Inbox::default()
        }
    }

    fn own_capacity(inbox: &mut Inbox) -> usize {
        match inbox.room() {
            Room::Own(tail) => tail.capacity(),
            Room::Shared | Room::Closed => 0,
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
        let mut inbox = waiting(1 << 20, 0);
        inbox.chain.push(bytes::Bytes::from(vec![7; 40 << 10]));
        let capacity = own_capacity(&mut inbox);
        assert!((80 << 10..=160 << 10).contains(&capacity), "{capacity}");
        assert_eq!(inbox.chain.len(), 40 << 10);
    }

    #[test]
    fn little_that_is_missing_lands_in_the_shared_block() {
        assert_eq!(own_capacity(&mut waiting(1024, 0)), 0);
    }

    #[test]
    fn a_fin_gives_way_to_the_reason_of_the_end_but_not_to_silence() {
        let mut inbox = Inbox::default();
        for end in [InputEnd::Fin, InputEnd::Closed(CloseReason::Shutdown)] {
            assert!(inbox.finish(end).is_none());
        }
        assert!(matches!(
            inbox.end,
            Some(InputEnd::Closed(CloseReason::Shutdown))
        ));
    }

    #[test]
    fn enough_is_enough_until_it_is_taken() {
        let mut inbox = Inbox::default();
        inbox.chain.put_slice(&[7; 99]);
        inbox.mark(100);
        assert!(!inbox.has_enough() && !inbox.pause());
        inbox.chain.put_slice(&[7; 1]);
        inbox.mark(100);
        assert!(inbox.has_enough());
        assert!(
            !inbox.resume(),
            "nobody has paused, and nobody need hear of it"
        );
        assert!(!inbox.has_enough() && !inbox.pause());
        inbox.mark(100);
        assert!(inbox.pause() && inbox.pause());
        assert!(inbox.resume());
        assert!(!inbox.resume(), "it was told once");
    }

    #[test]
    fn a_pause_that_came_before_anything_has_landed_stands() {
        let mut inbox = Inbox {
            paused: true,
            ..Inbox::default()
        };
        assert!(inbox.pause());
        assert!(inbox.resume());
    }

    #[test]
    fn a_reader_that_waits_for_more_keeps_the_inbox_open() {
        let mut inbox = waiting(1 << 20, 0);
        inbox.chain.put_slice(&[7; 100_000]);
        assert!(!inbox.is_full(64 << 10));
        inbox.waiter = None;
        assert!(inbox.is_full(64 << 10));
    }
}
