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
use crate::foreign::{Deferred, NotCloned, Offer, WakerSlot, Wakeup, Wakeups};
use crate::time::Elapsed;

/// Calls whose answers are of type `F`.
#[derive(Debug)]
pub(super) struct Calls<F> {
    table: Slab<Call<F>>,
    /// Calls so far; it may wrap.
    begun: u32,
    /// Why there are no new calls, once that is so.
    closing: Option<CloseReason>,
    /// Why there will be no more answers, once that is so.
    over: Option<CloseReason>,
    /// Ids that requests were encoded with for another connection, which ended before it took them, and
    /// which calls they are here.
    foreign_ids: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Call<F> {
    id: u64,
    deadline: Option<Instant>,
    state: State<F>,
}

#[derive(Debug)]
enum State<F> {
    /// Nobody may be asking yet.
    Waits(WakerSlot),
    /// What a codec of the user's has made.
    Answered(Deferred<F>),
    Late,
    Lost,
}

/// What was kept for a caller who waits no more: his waker, or an answer.
#[derive(Debug)]
#[must_use = "drop it after the lock"]
pub(super) struct GivenUp<F> {
    _state: State<F>,
}

/// What became of an answer.
#[derive(Debug)]
pub(super) enum Delivered<F> {
    /// Whoever waits for it is to be woken.
    To(Wakeup),
    /// There is no such call, or it has its answer; this one is dropped after the lock.
    ToNobody(Deferred<F>),
}

impl<F> Default for Calls<F> {
    fn default() -> Self {
        Self::after(0)
    }
}

/// The place that an id names.
fn place(id: u64) -> usize {
    (id & u64::from(u32::MAX)) as usize
}

impl<F> Calls<F> {
    /// The calls of a connection that comes after another, on which `begun` had begun: their ids differ.
    pub(super) fn after(begun: u32) -> Self {
        Self {
            table: Slab::new(),
            begun,
            closing: None,
            over: None,
            foreign_ids: Vec::new(),
        }
    }

    /// How many calls have begun on this connection and those before it.
    pub(super) fn begun(&self) -> u32 {
        self.begun
    }

    /// A new call, by its id.
    pub(super) fn begin(&mut self, deadline: Option<Instant>) -> Result<u64, CloseReason> {
        if let Some(reason) = self.over.as_ref().or(self.closing.as_ref()) {
            return Err(reason.clone());
        }
        self.begun = self.begun.wrapping_add(1);
        let entry = self.table.vacant_entry();
        let id = u64::from(self.begun) << 32 | entry.key() as u64;
        entry.insert(Call {
            id,
            deadline,
            state: State::Waits(WakerSlot::empty()),
        });
        Ok(id)
    }

    /// The request of the call `id` is encoded with another id, from another connection.
    pub(super) fn know_as(&mut self, id: u64, foreign: u64) {
        self.foreign_ids.push((foreign, id));
    }

    /// The call that an answer with `id` is to.
    fn own_id(&self, id: u64) -> u64 {
        let known = self.foreign_ids.iter().find(|(foreign, _)| *foreign == id);
        known.map_or(id, |(_, own)| *own)
    }

    fn remove(&mut self, id: u64) -> Call<F> {
        if !self.foreign_ids.is_empty() {
            self.foreign_ids.retain(|(_, own)| *own != id);
        }
        self.table.remove(place(id))
    }

    fn get_mut(&mut self, id: u64) -> Option<&mut Call<F>> {
        self.table.get_mut(place(id)).filter(|call| call.id == id)
    }

    /// The answer to a call has come.
    pub(super) fn answer(&mut self, id: u64, frame: F) -> Delivered<F> {
        let id = self.own_id(id);
        match self.get_mut(id) {
            Some(Call {
                state: state @ State::Waits(_),
                ..
            }) => match std::mem::replace(state, State::Answered(Deferred::new(frame))) {
                State::Waits(mut waker) => Delivered::To(waker.take()),
                _ => Delivered::To(Wakeup::none()),
            },
            _ => Delivered::ToNobody(Deferred::new(frame)),
        }
    }

    /// What a call has come to, which then is over.
    pub(super) fn poll(
        &mut self,
        id: u64,
        offer: &mut Offer<'_>,
    ) -> Result<Poll<io::Result<F>>, NotCloned> {
        let over = self.over.clone();
        let Some(call) = self.get_mut(id) else {
            return Ok(Poll::Ready(Err(lost(over))));
        };
        if let State::Waits(waker) = &mut call.state {
            waker.set(offer)?;
            return Ok(Poll::Pending);
        }
        let call = self.remove(id);
        Ok(Poll::Ready(match call.state {
            State::Answered(frame) => frame.into_value().ok_or_else(|| lost(over)),
            State::Late => Err(Elapsed.into()),
            State::Waits(_) | State::Lost => Err(lost(over)),
        }))
    }

    /// Whoever has made the call waits no more. Gives what was kept for him, to be dropped after the
    /// lock.
    pub(super) fn give_up(&mut self, id: u64) -> Option<GivenUp<F>> {
        self.get_mut(id)?;
        let call = self.remove(id);
        Some(GivenUp { _state: call.state })
    }

    /// Ends the calls whose time is up, for their callers to be woken, and says when the next is.
    pub(super) fn expire(&mut self, now: Instant, woken: &mut Wakeups) -> Option<Instant> {
        let mut next = None;
        for (_, call) in &mut self.table {
            let (Some(deadline), State::Waits(waker)) = (call.deadline, &mut call.state) else {
                continue;
            };
            if deadline <= now {
                woken.add(waker.take());
                call.state = State::Late;
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
    pub(super) fn lose(&mut self, reason: CloseReason) -> Wakeups {
        self.over.get_or_insert(reason);
        let mut woken = Wakeups::default();
        for (_, call) in &mut self.table {
            if let State::Waits(waker) = &mut call.state {
                woken.add(waker.take());
                call.state = State::Lost;
            }
        }
        woken
    }

    /// Why there are no new calls, if that is so.
    pub(super) fn closing(&self) -> Option<&CloseReason> {
        self.over.as_ref().or(self.closing.as_ref())
    }

    /// How many calls are under way.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

fn lost(over: Option<CloseReason>) -> io::Error {
    over.unwrap_or(CloseReason::Forgotten).to_error()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::register;
    use crate::sync::Arc;
    use std::task::Waker;
    use std::time::Duration;

    fn poll(calls: &mut Calls<u8>, id: u64) -> Poll<io::Result<u8>> {
        register(Waker::noop(), |offer| calls.poll(id, offer))
    }

    fn answered(calls: &mut Calls<u8>, id: u64) -> u8 {
        match poll(calls, id) {
            Poll::Ready(Ok(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_find_their_calls_in_any_order() {
        let mut calls = Calls::default();
        let ids: Vec<_> = (0..10).map(|_| calls.begin(None).unwrap()).collect();
        for (number, id) in ids.iter().enumerate().rev() {
            assert!(matches!(
                calls.answer(*id, number as u8),
                Delivered::To(waker) if waker.is_none()
            ));
        }
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(answered(&mut calls, *id), number as u8);
        }
        assert_eq!(calls.len(), 0);
    }

    #[test]
    fn an_answer_to_nobody_reaches_nobody_also_when_its_place_has_another() {
        let mut calls = Calls::default();
        let first = calls.begin(None).unwrap();
        drop(calls.give_up(first));
        let second = calls.begin(None).unwrap();
        assert_eq!(place(first), place(second));
        for stranger in [first, second ^ 1 << 40, u64::MAX, 0] {
            assert!(matches!(calls.answer(stranger, 1), Delivered::ToNobody(_)));
        }
        assert!(poll(&mut calls, second).is_pending());
        assert!(matches!(calls.answer(second, 2), Delivered::To(waker) if waker.is_some()));
        assert!(matches!(calls.answer(second, 3), Delivered::ToNobody(_)));
        assert_eq!(answered(&mut calls, second), 2);
        assert!(matches!(calls.answer(second, 4), Delivered::ToNobody(_)));
    }

    #[test]
    fn an_answer_to_nobody_goes_out_to_be_dropped_after_the_lock() {
        let frame = Arc::new(());
        let mut calls = Calls::default();
        let delivered = calls.answer(7, Arc::clone(&frame));
        assert_eq!(Arc::strong_count(&frame), 2);
        drop(delivered);
        assert_eq!(Arc::strong_count(&frame), 1);
    }

    #[test]
    fn after_so_many_calls_that_their_count_wraps_all_is_as_before() {
        let mut calls = Calls {
            begun: u32::MAX - 1,
            ..Calls::default()
        };
        for number in 0..4 {
            let id = calls.begin(None).unwrap();
            assert!(matches!(calls.answer(id, number), Delivered::To(waker) if waker.is_none()));
            assert_eq!(answered(&mut calls, id), number);
        }
    }

    #[test]
    fn calls_are_late_when_their_time_is_up_and_not_before() {
        let mut calls = Calls::<u8>::default();
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        let first = calls.begin(Some(soon)).unwrap();
        let second = calls.begin(Some(later)).unwrap();
        let third = calls.begin(None).unwrap();
        assert!(poll(&mut calls, first).is_pending());
        let mut woken = Wakeups::default();
        assert_eq!(calls.expire(now, &mut woken), Some(soon));
        assert_eq!(calls.expire(soon, &mut woken), Some(later));
        assert_eq!(woken.len(), 1);
        assert!(matches!(calls.answer(first, 1), Delivered::ToNobody(_)));
        let late = poll(&mut calls, first);
        assert!(matches!(late, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut));
        assert_eq!(calls.expire(later, &mut woken), None);
        drop(calls.give_up(second));
        assert!(poll(&mut calls, third).is_pending());
    }

    #[test]
    fn the_end_ends_all_calls_but_those_that_have_their_answer() {
        let mut calls = Calls::default();
        let (first, second) = (calls.begin(None).unwrap(), calls.begin(None).unwrap());
        assert!(poll(&mut calls, second).is_pending());
        calls.answer(first, 7);
        assert_eq!(calls.lose(CloseReason::PeerFin).len(), 1);
        assert_eq!(answered(&mut calls, first), 7);
        assert!(matches!(poll(&mut calls, second), Poll::Ready(Err(_))));
        assert!(matches!(calls.begin(None), Err(CloseReason::PeerFin)));
        assert_eq!(calls.len(), 0);
    }

    #[test]
    fn a_connection_that_takes_no_new_calls_answers_those_under_way() {
        let mut calls = Calls::default();
        let first = calls.begin(None).unwrap();
        calls.close(CloseReason::PeerFin);
        assert!(matches!(calls.begin(None), Err(CloseReason::PeerFin)));
        assert!(matches!(calls.answer(first, 7), Delivered::To(_)));
        assert_eq!(answered(&mut calls, first), 7);
    }

    #[test]
    fn a_request_that_was_encoded_for_another_connection_gets_its_answer() {
        let mut former = Calls::<u8>::default();
        let foreign = former.begin(None).unwrap();
        let mut calls = Calls::after(former.begun());
        let other = calls.begin(None).unwrap();
        assert_ne!(other, foreign, "in the same place");
        let own = calls.begin(None).unwrap();
        calls.know_as(own, foreign);
        assert!(matches!(calls.answer(foreign, 3), Delivered::To(_)));
        assert_eq!(answered(&mut calls, own), 3);
        assert!(matches!(calls.answer(foreign, 4), Delivered::ToNobody(_)));
        assert!(poll(&mut calls, other).is_pending());
    }
}
