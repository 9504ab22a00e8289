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

use super::member::Member;
use super::refusal::{PoolClosed, PoolTimedOut};
use super::shared::{Found, Shared};
use super::site::Stage;
use super::stats::{ConnPoolStats, Discard};
use crate::addr::Addr;
use crate::connection::Connection;
use crate::dialer::Dialer;
use crate::permits::{Permit, Permits};
use crate::sync::Arc;
use crate::time::timeout;

/// Somebody who wants a connection.
pub(super) struct Visit {
    pool: Arc<Shared>,
    addr: Addr,
    permits: Arc<Permits>,
    stage: Stage,
    permit: Option<Permit>,
}

impl Visit {
    pub(super) fn new(
        pool: &Arc<Shared>,
        addr: Addr,
        permits: Arc<Permits>,
        (stage, permit): (Stage, Option<Permit>),
    ) -> Self {
        Self {
            pool: Arc::clone(pool),
            addr,
            permits,
            stage,
            permit,
        }
    }

    /// Waits for the permit, if there was none.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        if self.permit.is_some() {
            return Ok(());
        }
        let acquire = self.permits.acquire();
        let permit = match self.pool.options.wait_timeout {
            None => acquire.await,
            Some(after) => match timeout(after, acquire).await {
                Ok(permit) => permit,
                Err(_elapsed) => {
                    let stages = (self.stage, self.stage);
                    self.pool
                        .step(self.addr, stages, |counts| counts.timed_out += 1);
                    return Err(PoolTimedOut { after }.into());
                }
            },
        };
        self.permit = Some(permit);
        Ok(())
    }

    /// A connection that waited and may be used again, if there is one. Else this is the one who
    /// dials.
    pub(super) fn reuse(&mut self) -> Result<Option<Member>, PoolClosed> {
        loop {
            match self.pool.pick(self.addr, &mut self.stage)? {
                Found::Nothing => return Ok(None),
                Found::Idle(member, until) => {
                    let fitness = member.fitness().and_then(|()| match until {
                        Some(until) if until <= Instant::now() => Err(Discard::Idle),
                        _ => Ok(()),
                    });
                    let stage = match fitness {
                        Ok(()) => Stage::Has,
                        Err(_) => Stage::Looks,
                    };
                    let stages = (std::mem::replace(&mut self.stage, stage), stage);
                    self.pool.step(self.addr, stages, |counts| match fitness {
                        Ok(()) => counts.reused += 1,
                        Err(why) => counts.discarded.count(why),
                    });
                    if fitness.is_ok() {
                        return Ok(Some(member));
                    }
                }
            }
        }
    }

    /// Makes a connection.
    pub(super) async fn dial(&mut self, dialer: &Dialer) -> io::Result<Member> {
        match dialer.dial(self.addr).await {
            Ok(connection) => Ok(self.made(connection)?),
            Err(error) => {
                self.leave(|counts| counts.failed += 1);
                Err(error)
            }
        }
    }

    pub(super) fn made(&mut self, connection: Connection) -> Result<Member, PoolClosed> {
        match self.pool.number() {
            Ok(id) => {
                let stages = (std::mem::replace(&mut self.stage, Stage::Has), Stage::Has);
                self.pool.step(self.addr, stages, |counts| counts.made += 1);
                Ok(Member::new(connection, &self.pool, self.addr, id))
            }
            Err(closed) => {
                self.leave(|counts| {
                    counts.made += 1;
                    counts.discarded.count(Discard::PoolClosed);
                });
                Err(closed)
            }
        }
    }

    fn leave(&mut self, count: impl FnOnce(&mut ConnPoolStats)) {
        let stages = (std::mem::replace(&mut self.stage, Stage::Gone), Stage::Gone);
        self.pool.step(self.addr, stages, count);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.stage != Stage::Gone {
            self.leave(|_| ());
        }
    }
}

/// A connection of a [`ConnPool`](super::ConnPool), for a while: a [`Connection`] that goes back
/// when this is dropped.
///
/// It goes back if another may use it: it is alive, nothing of it is unread or unsent, this side's
/// stream is not finished, and it is not too old. Else it is closed. That costs a few locks and
/// one system call. Timeouts that were changed and reads that were paused are as before for who
/// comes next; what is [attached](Connection::attach) stays.
///
/// The pool does not know what a protocol still expects. A call that is given up between its
/// request and its answer leaves a connection on which the answer comes later, to the next user.
/// So a call that may be given up says [`discard`](Self::discard) before its request, and
/// [`keep`](Self::keep) behind its answer:
///
/// ```no_run
/// # async fn example(pool: &netpoll::ConnPool, addr: netpoll::Addr) -> std::io::Result<()> {
/// let mut conn = pool.get(addr).await?;
/// conn.discard();
/// conn.writer().put_str("ping\n");
/// let answer = conn.reader().until(b'\n', 64).await?;
/// conn.keep();
/// # Ok(()) }
/// ```
pub struct Pooled {
    /// `None` once it is somebody's for good.
    member: Option<Member>,
    kept: bool,
    visit: Visit,
}

impl Pooled {
    pub(super) fn new(member: Member, visit: Visit) -> Self {
        Self {
            member: Some(member),
            kept: true,
            visit,
        }
    }

    /// Has the connection closed and not used again when this is dropped.
    pub fn discard(&mut self) {
        self.kept = false;
    }

    /// Takes a [`discard`](Self::discard) back.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Takes the connection out of the pool for good: it does not count there any more, and another
    /// may be made in its place.
    #[must_use]
    pub fn detach(mut self) -> Connection {
        let member = self.member.take();
        self.visit.leave(|counts| counts.detached += 1);
        member.map_or_else(|| gone(), |member| member.connection)
    }
}

/// Only a drop and a [`Pooled::detach`] take the connection, and nothing comes after them.
fn gone() -> ! {
    unreachable!("a connection that was given away")
}

impl Deref for Pooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.member
            .as_ref()
            .map_or_else(|| gone(), |member| &member.connection)
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        self.member
            .as_mut()
            .map_or_else(|| gone(), |member| &mut member.connection)
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(member) = self.member.take() else {
            return;
        };
        let fitness = if self.kept && !std::thread::panicking() {
            member.fitness()
        } else {
            Err(Discard::ByUser)
        };
        if fitness.is_ok() {
            member.reset();
        }
        self.visit.stage = Stage::Gone;
        let Visit { pool, addr, .. } = &self.visit;
        pool.give_back(*addr, member, fitness);
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = self.member.as_ref().map(|member| &member.connection);
        f.debug_struct("Pooled")
            .field("connection", &connection)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}
