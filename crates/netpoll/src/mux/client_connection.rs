// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection of a client: its calls and their deadlines.
//!
//! The connection itself belongs to its poller, where a handler reads the answers.
//! [`ClientConnection`] is the state that this handler shares with the callers. It has one timer,
//! armed for the earliest deadline known when it was armed: a call with a later deadline does not
//! touch the timer, and when it fires all calls are checked.

use std::io;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use super::call_table::{CallTable, Delivery};
use super::client_builder::Protocol;
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
    /// Counts the calls in progress: while there are any, the connection is not idle.
    in_flight: InFlightGuard,
    deadline_timer: Mutex<DeadlineTimer>,
    /// The number of frames that matched no call and were not passed to `on_push`.
    unmatched_answers: AtomicU64,
}

/// The timer for the next check of all calls.
#[derive(Debug, Default)]
struct DeadlineTimer {
    /// Created for the first call with a deadline.
    timer: Option<PollerTimer>,
    due: Option<Instant>,
}

impl DeadlineTimer {
    /// Arms the timer for `deadline`, or leaves it if it is armed for an earlier time. A timer
    /// whose poller has ended is moved to `lost`, to be dropped after the lock.
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
    /// Installs the handler that reads the answers, and the watches for the connection's end.
    /// `started` is the number of calls that were started on earlier connections.
    pub(super) fn open<C: CallCodec<Frame = F>>(
        conn: Connection,
        protocol: &Arc<Protocol<C>>,
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
        let (answers, protocol) = (Arc::clone(&connection), Arc::clone(protocol));
        conn.serve_with_policy(
            ReadPolicy::AlwaysRead,
            async move |conn: &mut Connection| {
                if let Some(frame) = conn.reader().frame(&protocol.codec).await? {
                    let id = protocol.codec.id(&frame);
                    match &protocol.pushes {
                        Some(pushes) if pushes.id == id => (pushes.on_push)(frame),
                        _ => answers.complete(id, frame),
                    }
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
        // The timer's waker owns this connection.
        let timer = lock(&self.deadline_timer).timer.take();
        drop(timer);
        wake_in_turns(woken);
    }

    /// Starts a new call.
    pub(super) fn start_call(
        self: &Arc<Self>,
        deadline: Option<Instant>,
    ) -> io::Result<PendingCall<F>> {
        // Counted before the call starts: a draining connection first stops accepting calls and
        // then checks whether any is in progress.
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

    /// Arms the timer for `deadline` or an earlier time. The call is in the table already, so a
    /// concurrent check of the table, which holds the timer's lock, has seen it, or the timer is
    /// armed here.
    fn arm(self: &Arc<Self>, deadline: Instant) -> io::Result<()> {
        let mut lost = Vec::new();
        register(&Waker::from(Arc::clone(self)), |caller_waker| {
            lock(&self.deadline_timer).arm(deadline, caller_waker, &mut lost)
        })
    }

    /// Fails the calls that have timed out, and arms the timer for the next deadline. Called when
    /// the timer fires or its poller ends.
    fn expire_calls(self: &Arc<Self>) {
        let mut woken = Wakeups::default();
        let mut lost = Vec::new();
        // If no other timer can be created for lack of descriptors, the calls wait for their
        // answers or the connection's end.
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

    /// Returns why no new call is accepted, if so.
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        lock(&self.calls).close_reason().cloned()
    }

    /// Returns how many calls were started on this connection and the ones before it.
    pub(super) fn started(&self) -> u32 {
        lock(&self.calls).started()
    }

    /// Returns the number of calls in progress.
    pub(super) fn len(&self) -> usize {
        lock(&self.calls).len()
    }

    /// Returns the number of answers so far that matched no call.
    pub(super) fn unmatched_answers(&self) -> u64 {
        // Relaxed: a count.
        self.unmatched_answers.load(Ordering::Relaxed)
    }

    /// Closes the connection, and fails all its calls.
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

/// A call in progress. Dropping it abandons the call.
#[derive(Debug)]
pub(super) struct PendingCall<F> {
    connection: Arc<ClientConnection<F>>,
    pub(super) id: u64,
}

impl<F> PendingCall<F> {
    /// Registers another id for the call, with which its request was encoded.
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
        let cancelled = lock(&self.connection.calls).cancel(self.id);
        drop(cancelled);
        self.connection.in_flight.finish_one();
    }
}
