// SPDX-License-Identifier: MIT OR Apache-2.0
//! The queue between the acceptor of a listener without a loop and the callers that wait for a
//! connection.
//!
//! The queue is bounded: the acceptor reserves a [`QueueSlot`] before each `accept(2)`, and pauses
//! when none is free. Callers that wait are ranked by their arrival. The caller of rank 0 gets the
//! first connection of the queue, the one of rank 1 the second, and so on, whichever of them is
//! polled first. A connection leaves the queue only into the result of a caller, so a caller that
//! is dropped loses none: those behind it move up.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::task::{Poll, Waker};

use super::filter::ConnInfo;
use crate::connection::Connection;
use crate::connection::service::{Accepted, owned_connection};
use crate::error::ErrorKind;
use crate::foreign::{OwnWaker, WakerSlot, Wakeup, Wakeups, register, wake_by_ref};
use crate::poll::mass_wake::wake_in_turns;
use crate::poll::source::SourceFactory;
use crate::sync::{Arc, Mutex, lock};

/// The most connections that are accepted and not returned to a caller.
pub(super) const QUEUE_CAPACITY: usize = 16;

/// A paused acceptor resumes when the queue has shrunk to this.
const RESUME_LENGTH: usize = QUEUE_CAPACITY / 2;

/// Accepted connections, and the callers that wait for one.
#[derive(Debug, Default)]
pub(crate) struct AcceptQueue {
    state: Mutex<AcceptQueueState>,
}

#[derive(Debug, Default)]
struct AcceptQueueState {
    connections: VecDeque<(Connection, ConnInfo)>,
    /// Slots that the acceptor holds.
    reserved: usize,
    /// Callers in the order of their arrival.
    waiters: BTreeMap<u64, WakerSlot>,
    last_id: u64,
    status: AcceptorStatus,
    /// Wakes the acceptor, once its poller has it.
    acceptor: Option<OwnWaker>,
    pause: AcceptorPause,
    /// The listener is closed.
    is_closed: bool,
}

/// Whether an acceptor serves the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AcceptorStatus {
    /// None does. The next caller starts one.
    #[default]
    None,
    Running,
    /// None does, and none will: the loop that it belonged to has stopped accepting.
    Stopped,
}

/// Whether the acceptor waits until the queue has room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AcceptorPause {
    #[default]
    Off,
    QueueFull,
}

/// Why no slot is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueUnavailable {
    /// The queue is full. The acceptor is woken when it has room.
    Full,
    /// The listener is closed.
    Closed,
}

impl AcceptQueueState {
    /// Returns how many callers are ahead of the caller `id`; of a new caller without an `id`.
    /// Counts no further than to the length of the queue.
    fn rank(&self, id: Option<u64>) -> usize {
        let most = self.connections.len();
        match id {
            Some(id) => self.waiters.range(..id).take(most).count(),
            None => self.waiters.len(),
        }
    }

    /// Takes the waker of the last caller that has a connection in the queue.
    fn take_last_entitled(&mut self) -> Wakeup {
        let index = self.connections.len().checked_sub(1);
        let slot = index.and_then(|index| self.waiters.values_mut().nth(index));
        slot.map_or_else(Wakeup::none, WakerSlot::take)
    }

    /// Returns the acceptor if it is paused and has room again.
    fn take_resumable(&mut self) -> Option<OwnWaker> {
        let length = self.connections.len() + self.reserved;
        if self.pause == AcceptorPause::Off || length > RESUME_LENGTH {
            return None;
        }
        self.pause = AcceptorPause::Off;
        self.acceptor.clone()
    }
}

impl AcceptQueue {
    /// Reserves room for a connection that is about to be accepted.
    pub(super) fn reserve(self: &Arc<Self>) -> Result<QueueSlot, QueueUnavailable> {
        let mut state = lock(&self.state);
        if state.is_closed {
            return Err(QueueUnavailable::Closed);
        }
        if state.connections.len() + state.reserved >= QUEUE_CAPACITY {
            state.pause = AcceptorPause::QueueFull;
            return Err(QueueUnavailable::Full);
        }
        state.reserved += 1;
        Ok(QueueSlot {
            queue: Arc::clone(self),
        })
    }

    /// Returns the connection of the caller `id`, if it has arrived. Else the caller waits, and
    /// gets an `id` if it has none.
    pub(super) fn poll_next(
        &self,
        id: &mut Option<u64>,
        waker: &Waker,
    ) -> Poll<(Connection, ConnInfo)> {
        let (taken, slot, acceptor) = register(waker, |caller_waker| {
            let mut state = lock(&self.state);
            let rank = state.rank(*id);
            if let Some(taken) = state.connections.remove(rank) {
                let slot = id.take().and_then(|id| state.waiters.remove(&id));
                return Ok((Some(taken), slot, state.take_resumable()));
            }
            match id.and_then(|id| state.waiters.get_mut(&id)) {
                Some(known) => known.set(caller_waker)?,
                None => {
                    let slot = caller_waker.slot()?;
                    state.last_id += 1;
                    let id = *id.insert(state.last_id);
                    state.waiters.insert(id, slot);
                }
            }
            Ok((None, None, None))
        });
        drop(slot);
        wake_acceptor(acceptor);
        taken.map_or(Poll::Pending, Poll::Ready)
    }

    /// Removes the caller `id`. Its connection, if one has arrived, is for the caller behind it.
    pub(super) fn remove_waiter(&self, id: u64) {
        let mut state = lock(&self.state);
        let was_entitled = state.rank(Some(id)) < state.connections.len();
        let slot = state.waiters.remove(&id);
        let next = match was_entitled {
            true => state.take_last_entitled(),
            false => Wakeup::none(),
        };
        drop(state);
        drop(slot);
        next.wake();
    }

    /// Returns the right to start the acceptor; `None` if it runs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotRunning`] if the loop of the acceptor
    /// has stopped accepting.
    pub(super) fn claim_acceptor(self: &Arc<Self>) -> io::Result<Option<AcceptorGuard>> {
        let mut state = lock(&self.state);
        match state.status {
            AcceptorStatus::Running => Ok(None),
            AcceptorStatus::Stopped => Err(ErrorKind::NotRunning.into()),
            AcceptorStatus::None => {
                state.status = AcceptorStatus::Running;
                Ok(Some(AcceptorGuard {
                    queue: Arc::clone(self),
                    next_status: AcceptorStatus::None,
                }))
            }
        }
    }

    /// Returns whether no acceptor will serve the queue any more.
    pub(super) fn is_stopped(&self) -> bool {
        lock(&self.state).status == AcceptorStatus::Stopped
    }

    /// Returns whether the listener is closed.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).is_closed
    }

    /// Closes the queue and the connections in it. The acceptor ends soon after.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        let connections = std::mem::take(&mut state.connections);
        let acceptor = state.acceptor.clone();
        drop(state);
        wake_acceptor(acceptor);
        drop(connections);
    }
}

/// Wakes the acceptor, if there is one to wake. No lock is held.
fn wake_acceptor(acceptor: Option<OwnWaker>) {
    if let Some(acceptor) = acceptor {
        wake_by_ref(&acceptor);
    }
}

/// Room for one connection in the queue. Free again when it is dropped.
#[derive(Debug)]
pub(super) struct QueueSlot {
    queue: Arc<AcceptQueue>,
}

impl QueueSlot {
    /// Returns the factory of the engine of `accepted`. On the connection's poller, it puts the
    /// connection into the queue.
    pub(super) fn into_factory(self, accepted: Accepted, info: ConnInfo) -> SourceFactory {
        Box::new(move |registration| {
            let (connection, engine) = owned_connection(accepted, registration);
            self.push(connection, info);
            engine
        })
    }

    fn push(self, connection: Connection, info: ConnInfo) {
        let mut state = lock(&self.queue.state);
        if state.is_closed {
            drop(state);
            drop(connection);
            return;
        }
        state.connections.push_back((connection, info));
        let waker = state.take_last_entitled();
        drop(state);
        waker.wake();
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        let mut state = lock(&self.queue.state);
        state.reserved -= 1;
        let acceptor = state.take_resumable();
        drop(state);
        wake_acceptor(acceptor);
    }
}

/// Marks the queue as served by an acceptor. Its drop wakes the callers, so that one of them starts
/// the next acceptor or all of them return an error.
#[derive(Debug)]
pub(super) struct AcceptorGuard {
    queue: Arc<AcceptQueue>,
    /// The status after the end of this acceptor.
    next_status: AcceptorStatus,
}

impl AcceptorGuard {
    /// Makes this acceptor the last one.
    pub(super) fn set_last(&mut self) {
        self.next_status = AcceptorStatus::Stopped;
    }

    /// Sets the waker that resumes and ends the acceptor.
    pub(super) fn set_waker(&self, acceptor: &OwnWaker) {
        let before = lock(&self.queue.state).acceptor.replace(acceptor.clone());
        drop(before);
    }
}

impl Drop for AcceptorGuard {
    fn drop(&mut self) {
        let mut state = lock(&self.queue.state);
        state.status = self.next_status;
        state.pause = AcceptorPause::Off;
        let acceptor = state.acceptor.take();
        let mut woken = Wakeups::default();
        let slots = state.waiters.values_mut();
        slots.for_each(|slot| woken.add(slot.take()));
        drop(state);
        drop(acceptor);
        wake_in_turns(woken);
    }
}
