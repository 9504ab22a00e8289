// SPDX-License-Identifier: MIT OR Apache-2.0
//! One checkout: a caller of the pool from its request to the return of its connection, which it
//! holds as a [`Pooled`].
//!
//! Dropping a checkout at any stage undoes it. The permit is released last, so that the next caller
//! with a permit finds the returned connection.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use super::entry::{LivenessCheck, PooledEntry, StreamPositions};
use super::host::{CheckoutStage, HostPool};
use super::shared::PoolShared;
use super::stats::{ConnPoolStats, DiscardReason};
use crate::connection::Connection;
use crate::dialer::Dialer;
use crate::error::ErrorKind;
use crate::semaphore::Permit;
use crate::sync::Arc;
use crate::time::timeout;

/// A caller that wants or has a connection.
pub(super) struct Checkout {
    pool: Arc<PoolShared>,
    host: Arc<HostPool>,
    stage: CheckoutStage,
    permit: Option<Permit>,
}

impl Checkout {
    pub(super) fn new(
        pool: &Arc<PoolShared>,
        host: Arc<HostPool>,
        stage: CheckoutStage,
        permit: Option<Permit>,
    ) -> Self {
        Self {
            pool: Arc::clone(pool),
            host,
            stage,
            permit,
        }
    }

    /// Waits for a permit, unless the checkout started with one.
    pub(super) async fn acquire_permit(&mut self) -> io::Result<()> {
        if self.permit.is_some() {
            return Ok(());
        }
        let acquire = self.host.semaphore.acquire();
        let permit = match self.pool.options.wait_timeout {
            None => acquire.await,
            Some(after) => match timeout(after, acquire).await {
                Ok(permit) => permit,
                Err(_elapsed) => {
                    self.change_stage(self.stage, |counts| counts.timed_out += 1);
                    return Err(ErrorKind::PoolTimedOut { after }.into());
                }
            },
        };
        self.permit = Some(permit);
        Ok(())
    }

    /// Moves to `stage`, and updates the counters with `count`.
    fn change_stage(&mut self, stage: CheckoutStage, count: impl FnOnce(&mut ConnPoolStats)) {
        let stages = (std::mem::replace(&mut self.stage, stage), stage);
        self.pool.change_stage(&self.host, stages, count);
    }

    /// Returns an idle connection that can be reused. If there is none, this checkout has to dial.
    pub(super) fn take_idle(&mut self) -> Result<Option<PooledEntry>, ErrorKind> {
        loop {
            let Some((entry, until)) = self.pop_idle()? else {
                return Ok(None);
            };
            let reusable = entry
                .check_reusable(LivenessCheck::Kernel)
                .and_then(|()| match until {
                    Some(until) if until <= Instant::now() => Err(DiscardReason::Idle),
                    _ => Ok(()),
                });
            match reusable {
                Ok(()) => {
                    self.change_stage(CheckoutStage::Holding, |counts| counts.reused += 1);
                    return Ok(Some(entry));
                }
                Err(reason) => self.change_stage(CheckoutStage::Selecting, |counts| {
                    counts.discarded.count(reason)
                }),
            }
        }
    }

    /// Takes an idle connection with its idle deadline. The caller has the permit.
    fn pop_idle(&mut self) -> Result<Option<(PooledEntry, Option<Instant>)>, ErrorKind> {
        let mut state = self.host.state();
        if !state.is_open() {
            return Err(ErrorKind::PoolClosed);
        }
        let picked = state.pop_idle();
        let next = match picked {
            Some(_) => CheckoutStage::Holding,
            None => CheckoutStage::Dialing,
        };
        state.change_stage(std::mem::replace(&mut self.stage, next), next);
        Ok(picked)
    }

    /// Dials a new connection.
    pub(super) async fn dial(&mut self, dialer: &Dialer) -> io::Result<PooledEntry> {
        match dialer.dial(self.host.addr).await {
            Ok(connection) => Ok(self.add_connection(connection)?),
            Err(error) => {
                self.finish(|counts| counts.failed += 1);
                Err(error)
            }
        }
    }

    pub(super) fn add_connection(
        &mut self,
        connection: Connection,
    ) -> Result<PooledEntry, ErrorKind> {
        let mut state = self.host.state();
        let (open, number) = (state.is_open(), state.next_id());
        drop(state);
        if open {
            self.change_stage(CheckoutStage::Holding, |counts| counts.created += 1);
            Ok(PooledEntry::new(connection, &self.pool, &self.host, number))
        } else {
            self.finish(|counts| {
                counts.created += 1;
                counts.discarded.count(DiscardReason::PoolClosed);
            });
            Err(ErrorKind::PoolClosed)
        }
    }

    fn finish(&mut self, count: impl FnOnce(&mut ConnPoolStats)) {
        self.change_stage(CheckoutStage::Done, count);
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if self.stage != CheckoutStage::Done {
            self.finish(|_| ());
        }
    }
}

/// A connection in use of a [`ConnPool`](super::ConnPool). Derefs to [`Connection`]. When the
/// exchange is complete, [`recycle`](Self::recycle) returns it to the pool.
///
/// ```no_run
/// # async fn example(pool: &netpoll::pool::ConnPool, addr: netpoll::Addr) -> std::io::Result<()> {
/// let mut conn = pool.get(addr).await?;
/// conn.writer().put_str("ping\n");
/// let count = conn.reader().until(b'\n', 64).await?.len();
/// println!("{count} bytes");
/// conn.recycle();
/// # Ok(()) }
/// ```
///
/// The pool does not know whether an answer is outstanding. A call that is abandoned between its
/// request and its answer (by a timeout, an error, a dropped future) leaves a connection on which
/// the answer arrives later, and the next user would take it as its own. So a connection that is
/// dropped is closed, unless it was not used at all: no byte was written to it or consumed from it
/// since it was handed out.
///
/// A returned connection is reused if it is alive, has nothing unread, unsent or uncommitted, is
/// not half-closed by this side, and is not too old. Otherwise it is closed and
/// [counted](super::DiscardedStats) by reason. Returning costs a few locks; the kernel is asked
/// only when the connection is handed out again. Changed timeouts and paused reads are reset for
/// the next user; [attached](Connection::attach) values stay.
#[must_use = "a connection that was used and is dropped is closed; `recycle` returns it to the pool"]
pub struct Pooled {
    /// `None` once the connection was returned or detached.
    entry: Option<PooledEntry>,
    intent: ReturnIntent,
    /// The stream positions at the checkout.
    initial_positions: StreamPositions,
    checkout: Checkout,
}

/// What the user requested for the end of a connection's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReturnIntent {
    /// Nothing: the connection is kept if it was not used.
    Unspecified,
    /// The exchange is complete; the connection can be reused.
    Recycle,
    /// The connection must be closed.
    Discard,
}

impl Pooled {
    pub(super) fn new(mut entry: PooledEntry, checkout: Checkout) -> Self {
        entry.mark_checked_out();
        Self {
            initial_positions: entry.positions(),
            entry: Some(entry),
            intent: ReturnIntent::Unspecified,
            checkout,
        }
    }

    /// Returns the connection to the pool: the exchange is complete, and no requested answer is
    /// outstanding. A connection that cannot be reused is closed. Overrides a
    /// [`discard`](Self::discard).
    pub fn recycle(mut self) {
        self.intent = ReturnIntent::Recycle;
    }

    /// Marks the connection to be closed when it is dropped, even if it was not used.
    pub fn discard(&mut self) {
        self.intent = ReturnIntent::Discard;
    }

    /// Revokes a [`discard`](Self::discard). A connection that was used still returns to the pool
    /// by [`recycle`](Self::recycle) only.
    pub fn keep(&mut self) {
        self.intent = ReturnIntent::Unspecified;
    }

    /// Removes the connection from the pool for good. It no longer counts, and the pool may dial
    /// another in its place.
    #[must_use]
    pub fn detach(mut self) -> Connection {
        let entry = self.entry.take();
        self.checkout.finish(|counts| counts.detached += 1);
        entry.map_or_else(|| connection_taken(), |entry| entry.connection)
    }

    /// Returns whether `entry` can be reused, or why not.
    fn check_reusable(&self, entry: &PooledEntry) -> Result<(), DiscardReason> {
        if self.intent == ReturnIntent::Discard || std::thread::panicking() {
            return Err(DiscardReason::ByUser);
        }
        entry.check_reusable(LivenessCheck::Cached)?;
        let now = entry.positions();
        if now == self.initial_positions
            || (self.intent == ReturnIntent::Recycle
                && now.is_same_connection(self.initial_positions))
        {
            Ok(())
        } else {
            Err(DiscardReason::NotRecycled)
        }
    }
}

/// Only `drop` and [`Pooled::detach`] take the connection, and both end this value.
fn connection_taken() -> ! {
    unreachable!("the connection was returned or detached")
}

impl Deref for Pooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.entry
            .as_ref()
            .map_or_else(|| connection_taken(), |entry| &entry.connection)
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        self.entry
            .as_mut()
            .map_or_else(|| connection_taken(), |entry| &mut entry.connection)
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(mut entry) = self.entry.take() else {
            return;
        };
        entry.mark_returned();
        let reusable = self.check_reusable(&entry);
        if reusable.is_ok() {
            entry.restore_settings();
        }
        self.checkout.stage = CheckoutStage::Done;
        let Checkout { pool, host, .. } = &self.checkout;
        pool.check_in(host, entry, reusable);
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = self.entry.as_ref().map(|entry| &entry.connection);
        f.debug_struct("Pooled")
            .field("connection", &connection)
            .field("intent", &self.intent)
            .finish_non_exhaustive()
    }
}
