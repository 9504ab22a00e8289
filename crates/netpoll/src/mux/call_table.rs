// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls under way on one connection, by id.
//!
//! An id is a place in the table and a number that grows with each call: an answer to a call that
//! is gone finds its place empty, or another call there, and is nobody's. A call leaves the table
//! when its caller takes the outcome or gives up; nothing here is ever waited for.

use std::io;
use std::task::Poll;
use std::time::Instant;

use slab::Slab;

use crate::error::CloseReason;
use crate::foreign::{CallerWaker, CloneRequired, DeferredDrop, WakerSlot, Wakeup, Wakeups};
use crate::time::Elapsed;

/// Calls whose answers are of type `F`.
#[derive(Debug)]
pub(super) struct CallTable<F> {
    table: Slab<CallEntry<F>>,
    /// Calls so far; it may wrap.
    started: u32,
    /// Why there are no new calls, once that is so.
    closing: Option<CloseReason>,
    /// Why there will be no more answers, once that is so.
    ended: Option<CloseReason>,
    /// Ids that requests were encoded with for another connection, which ended before it took them, and
    /// which calls they are here.
    aliases: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct CallEntry<F> {
    id: u64,
    deadline: Option<Instant>,
    state: CallState<F>,
}

#[derive(Debug)]
enum CallState<F> {
    /// Nobody may be asking yet.
    Waiting(WakerSlot),
    /// What a codec of the user's has made.
    Answered(DeferredDrop<F>),
    TimedOut,
    Lost,
}

/// What was kept for a caller who waits no more: his waker, or an answer.
#[derive(Debug)]
#[must_use = "drop it after the lock"]
pub(super) struct CancelledCall<F> {
    _state: CallState<F>,
}

/// What became of an answer.
#[derive(Debug)]
pub(super) enum Delivery<F> {
    /// Whoever waits for it is to be woken.
    Waiter(Wakeup),
    /// There is no such call, or it has its answer; this one is dropped after the lock.
    Unmatched(DeferredDrop<F>),
}

impl<F> Default for CallTable<F> {
    fn default() -> Self {
        Self::continuing_from(0)
    }
}

/// The place that an id names.
fn slot_index(id: u64) -> usize {
    (id & u64::from(u32::MAX)) as usize
}

impl<F> CallTable<F> {
    /// The calls of a connection that comes after another, on which `begun` had begun: their ids differ.
    pub(super) fn continuing_from(begun: u32) -> Self {
        Self {
            table: Slab::new(),
            started: begun,
            closing: None,
            ended: None,
            aliases: Vec::new(),
        }
    }

    /// How many calls have begun on this connection and those before it.
    pub(super) fn started(&self) -> u32 {
        self.started
    }

    /// A new call, by its id.
    pub(super) fn start(&mut self, deadline: Option<Instant>) -> Result<u64, CloseReason> {
        if let Some(reason) = self.ended.as_ref().or(self.closing.as_ref()) {
            return Err(reason.clone());
        }
        self.started = self.started.wrapping_add(1);
        let entry = self.table.vacant_entry();
        let id = u64::from(self.started) << 32 | entry.key() as u64;
        entry.insert(CallEntry {
            id,
            deadline,
            state: CallState::Waiting(WakerSlot::empty()),
        });
        Ok(id)
    }

    /// The request of the call `id` is encoded with another id, from another connection.
    pub(super) fn add_alias(&mut self, id: u64, foreign: u64) {
        self.aliases.push((foreign, id));
    }

    /// The call that an answer with `id` is to.
    fn resolve_alias(&self, id: u64) -> u64 {
        let known = self.aliases.iter().find(|(foreign, _)| *foreign == id);
        known.map_or(id, |(_, own)| *own)
    }

    fn remove(&mut self, id: u64) -> CallEntry<F> {
        if !self.aliases.is_empty() {
            self.aliases.retain(|(_, own)| *own != id);
        }
        self.table.remove(slot_index(id))
    }

    fn get_mut(&mut self, id: u64) -> Option<&mut CallEntry<F>> {
        self.table
            .get_mut(slot_index(id))
            .filter(|call| call.id == id)
    }

    /// The answer to a call has come.
    pub(super) fn complete(&mut self, id: u64, frame: F) -> Delivery<F> {
        let id = self.resolve_alias(id);
        match self.get_mut(id) {
            Some(CallEntry {
                state: state @ CallState::Waiting(_),
                ..
            }) => match std::mem::replace(state, CallState::Answered(DeferredDrop::new(frame))) {
                CallState::Waiting(mut waker) => Delivery::Waiter(waker.take()),
                _ => Delivery::Waiter(Wakeup::none()),
            },
            _ => Delivery::Unmatched(DeferredDrop::new(frame)),
        }
    }

    /// What a call has come to, which then is over.
    pub(super) fn poll(
        &mut self,
        id: u64,
        caller_waker: &mut CallerWaker<'_>,
    ) -> Result<Poll<io::Result<F>>, CloneRequired> {
        let ended = self.ended.clone();
        let Some(call) = self.get_mut(id) else {
            return Ok(Poll::Ready(Err(lost_error(ended))));
        };
        if let CallState::Waiting(waker) = &mut call.state {
            waker.set(caller_waker)?;
            return Ok(Poll::Pending);
        }
        let call = self.remove(id);
        Ok(Poll::Ready(match call.state {
            CallState::Answered(frame) => frame.into_value().ok_or_else(|| lost_error(ended)),
            CallState::TimedOut => Err(Elapsed.into()),
            CallState::Waiting(_) | CallState::Lost => Err(lost_error(ended)),
        }))
    }

    /// Whoever has made the call waits no more. Gives what was kept for him, to be dropped after the
    /// lock.
    pub(super) fn cancel(&mut self, id: u64) -> Option<CancelledCall<F>> {
        self.get_mut(id)?;
        let call = self.remove(id);
        Some(CancelledCall { _state: call.state })
    }

    /// Ends the calls whose time is up, for their callers to be woken, and says when the next is.
    pub(super) fn expire(&mut self, now: Instant, woken: &mut Wakeups) -> Option<Instant> {
        let mut next = None;
        for (_, call) in &mut self.table {
            let (Some(deadline), CallState::Waiting(waker)) = (call.deadline, &mut call.state)
            else {
                continue;
            };
            if deadline <= now {
                woken.add(waker.take());
                call.state = CallState::TimedOut;
            } else {
                next = Some(next.map_or(deadline, |next: Instant| next.min(deadline)));
            }
        }
        next
    }

    /// There will be no new calls. Those under way may still be answered.
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.closing.get_or_insert(reason);
    }

    /// There will be no more answers: ends all calls, for their callers to be woken.
    pub(super) fn fail_all(&mut self, reason: CloseReason) -> Wakeups {
        self.ended.get_or_insert(reason);
        let mut woken = Wakeups::default();
        for (_, call) in &mut self.table {
            if let CallState::Waiting(waker) = &mut call.state {
                woken.add(waker.take());
                call.state = CallState::Lost;
            }
        }
        woken
    }

    /// Why there are no new calls, if that is so.
    pub(super) fn close_reason(&self) -> Option<&CloseReason> {
        self.ended.as_ref().or(self.closing.as_ref())
    }

    /// How many calls are under way.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

fn lost_error(over: Option<CloseReason>) -> io::Error {
    over.unwrap_or(CloseReason::Forgotten).to_error()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::register;
    use crate::sync::Arc;
    use std::task::Waker;
    use std::time::Duration;

    fn poll(calls: &mut CallTable<u8>, id: u64) -> Poll<io::Result<u8>> {
        register(Waker::noop(), |caller_waker| calls.poll(id, caller_waker))
    }

    fn answered(calls: &mut CallTable<u8>, id: u64) -> u8 {
        match poll(calls, id) {
            Poll::Ready(Ok(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_find_their_calls_in_any_order() {
        let mut calls = CallTable::default();
        let ids: Vec<_> = (0..10).map(|_| calls.start(None).unwrap()).collect();
        for (number, id) in ids.iter().enumerate().rev() {
            assert!(matches!(
                calls.complete(*id, number as u8),
                Delivery::Waiter(waker) if waker.is_none()
            ));
        }
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(answered(&mut calls, *id), number as u8);
        }
        assert_eq!(calls.len(), 0);
    }

    #[test]
    fn an_answer_to_nobody_reaches_nobody_also_when_its_place_has_another() {
        let mut calls = CallTable::default();
        let first = calls.start(None).unwrap();
        drop(calls.cancel(first));
        let second = calls.start(None).unwrap();
        assert_eq!(slot_index(first), slot_index(second));
        for stranger in [first, second ^ 1 << 40, u64::MAX, 0] {
            assert!(matches!(
                calls.complete(stranger, 1),
                Delivery::Unmatched(_)
            ));
        }
        assert!(poll(&mut calls, second).is_pending());
        assert!(matches!(calls.complete(second, 2), Delivery::Waiter(waker) if waker.is_some()));
        assert!(matches!(calls.complete(second, 3), Delivery::Unmatched(_)));
        assert_eq!(answered(&mut calls, second), 2);
        assert!(matches!(calls.complete(second, 4), Delivery::Unmatched(_)));
    }

    #[test]
    fn an_answer_to_nobody_goes_out_to_be_dropped_after_the_lock() {
        let frame = Arc::new(());
        let mut calls = CallTable::default();
        let delivered = calls.complete(7, Arc::clone(&frame));
        assert_eq!(Arc::strong_count(&frame), 2);
        drop(delivered);
        assert_eq!(Arc::strong_count(&frame), 1);
    }

    #[test]
    fn after_so_many_calls_that_their_count_wraps_all_is_as_before() {
        let mut calls = CallTable {
            started: u32::MAX - 1,
            ..CallTable::default()
        };
        for number in 0..4 {
            let id = calls.start(None).unwrap();
            assert!(
                matches!(calls.complete(id, number), Delivery::Waiter(waker) if waker.is_none())
            );
            assert_eq!(answered(&mut calls, id), number);
        }
    }

    #[test]
    fn calls_are_late_when_their_time_is_up_and_not_before() {
        let mut calls = CallTable::<u8>::default();
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        let first = calls.start(Some(soon)).unwrap();
        let second = calls.start(Some(later)).unwrap();
        let third = calls.start(None).unwrap();
        assert!(poll(&mut calls, first).is_pending());
        let mut woken = Wakeups::default();
        assert_eq!(calls.expire(now, &mut woken), Some(soon));
        assert_eq!(calls.expire(soon, &mut woken), Some(later));
        assert_eq!(woken.len(), 1);
        assert!(matches!(calls.complete(first, 1), Delivery::Unmatched(_)));
        let late = poll(&mut calls, first);
        assert!(matches!(late, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut));
        assert_eq!(calls.expire(later, &mut woken), None);
        drop(calls.cancel(second));
        assert!(poll(&mut calls, third).is_pending());
    }

    #[test]
    fn the_end_ends_all_calls_but_those_that_have_their_answer() {
        let mut calls = CallTable::default();
        let (first, second) = (calls.start(None).unwrap(), calls.start(None).unwrap());
        assert!(poll(&mut calls, second).is_pending());
        calls.complete(first, 7);
        assert_eq!(calls.fail_all(CloseReason::PeerFin).len(), 1);
        assert_eq!(answered(&mut calls, first), 7);
        assert!(matches!(poll(&mut calls, second), Poll::Ready(Err(_))));
        assert!(matches!(calls.start(None), Err(CloseReason::PeerFin)));
        assert_eq!(calls.len(), 0);
    }

    #[test]
    fn a_connection_that_takes_no_new_calls_answers_those_under_way() {
        let mut calls = CallTable::default();
        let first = calls.start(None).unwrap();
        calls.close(CloseReason::PeerFin);
        assert!(matches!(calls.start(None), Err(CloseReason::PeerFin)));
        assert!(matches!(calls.complete(first, 7), Delivery::Waiter(_)));
        assert_eq!(answered(&mut calls, first), 7);
    }

    #[test]
    fn a_request_that_was_encoded_for_another_connection_gets_its_answer() {
        let mut former = CallTable::<u8>::default();
        let foreign = former.start(None).unwrap();
        let mut calls = CallTable::continuing_from(former.started());
        let other = calls.start(None).unwrap();
        assert_ne!(other, foreign, "in the same place");
        let own = calls.start(None).unwrap();
        calls.add_alias(own, foreign);
        assert!(matches!(calls.complete(foreign, 3), Delivery::Waiter(_)));
        assert_eq!(answered(&mut calls, own), 3);
        assert!(matches!(calls.complete(foreign, 4), Delivery::Unmatched(_)));
        assert!(poll(&mut calls, other).is_pending());
    }
}
