// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls in progress on one connection, by id.
//!
//! An id combines a slot of the table with a counter that grows with each call. An answer to a call
//! that is gone finds its slot empty or used by another call, and is unmatched. The counter is never
//! zero, so no call has an id below 2^32: a codec may use these ids for messages without a call. A
//! call leaves the table when its caller takes the result or abandons the call. No method blocks.

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
    /// The number of calls so far; it wraps to 1.
    started: u32,
    /// Why no new call is accepted, once that is so.
    closing: Option<CloseReason>,
    /// Why no more answers can arrive, once that is so.
    ended: Option<CloseReason>,
    /// Ids of requests that were encoded for another connection, which ended before it accepted
    /// them, each with the call's id here.
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
    /// The slot is empty until the caller first polls.
    Waiting(WakerSlot),
    /// The frame is a user's type, so it is dropped outside the lock.
    Answered(DeferredDrop<F>),
    TimedOut,
    Lost,
}

/// The state of an abandoned call: a waker or an answer.
#[derive(Debug)]
#[must_use = "drop it after the lock"]
pub(super) struct CancelledCall<F> {
    _state: CallState<F>,
}

/// The result of delivering an answer.
#[derive(Debug)]
pub(super) enum Delivery<F> {
    /// It completed a call. The waker of its caller has to be called.
    Waiter(Wakeup),
    /// There is no such call, or it has its answer already. The frame has to be dropped after the
    /// lock.
    Unmatched(DeferredDrop<F>),
}

impl<F> Default for CallTable<F> {
    fn default() -> Self {
        Self::continuing_from(0)
    }
}

/// Returns the slot of an id.
fn slot_index(id: u64) -> usize {
    (id & u64::from(u32::MAX)) as usize
}

impl<F> CallTable<F> {
    /// Creates the table of a connection that follows others, on which `started` calls were
    /// started, so that ids do not repeat.
    pub(super) fn continuing_from(started: u32) -> Self {
        Self {
            table: Slab::new(),
            started,
            closing: None,
            ended: None,
            aliases: Vec::new(),
        }
    }

    /// Returns how many calls were started on this connection and the ones before it.
    pub(super) fn started(&self) -> u32 {
        self.started
    }

    /// Starts a call and returns its id.
    pub(super) fn start(&mut self, deadline: Option<Instant>) -> Result<u64, CloseReason> {
        if let Some(reason) = self.ended.as_ref().or(self.closing.as_ref()) {
            return Err(reason.clone());
        }
        self.started = self.started.checked_add(1).unwrap_or(1);
        let entry = self.table.vacant_entry();
        let id = u64::from(self.started) << 32 | entry.key() as u64;
        entry.insert(CallEntry {
            id,
            deadline,
            state: CallState::Waiting(WakerSlot::empty()),
        });
        Ok(id)
    }

    /// Registers `foreign`, an id from another connection, for the call `id`, whose request was
    /// encoded with it.
    pub(super) fn add_alias(&mut self, id: u64, foreign: u64) {
        self.aliases.push((foreign, id));
    }

    /// Returns the id of the call that an answer with `id` belongs to.
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

    /// Delivers an answer to its call.
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

    /// Polls a call. Once it returns a result, the call is removed.
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

    /// Removes an abandoned call. Returns its state, to be dropped after the lock.
    pub(super) fn cancel(&mut self, id: u64) -> Option<CancelledCall<F>> {
        self.get_mut(id)?;
        let call = self.remove(id);
        Some(CancelledCall { _state: call.state })
    }

    /// Times out the calls whose deadline has passed and adds their wakers to `woken`. Returns the
    /// next deadline.
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

    /// Stops accepting calls. Calls in progress may still be answered.
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.closing.get_or_insert(reason);
    }

    /// Fails all unanswered calls, since no more answers can arrive. Returns their wakers.
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

    /// Returns why no new call is accepted, if so.
    pub(super) fn close_reason(&self) -> Option<&CloseReason> {
        self.ended.as_ref().or(self.closing.as_ref())
    }

    /// Returns the number of calls in progress.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

fn lost_error(reason: Option<CloseReason>) -> io::Error {
    reason.unwrap_or(CloseReason::Forgotten).to_error()
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
    fn answers_are_matched_in_any_order() {
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
    fn unmatched_answer_does_not_reach_the_call_in_its_slot() {
        let mut calls = CallTable::default();
        let first = calls.start(None).unwrap();
        drop(calls.cancel(first));
        let second = calls.start(None).unwrap();
        assert_eq!(slot_index(first), slot_index(second));
        for unknown in [first, second ^ 1 << 40, u64::MAX, 0] {
            assert!(matches!(calls.complete(unknown, 1), Delivery::Unmatched(_)));
        }
        assert!(poll(&mut calls, second).is_pending());
        assert!(matches!(calls.complete(second, 2), Delivery::Waiter(waker) if waker.is_some()));
        assert!(matches!(calls.complete(second, 3), Delivery::Unmatched(_)));
        assert_eq!(answered(&mut calls, second), 2);
        assert!(matches!(calls.complete(second, 4), Delivery::Unmatched(_)));
    }

    #[test]
    fn unmatched_answer_is_returned_to_drop_after_the_lock() {
        let frame = Arc::new(());
        let mut calls = CallTable::default();
        let delivered = calls.complete(7, Arc::clone(&frame));
        assert_eq!(Arc::strong_count(&frame), 2);
        drop(delivered);
        assert_eq!(Arc::strong_count(&frame), 1);
    }

    #[test]
    fn call_counter_wraps() {
        let mut calls = CallTable {
            started: u32::MAX - 1,
            ..CallTable::default()
        };
        for number in 0..4 {
            let id = calls.start(None).unwrap();
            assert!(id >> 32 > 0, "{id:#x}");
            assert!(
                matches!(calls.complete(id, number), Delivery::Waiter(waker) if waker.is_none())
            );
            assert_eq!(answered(&mut calls, id), number);
        }
    }

    #[test]
    fn calls_time_out_at_their_deadline() {
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
    fn close_fails_all_unanswered_calls() {
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
    fn closing_connection_completes_started_calls() {
        let mut calls = CallTable::default();
        let first = calls.start(None).unwrap();
        calls.close(CloseReason::PeerFin);
        assert!(matches!(calls.start(None), Err(CloseReason::PeerFin)));
        assert!(matches!(calls.complete(first, 7), Delivery::Waiter(_)));
        assert_eq!(answered(&mut calls, first), 7);
    }

    #[test]
    fn retried_request_is_matched_by_its_original_id() {
        let mut former = CallTable::<u8>::default();
        let foreign = former.start(None).unwrap();
        let mut calls = CallTable::continuing_from(former.started());
        let other = calls.start(None).unwrap();
        assert_ne!(other, foreign, "ids in the same slot differ");
        let own = calls.start(None).unwrap();
        calls.add_alias(own, foreign);
        assert!(matches!(calls.complete(foreign, 3), Delivery::Waiter(_)));
        assert_eq!(answered(&mut calls, own), 3);
        assert!(matches!(calls.complete(foreign, 4), Delivery::Unmatched(_)));
        assert!(poll(&mut calls, other).is_pending());
    }
}
