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

use super::member::{Look, Member, Progress};
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
    member: Option<Member>,
    end: Use,
    /// When it was handed out.
    before: Progress,
    visit: Visit,
}

/// What is known of the use of a connection when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nothing: it counts what was done.
    Open,
    /// Its user has said that another may have it.
    Complete,
    /// Its user has said that nobody may.
    Spoilt,
}

impl Pooled {
    pub(super) fn new(mut member: Member, visit: Visit) -> Self {
        member.go_out();
        Self {
            before: member.progress(),
            member: Some(member),
            end: Use::Open,
            visit,
        }
    }

    /// Gives the connection back: the exchange is complete, and no answer will come that was asked for.
    /// If the connection cannot be used again, it is closed. Overrides a [`discard`](Self::discard).
    pub fn recycle(mut self) {
        self.end = Use::Complete;
    }

    /// Has the connection closed when this is dropped, also if it was not used.
    pub fn discard(&mut self) {
        self.end = Use::Spoilt;
    }

    /// Takes a [`discard`](Self::discard) back. A connection that was used is given back by
    /// [`recycle`](Self::recycle) all the same, and by nothing else.
    pub fn keep(&mut self) {
        self.end = Use::Open;
    }

    /// Takes the connection out of the pool for good: it does not count there any more, and another
    /// may be made in its place.
    #[must_use]
    pub fn detach(mut self) -> Connection {
        let member = self.member.take();
        self.visit.leave(|counts| counts.detached += 1);
        member.map_or_else(|| gone(), |member| member.connection)
    }

    /// Whether `member` may be used by another, or why not.
    fn fitness(&self, member: &Member) -> Result<(), Discard> {
        if self.end == Use::Spoilt || std::thread::panicking() {
            return Err(Discard::ByUser);
        }
        member.fitness(Look::Seen)?;
        let now = member.progress();
        if now == self.before || (self.end == Use::Complete && now.is_of_same(self.before)) {
            Ok(())
        } else {
            Err(Discard::NotRecycled)
        }
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
        let fitness = self.fitness(&member);
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
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
