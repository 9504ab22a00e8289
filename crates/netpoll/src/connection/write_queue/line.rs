// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who waits on the write queue of one connection: senders for room, in the order in which they
//! came, and flushes for what was taken to have left.

use std::collections::BTreeMap;
use std::io;
use std::task::Waker;

use crate::connection::handle::gone;
use crate::error::CloseReason;
use crate::foreign::{WakerSlot, Wakeup, Wakeups, register};
use crate::poll::mass_wake::wake_in_turns;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};

/// Who waits on the queue of one connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// How many do, to be asked without the lock.
    waiting: AtomicU64,
    /// How many queues are held, twice, and [`WATCHED`].
    queues: AtomicUsize,
    state: Mutex<State>,
}

/// The connection drains: its poller wants to hear when the last queue is let go.
const WATCHED: usize = 1;

/// One queue that is held.
const QUEUE: usize = 2;

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// For room, in the order in which they came.
    senders: BTreeMap<u64, WakerSlot>,
    /// For so many bytes in all to have left.
    flushes: BTreeMap<(u64, u64), WakerSlot>,
    /// Why the connection has ended, once it has: the link may be gone before anybody asks.
    over: Option<CloseReason>,
}

/// How the output is, for those who wait on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outlook {
    pub(super) room: Room,
    /// All bytes that have left.
    pub(super) sent: u64,
}

/// Whether whoever is told may do something about it right away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Told {
    Nobody,
    Somebody,
}

/// Whether the output takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Yes,
    NotYet,
    /// Nothing is taken any more, or leaves.
    Never,
}

impl Line {
    /// Whether anybody waits. No lock.
    pub(super) fn is_waited_in(&self) -> bool {
        // Relaxed: who comes at the same time as others came no later.
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// One more queue is held.
    pub(super) fn hold(&self) {
        // Relaxed: who makes one has the connection, or another.
        self.queues.fetch_add(QUEUE, Ordering::Relaxed);
    }

    /// One queue is let go. Whether the poller waits for the last, and this was that one.
    pub(super) fn let_go(&self) -> bool {
        // AcqRel: all changes are of this one word, so either `watch` finds no queue or this finds the
        // watch; and what was sent before is seen by the poller.
        self.queues.fetch_sub(QUEUE, Ordering::AcqRel) == QUEUE | WATCHED
    }

    /// Whether a queue is held; from now on the last that is let go says so.
    pub(in crate::connection) fn watch(&self) -> bool {
        // AcqRel: pairs with `let_go`.
        self.queues.fetch_or(WATCHED, Ordering::AcqRel) >= QUEUE
    }

    fn count(&self, state: &State) {
        let waiting = state.senders.len() + state.flushes.len();
        // Relaxed: the outbox's lock is taken between this and what it is to be seen by.
        self.waiting.store(waiting as u64, Ordering::Relaxed);
    }

    /// The connection is over.
    pub(in crate::connection) fn over(&self, reason: CloseReason) {
        lock(&self.state).over.get_or_insert(reason);
    }

    /// Why nothing can be sent, where nothing is left of the connection.
    pub(super) fn end(&self) -> io::Error {
        let state = lock(&self.state);
        state.over.as_ref().map_or_else(gone, CloseReason::to_error)
    }

    /// Wakes who may go on, as the output is now.
    pub(super) fn tell(&self, look: impl FnOnce() -> Outlook) -> Told {
        // Relaxed: as above.
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return Told::Nobody;
        }
        let outlook = look();
        let mut state = lock(&self.state);
        let State {
            senders, flushes, ..
        } = &mut *state;
        let mut woken = Wakeups::default();
        let (may_try, have_left) = match outlook.room {
            Room::Never => (usize::MAX, u64::MAX),
            Room::Yes => (1, outlook.sent),
            Room::NotYet => (0, outlook.sent),
        };
        // Whoever is woken stays in his place until he leaves it, and leaves a waker if he waits on.
        let first = senders.values_mut().take(may_try);
        let left = flushes.range_mut(..=(have_left, u64::MAX));
        first
            .chain(left.map(|(_, waker)| waker))
            .for_each(|waker| woken.add(waker.take()));
        drop(state);
        if woken.is_empty() {
            return Told::Nobody;
        }
        wake_in_turns(woken);
        Told::Somebody
    }
}

/// A sender's place in the line.
pub(super) struct Place<'a> {
    line: &'a Line,
    number: Option<u64>,
}

impl<'a> Place<'a> {
    pub(super) fn new(line: &'a Line) -> Self {
        Self { line, number: None }
    }

    /// Takes a place if there is none, and says whether it is the first.
    pub(super) fn is_first(&mut self, waker: &Waker) -> bool {
        let Self { line, number } = self;
        register(waker, |offer| {
            let mut state = lock(&line.state);
            let number = *number.get_or_insert_with(|| {
                state.next += 1;
                state.next
            });
            // A place is taken once there is a waker for it.
            match state.senders.get_mut(&number) {
                Some(known) => known.set(offer)?,
                None => drop(state.senders.insert(number, offer.slot()?)),
            }
            let first = state.senders.first_key_value();
            let is_first = first.is_some_and(|(first, _)| *first == number);
            line.count(&state);
            Ok(is_first)
        })
    }
}

impl Drop for Place<'_> {
    /// Whoever is first now may have room.
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = lock(&self.line.state);
        let waker = state.senders.remove(&number);
        let next = state.senders.values_mut().next();
        let next = next.map_or(Wakeup::none(), WakerSlot::take);
        self.line.count(&state);
        drop(state);
        drop(waker);
        next.wake();
    }
}

/// A wait for bytes to have left.
pub(super) struct Flush<'a> {
    line: &'a Line,
    pub(super) target: u64,
    key: Option<(u64, u64)>,
}

impl<'a> Flush<'a> {
    pub(super) fn new(line: &'a Line, target: u64) -> Self {
        Self {
            line,
            target,
            key: None,
        }
    }

    pub(super) fn enter(&mut self, waker: &Waker) {
        let Self { line, target, key } = self;
        register(waker, |offer| {
            let mut state = lock(&line.state);
            let key = *key.get_or_insert_with(|| {
                state.next += 1;
                (*target, state.next)
            });
            match state.flushes.get_mut(&key) {
                Some(known) => known.set(offer)?,
                None => drop(state.flushes.insert(key, offer.slot()?)),
            }
            line.count(&state);
            Ok(())
        });
    }
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut state = lock(&self.line.state);
        let waker = state.flushes.remove(&key);
        self.line.count(&state);
        drop(state);
        drop(waker);
    }
}
