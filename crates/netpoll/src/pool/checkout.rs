// SPDX-License-Identifier: MIT OR Apache-2.0
//! Somebody who wants a connection, from when he comes until he has gone; and the connection that
//! he has meanwhile, which is [`Pooled`].
//!
//! Whatever stage he is at, his drop leaves everything as if he had not come. The permit is let go
//! last: who is handed it finds the connection that has come back.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use super::entry::{LivenessCheck, PooledEntry, StreamPositions};
use super::error::{PoolClosed, PoolTimedOut};
use super::host::{CheckoutStage, HostPool};
use super::shared::PoolShared;
use super::stats::{ConnPoolStats, DiscardReason};
use crate::connection::Connection;
use crate::dialer::Dialer;
use crate::semaphore::Permit;
use crate::sync::Arc;
use crate::time::timeout;

/// Somebody who wants a connection.
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

    /// Waits for the permit, if there was none.
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
                    return Err(PoolTimedOut { after }.into());
                }
            },
        };
        self.permit = Some(permit);
        Ok(())
    }

    /// Goes on to `stage`.
    fn change_stage(&mut self, stage: CheckoutStage, count: impl FnOnce(&mut ConnPoolStats)) {
        let stages = (std::mem::replace(&mut self.stage, stage), stage);
        self.pool.change_stage(&self.host, stages, count);
    }

    /// A connection that waited and may be used again, if there is one. Else this is the one who
    /// dials.
    pub(super) fn take_idle(&mut self) -> Result<Option<PooledEntry>, PoolClosed> {
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
                Err(why) => self.change_stage(CheckoutStage::Selecting, |counts| {
                    counts.discarded.count(why)
                }),
            }
        }
    }

    /// Looks for a connection that waits, and until when it might; the permit is there.
    fn pop_idle(&mut self) -> Result<Option<(PooledEntry, Option<Instant>)>, PoolClosed> {
        let mut state = self.host.state();
        if !state.is_open() {
            return Err(PoolClosed);
        }
        let picked = state.pop_idle();
        let next = match picked {
            Some(_) => CheckoutStage::Holding,
            None => CheckoutStage::Dialing,
        };
        state.change_stage(std::mem::replace(&mut self.stage, next), next);
        Ok(picked)
    }

    /// Makes a connection.
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
    ) -> Result<PooledEntry, PoolClosed> {
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
            Err(PoolClosed)
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

/// A connection of a [`ConnPool`](super::ConnPool), for a while: a [`Connection`] that its user gives
/// back with [`recycle`](Self::recycle) when the exchange is complete.
///
/// ```no_run
/// # async fn example(pool: &netpoll::ConnPool, addr: netpoll::Addr) -> std::io::Result<()> {
/// let mut conn = pool.get(addr).await?;
/// conn.writer().put_str("ping\n");
/// let count = conn.reader().until(b'\n', 64).await?.len();
/// println!("{count} bytes");
/// conn.recycle();
/// # Ok(()) }
/// ```
///
/// The pool does not know what a protocol still expects. A call that is given up between its request
/// and its answer (by a timeout, an error, a future that is dropped) leaves a connection on which the
/// answer comes later: the next user would take it for its own. So a connection that is dropped is
/// closed, unless it was not used at all: no byte was put and none was read since it was handed out.
///
/// What is given back is used again if nothing speaks against it: it is alive, nothing of it is unread,
/// unsent or uncommitted, this side's stream is not finished, and it is not too old. Else it is closed,
/// and [counted](super::DiscardedStats) by why. That costs a few locks; the kernel is asked when the
/// connection is handed out again. Timeouts that were changed and reads that were paused are as before
/// for who comes next; what is [attached](Connection::attach) stays.
#[must_use = "a connection that is dropped after it was used is closed; `recycle` gives it back"]
pub struct Pooled {
    /// `None` once it is somebody's for good.
    entry: Option<PooledEntry>,
    intent: ReturnIntent,
    /// When it was handed out.
    initial_positions: StreamPositions,
    checkout: Checkout,
}

/// What is known of the use of a connection when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReturnIntent {
    /// Nothing: it counts what was done.
    Unspecified,
    /// Its user has said that another may have it.
    Recycle,
    /// Its user has said that nobody may.
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

    /// Gives the connection back: the exchange is complete, and no answer will come that was asked for.
    /// If the connection cannot be used again, it is closed. Overrides a [`discard`](Self::discard).
    pub fn recycle(mut self) {
        self.intent = ReturnIntent::Recycle;
    }

    /// Has the connection closed when this is dropped, also if it was not used.
    pub fn discard(&mut self) {
        self.intent = ReturnIntent::Discard;
    }

    /// Takes a [`discard`](Self::discard) back. A connection that was used is given back by
    /// [`recycle`](Self::recycle) all the same, and by nothing else.
    pub fn keep(&mut self) {
        self.intent = ReturnIntent::Unspecified;
    }

    /// Takes the connection out of the pool for good: it does not count there any more, and another
    /// may be made in its place.
    #[must_use]
    pub fn detach(mut self) -> Connection {
        let entry = self.entry.take();
        self.checkout.finish(|counts| counts.detached += 1);
        entry.map_or_else(|| connection_taken(), |entry| entry.connection)
    }

    /// Whether `member` may be used by another, or why not.
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

/// Only a drop and a [`Pooled::detach`] take the connection, and nothing comes after them.
fn connection_taken() -> ! {
    unreachable!("a connection that was given away")
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
        let Some(mut member) = self.entry.take() else {
            return;
        };
        member.mark_returned();
        let reusable = self.check_reusable(&member);
        if reusable.is_ok() {
            member.restore_settings();
        }
        self.checkout.stage = CheckoutStage::Done;
        let Checkout { pool, host, .. } = &self.checkout;
        pool.check_in(host, member, reusable);
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = self.entry.as_ref().map(|entry| &entry.connection);
        f.debug_struct("Pooled")
            .field("connection", &connection)
            .field("end", &self.intent)
            .finish_non_exhaustive()
    }
}
