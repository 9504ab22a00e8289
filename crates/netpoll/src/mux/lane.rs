// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection of a client: the calls under way on it, and their times.
//!
//! The connection itself belongs to its poller, where a handler reads the answers. The lane is
//! what that handler and the callers share. Its one alarm is set to the earliest deadline that was
//! known when it was set: a call with a later one does not touch it, and when it rings all calls
//! are looked at.

use std::io;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use super::calls::{Calls, Delivered};
use super::message::CallCodec;
use crate::connection::Connection;
use crate::connection::end_watch::EndWatch;
use crate::connection::flow::Gate;
use crate::connection::handle::ConnectionHandle;
use crate::connection::in_flight::InFlight;
use crate::connection::write_queue::WriteQueue;
use crate::error::CloseReason;
use crate::foreign::{NotCloned, Offer, Wakeups, register};
use crate::poll::alarm::{Alarm, Rang};
use crate::poll::mass_wake::wake_in_turns;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};

/// One connection and its calls.
#[derive(Debug)]
pub(super) struct Lane<F> {
    pub(super) queue: WriteQueue,
    handle: ConnectionHandle,
    calls: Mutex<Calls<F>>,
    /// The calls whose callers wait: while there are any, the connection is not idle.
    in_flight: InFlight,
    clock: Mutex<Clock>,
    /// Answers to nobody.
    strays: AtomicU64,
}

/// When all calls are looked at next.
#[derive(Debug, Default)]
struct Clock {
    /// Made for the first call that has a deadline.
    alarm: Option<Alarm>,
    at: Option<Instant>,
}

impl Clock {
    /// Has the alarm ring at `deadline`, or before. An alarm that was lost is put into `lost`, to be
    /// dropped after the lock.
    fn arm(
        &mut self,
        deadline: Instant,
        offer: &mut Offer<'_>,
        lost: &mut Vec<Alarm>,
    ) -> Result<io::Result<()>, NotCloned> {
        if self.at.is_some_and(|at| at <= deadline) {
            return Ok(Ok(()));
        }
        if self
            .alarm
            .as_ref()
            .is_none_or(|alarm| alarm.rang() == Rang::Lost)
        {
            match Alarm::new() {
                Ok(alarm) => lost.extend(self.alarm.replace(alarm)),
                Err(error) => return Ok(Err(error)),
            }
        }
        if let Some(alarm) = &self.alarm {
            alarm.try_set(deadline, offer)?;
            self.at = Some(deadline);
        }
        Ok(Ok(()))
    }
}

impl<F: Send + 'static> Lane<F> {
    /// Has the answers that come on `conn` read, and its end told.
    /// Before it, so many calls have `begun` on others.
    pub(super) fn open<C: CallCodec<Frame = F>>(
        conn: Connection,
        codec: &Arc<C>,
        begun: u32,
    ) -> Arc<Self> {
        let lane = Arc::new(Self {
            queue: conn.write_queue(),
            handle: conn.handle(),
            calls: Mutex::new(Calls::after(begun)),
            in_flight: conn.link().in_flight(),
            clock: Mutex::default(),
            strays: AtomicU64::new(0),
        });
        conn.link().watch_end(&lane);
        if let Some(reason) = conn.link().end() {
            lane.takes_no_more(&reason);
        }
        let lost = Arc::clone(&lane);
        conn.on_close(move |reason| lost.lose(reason.clone()));
        let (answers, codec) = (Arc::clone(&lane), Arc::clone(codec));
        conn.serve_through(Gate::Open, async move |conn: &mut Connection| {
            if let Some(frame) = conn.reader().frame(&*codec).await? {
                answers.answer(codec.id(&frame), frame);
            }
            Ok(())
        });
        lane
    }

    fn answer(&self, id: u64, frame: F) {
        let delivered = lock(&self.calls).answer(id, frame);
        match delivered {
            Delivered::To(waker) => waker.wake(),
            Delivered::ToNobody(_frame) => {
                // Relaxed: a count.
                self.strays.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn lose(&self, reason: CloseReason) {
        let woken = lock(&self.calls).lose(reason);
        // It has the lane as its waker.
        let alarm = lock(&self.clock).alarm.take();
        drop(alarm);
        wake_in_turns(woken);
    }

    /// A new call.
    pub(super) fn begin(self: &Arc<Self>, deadline: Option<Instant>) -> io::Result<Pending<F>> {
        // Before the call begins: a connection that drains takes none from a moment on, and then looks
        // whether any is under way.
        self.in_flight.begin_one();
        let begun = lock(&self.calls).begin(deadline);
        let id = begun.map_err(|reason| {
            self.in_flight.finish_one();
            reason.to_error()
        })?;
        let pending = Pending {
            lane: Arc::clone(self),
            id,
        };
        if let Some(deadline) = deadline {
            self.arm(deadline)?;
        }
        Ok(pending)
    }

    /// Has the alarm ring at `deadline`, or before. The call is in the table already, so whoever
    /// looks at the table with the alarm locked has seen it, or it is seen to here.
    fn arm(self: &Arc<Self>, deadline: Instant) -> io::Result<()> {
        let mut lost = Vec::new();
        register(&Waker::from(Arc::clone(self)), |offer| {
            lock(&self.clock).arm(deadline, offer, &mut lost)
        })
    }

    /// The alarm has rung, or was lost.
    fn look(self: &Arc<Self>) {
        let mut woken = Wakeups::default();
        let mut lost = Vec::new();
        // Without descriptors for another poller the calls wait for their answers or the end.
        let _armed = register(&Waker::from(Arc::clone(self)), |offer| {
            let mut clock = lock(&self.clock);
            clock.at = None;
            let next = lock(&self.calls).expire(Instant::now(), &mut woken);
            match next {
                Some(next) => clock.arm(next, offer, &mut lost),
                None => Ok(Ok(())),
            }
        });
        wake_in_turns(woken);
    }

    /// Why there are no new calls, if that is so.
    pub(super) fn closing(&self) -> Option<CloseReason> {
        lock(&self.calls).closing().cloned()
    }

    /// How many calls have begun on it and those before it.
    pub(super) fn begun(&self) -> u32 {
        lock(&self.calls).begun()
    }

    /// How many calls are under way.
    pub(super) fn len(&self) -> usize {
        lock(&self.calls).len()
    }

    /// Answers so far that were nobody's.
    pub(super) fn strays(&self) -> u64 {
        // Relaxed: a count.
        self.strays.load(Ordering::Relaxed)
    }

    /// Closes the connection. No call of it will be answered from here on.
    pub(super) fn close(&self) {
        self.lose(CloseReason::Local);
        self.handle.close();
    }
}

impl<F: Send + 'static> EndWatch for Lane<F> {
    fn takes_no_more(&self, reason: &CloseReason) {
        lock(&self.calls).close(reason.clone());
    }

    fn has_ended(&self, reason: &CloseReason) {
        self.lose(reason.clone());
    }
}

impl<F: Send + 'static> Wake for Lane<F> {
    fn wake(self: Arc<Self>) {
        self.look();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.look();
    }
}

/// A call under way. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct Pending<F> {
    lane: Arc<Lane<F>>,
    pub(super) id: u64,
}

impl<F> Pending<F> {
    /// The request is encoded with another id.
    pub(super) fn know_as(&self, foreign: u64) {
        lock(&self.lane.calls).know_as(self.id, foreign);
    }

    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<io::Result<F>> {
        register(context.waker(), |offer| {
            lock(&self.lane.calls).poll(self.id, offer)
        })
    }
}

impl<F> Drop for Pending<F> {
    fn drop(&mut self) {
        let given_up = lock(&self.lane.calls).give_up(self.id);
        drop(given_up);
        self.lane.in_flight.finish_one();
    }
}
