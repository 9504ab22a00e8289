// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which poller a source belongs to that nobody has chosen one for: a connection that is dialed, a
//! timer.
//!
//! On a poller, or in a handler that works for one: that one, so that a proxy's two sides need no
//! hop. Elsewhere one of a set that all of the process share; or, for a dialer that was told of a loop,
//! one of that loop's, which a [`Roster`] knows.

use std::io;
use std::time::Duration;

use netpoll_buffer::Pool;

use super::bell;
use super::mailbox::{Letter, Mailbox};
use super::recovery::Supervisor;
use super::roster::Roster;
use super::set::{PollerHandle, PollerSet, Seat, Setup};
use super::source::Birth;
use crate::budget::{Budget, LoopMemory};
use crate::error::NotRunning;
use crate::sync::{Arc, PoisonError};

/// The poller of a new source.
pub(crate) enum Home {
    /// The caller's.
    Here(Arc<Mailbox>),
    /// One that was chosen.
    Chosen(PollerHandle),
}

impl Home {
    /// The poller that the caller's sources belong to; one of a loop's, if that is given.
    pub(crate) fn of(roster: Option<&Roster>) -> io::Result<Self> {
        if let Some(roster) = roster {
            let chosen = roster.choose().ok_or(NotRunning::new())?;
            return Ok(Self::Chosen(chosen));
        }
        match bell::mailbox_here() {
            Some(here) => Ok(Self::Here(here)),
            None => Ok(Self::Chosen(shared_set()?.least_connections().clone())),
        }
    }

    /// A seat at a poller that was chosen for having the fewest connections.
    pub(crate) fn seat(&self) -> Option<Seat> {
        match self {
            Self::Here(_) => None,
            Self::Chosen(poller) => Some(poller.sit(None)),
        }
    }

    /// For how long that poller waits awake before it sleeps; zero if it does not.
    pub(crate) fn busy_poll(&self) -> Duration {
        match self {
            Self::Here(mailbox) => mailbox.busy_poll(),
            Self::Chosen(poller) => poller.busy_poll(),
        }
    }

    /// What the loop of that poller may use.
    pub(crate) fn memory(&self) -> LoopMemory {
        match self {
            Self::Here(mailbox) => mailbox.memory(),
            Self::Chosen(poller) => poller.mailbox().memory(),
        }
    }

    /// Has a source made there.
    pub(crate) fn register(&self, birth: Birth) {
        match self {
            Self::Here(mailbox) => mailbox.post(Letter::Register(birth)),
            Self::Chosen(poller) => poller.register(birth),
        }
    }
}

/// Has a source made on the poller that the caller's sources belong to.
pub(crate) fn hand_over(birth: Birth) -> io::Result<()> {
    Home::of(None)?.register(birth);
    Ok(())
}

/// The pollers of all that is not made on a poller. If they cannot be started, the next call tries
/// again: descriptors run out and come back. So does the next call after one of them was given up.
fn shared_set() -> io::Result<&'static PollerSet> {
    // The standard library's: no model dials, and a model checker's lock cannot be a static.
    static SET: std::sync::Mutex<Option<&'static PollerSet>> = std::sync::Mutex::new(None);
    let mut known = SET.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(set) = *known
        && !set.is_lost()
    {
        return Ok(set);
    }
    let setup = Setup {
        budget: Budget::of(Pool::of_thread(), usize::MAX),
        around: None,
        busy_poll: Duration::ZERO,
        supervisor: Supervisor::default(),
    };
    let set = PollerSet::start(&[Arc::default()], &setup)?;
    // It is there for as long as the process is.
    Ok(*known.insert(Box::leak(Box::new(set))))
}
