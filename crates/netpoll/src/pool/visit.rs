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

use super::member::{Look, Member};
use super::refusal::{PoolClosed, PoolTimedOut};
use super::shared::Shared;
use super::site::{Site, Stage};
use super::stats::{ConnPoolStats, Discard};
use crate::connection::Connection;
use crate::dialer::Dialer;
use crate::permits::Permit;
use crate::sync::Arc;
use crate::time::timeout;

/// Somebody who wants a connection.
pub(super) struct Visit {
    pool: Arc<Shared>,
    site: Arc<Site>,
    stage: Stage,
    permit: Option<Permit>,
}

impl Visit {
    pub(super) fn new(
        pool: &Arc<Shared>,
        site: Arc<Site>,
        stage: Stage,
        permit: Option<Permit>,
    ) -> Self {
        Self {
            pool: Arc::clone(pool),
            site,
            stage,
            permit,
        }
    }

    /// Waits for the permit, if there was none.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        if self.permit.is_some() {
            return Ok(());
        }
        let acquire = self.site.permits.acquire();
        let permit = match self.pool.options.wait_timeout {
            None => acquire.await,
            Some(after) => match timeout(after, acquire).await {
                Ok(permit) => permit,
                Err(_elapsed) => {
                    self.step(self.stage, |counts| counts.timed_out += 1);
                    return Err(PoolTimedOut { after }.into());
                }
            },
        };
        self.permit = Some(permit);
        Ok(())
    }

    /// Goes on to `stage`.
    fn step(&mut self, stage: Stage, count: impl FnOnce(&mut ConnPoolStats)) {
        let stages = (std::mem::replace(&mut self.stage, stage), stage);
        self.pool.step(&self.site, stages, count);
    }

    /// A connection that waited and may be used again, if there is one. Else this is the one who
    /// dials.
    pub(super) fn reuse(&mut self) -> Result<Option<Member>, PoolClosed> {
        loop {
            let Some((member, until)) = self.pick()? else {
                return Ok(None);
            };
            let fitness = member.fitness(Look::Kernel).and_then(|()| match until {
                Some(until) if until <= Instant::now() => Err(Discard::Idle),
                _ => Ok(()),
            });
            match fitness {
                Ok(()) => {
                    self.step(Stage::Has, |counts| counts.reused += 1);
                    return Ok(Some(member));
                }
                Err(why) => self.step(Stage::Looks, |counts| counts.discarded.count(why)),
            }
        }
    }

    /// Looks for a connection that waits, and until when it might; the permit is there.
    fn pick(&mut self) -> Result<Option<(Member, Option<Instant>)>, PoolClosed> {
        let mut state = self.site.state();
        if !state.is_open() {
            return Err(PoolClosed);
        }
        let picked = state.pick();
        let next = match picked {
            Some(_) => Stage::Has,
            None => Stage::Dials,
        };
        state.step(std::mem::replace(&mut self.stage, next), next);
        Ok(picked)
    }

    /// Makes a connection.
    pub(super) async fn dial(&mut self, dialer: &Dialer) -> io::Result<Member> {
        match dialer.dial(self.site.addr).await {
            Ok(connection) => Ok(self.made(connection)?),
            Err(error) => {
                self.leave(|counts| counts.failed += 1);
                Err(error)
            }
        }
    }

    pub(super) fn made(&mut self, connection: Connection) -> Result<Member, PoolClosed> {
        let mut state = self.site.state();
        let (open, number) = (state.is_open(), state.number());
        drop(state);
        if open {
            self.step(Stage::Has, |counts| counts.made += 1);
            Ok(Member::new(connection, &self.pool, &self.site, number))
        } else {
            self.leave(|counts| {
                counts.made += 1;
                counts.discarded.count(Discard::PoolClosed);
            });
            Err(PoolClosed)
        }
    }

    fn leave(&mut self, count: impl FnOnce(&mut ConnPoolStats)) {
        self.step(Stage::Gone, count);
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
/// It goes back if another may use it, as far as its poller has seen: it is alive, nothing of it is
/// unread or unsent, this side's stream is not finished, and it is not too old. Else it is closed.
/// That costs a few locks; the kernel is asked when it is handed out again. Timeouts that were
/// changed and reads that were paused are as before for who comes next; what is
/// [attached](Connection::attach) stays.
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
    pub(super) fn new(mut member: Member, visit: Visit) -> Self {
        member.go_out();
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
        let Some(mut member) = self.member.take() else {
            return;
        };
        member.come_back();
        let fitness = if self.kept && !std::thread::panicking() {
            member.fitness(Look::Seen)
        } else {
            Err(Discard::ByUser)
        };
        if fitness.is_ok() {
            member.reset();
        }
        self.visit.stage = Stage::Gone;
        let Visit { pool, site, .. } = &self.visit;
        pool.give_back(site, member, fitness);
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
