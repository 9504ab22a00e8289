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

use super::call_table::{CallTable, Delivery};
use super::message::CallCodec;
use crate::connection::Connection;
use crate::connection::backpressure::ReadPolicy;
use crate::connection::close_watcher::CloseWatcher;
use crate::connection::handle::ConnectionHandle;
use crate::connection::in_flight::InFlightGuard;
use crate::connection::write_queue::WriteQueue;
use crate::error::CloseReason;
use crate::foreign::{CallerWaker, CloneRequired, Wakeups, register};
use crate::poll::mass_wake::wake_in_turns;
use crate::poll::poller_timer::{PollerTimer, TimerStatus};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};

/// One connection and its calls.
#[derive(Debug)]
pub(super) struct ClientConnection<F> {
    pub(super) queue: WriteQueue,
    handle: ConnectionHandle,
    calls: Mutex<CallTable<F>>,
    /// The calls whose callers wait: while there are any, the connection is not idle.
    in_flight: InFlightGuard,
    deadline_timer: Mutex<DeadlineTimer>,
    /// Answers to nobody.
    unmatched_answers: AtomicU64,
}

/// When all calls are looked at next.
#[derive(Debug, Default)]
struct DeadlineTimer {
    /// Made for the first call that has a deadline.
    timer: Option<PollerTimer>,
    due: Option<Instant>,
}

impl DeadlineTimer {
    /// Has the alarm ring at `deadline`, or before. An alarm that was lost is put into `lost`, to be
    /// dropped after the lock.
    fn arm(
        &mut self,
        deadline: Instant,
        caller_waker: &mut CallerWaker<'_>,
        lost: &mut Vec<PollerTimer>,
    ) -> Result<io::Result<()>, CloneRequired> {
        if self.due.is_some_and(|at| at <= deadline) {
            return Ok(Ok(()));
        }
        if self
            .timer
            .as_ref()
            .is_none_or(|timer| timer.status() == TimerStatus::PollerEnded)
        {
            match PollerTimer::new() {
                Ok(timer) => lost.extend(self.timer.replace(timer)),
                Err(error) => return Ok(Err(error)),
            }
        }
        if let Some(timer) = &self.timer {
            timer.try_set(deadline, caller_waker)?;
            self.due = Some(deadline);
        }
        Ok(Ok(()))
    }
}

impl<F: Send + 'static> ClientConnection<F> {
    /// Has the answers that come on `conn` read, and its end told.
    /// Before it, so many calls have `begun` on others.
    pub(super) fn open<C: CallCodec<Frame = F>>(
        conn: Connection,
        codec: &Arc<C>,
        started: u32,
    ) -> Arc<Self> {
        let connection = Arc::new(Self {
            queue: conn.write_queue(),
            handle: conn.handle(),
            calls: Mutex::new(CallTable::continuing_from(started)),
            in_flight: conn.shared().in_flight(),
            deadline_timer: Mutex::default(),
            unmatched_answers: AtomicU64::new(0),
        });
        conn.shared().set_close_watcher(&connection);
        if let Some(reason) = conn.shared().end_reason() {
            connection.on_closing(&reason);
        }
        let lost = Arc::clone(&connection);
        conn.on_close(move |reason| lost.fail_all(reason.clone()));
        let (answers, codec) = (Arc::clone(&connection), Arc::clone(codec));
        conn.serve_with_policy(
            ReadPolicy::AlwaysRead,
            async move |conn: &mut Connection| {
                if let Some(frame) = conn.reader().frame(&*codec).await? {
                    answers.complete(codec.id(&frame), frame);
                }
                Ok(())
            },
        );
        connection
    }

    fn complete(&self, id: u64, frame: F) {
        let delivered = lock(&self.calls).complete(id, frame);
        match delivered {
            Delivery::Waiter(waker) => waker.wake(),
            Delivery::Unmatched(_frame) => {
                // Relaxed: a count.
                self.unmatched_answers.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn fail_all(&self, reason: CloseReason) {
        let woken = lock(&self.calls).fail_all(reason);
        // It has the lane as its waker.
        let timer = lock(&self.deadline_timer).timer.take();
        drop(timer);
        wake_in_turns(woken);
    }

    /// A new call.
    pub(super) fn start_call(
        self: &Arc<Self>,
        deadline: Option<Instant>,
    ) -> io::Result<PendingCall<F>> {
        // Before the call begins: a connection that drains takes none from a moment on, and then looks
        // whether any is under way.
        self.in_flight.begin_one();
        let started = lock(&self.calls).start(deadline);
        let id = started.map_err(|reason| {
            self.in_flight.finish_one();
            reason.to_error()
        })?;
        let pending = PendingCall {
            connection: Arc::clone(self),
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
        register(&Waker::from(Arc::clone(self)), |caller_waker| {
            lock(&self.deadline_timer).arm(deadline, caller_waker, &mut lost)
        })
    }

    /// The alarm has rung, or was lost.
    fn expire_calls(self: &Arc<Self>) {
        let mut woken = Wakeups::default();
        let mut lost = Vec::new();
        // Without descriptors for another poller the calls wait for their answers or the end.
        let _armed = register(&Waker::from(Arc::clone(self)), |caller_waker| {
            let mut deadline_timer = lock(&self.deadline_timer);
            deadline_timer.due = None;
            let next = lock(&self.calls).expire(Instant::now(), &mut woken);
            match next {
                Some(next) => deadline_timer.arm(next, caller_waker, &mut lost),
                None => Ok(Ok(())),
            }
        });
        wake_in_turns(woken);
    }

    /// Why there are no new calls, if that is so.
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        lock(&self.calls).close_reason().cloned()
    }

    /// How many calls have begun on it and those before it.
    pub(super) fn started(&self) -> u32 {
        lock(&self.calls).started()
    }

    /// How many calls are under way.
    pub(super) fn len(&self) -> usize {
        lock(&self.calls).len()
    }

    /// Answers so far that were nobody's.
    pub(super) fn unmatched_answers(&self) -> u64 {
        // Relaxed: a count.
        self.unmatched_answers.load(Ordering::Relaxed)
    }

    /// Closes the connection. No call of it will be answered from here on.
    pub(super) fn close(&self) {
        self.fail_all(CloseReason::Local);
        self.handle.close();
    }
}

impl<F: Send + 'static> CloseWatcher for ClientConnection<F> {
    fn on_closing(&self, reason: &CloseReason) {
        lock(&self.calls).close(reason.clone());
    }

    fn on_input_closed(&self, reason: &CloseReason) {
        self.fail_all(reason.clone());
    }
}

impl<F: Send + 'static> Wake for ClientConnection<F> {
    fn wake(self: Arc<Self>) {
        self.expire_calls();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.expire_calls();
    }
}

/// A call under way. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct PendingCall<F> {
    connection: Arc<ClientConnection<F>>,
    pub(super) id: u64,
}

impl<F> PendingCall<F> {
    /// The request is encoded with another id.
    pub(super) fn add_alias(&self, foreign: u64) {
        lock(&self.connection.calls).add_alias(self.id, foreign);
    }

    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<io::Result<F>> {
        register(context.waker(), |caller_waker| {
            lock(&self.connection.calls).poll(self.id, caller_waker)
        })
    }
}

impl<F> Drop for PendingCall<F> {
    fn drop(&mut self) {
        let given_up = lock(&self.connection.calls).cancel(self.id);
        drop(given_up);
        self.connection.in_flight.finish_one();
    }
}
