// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which poller a source belongs to that nobody has chosen one for: a connection that is dialed, a
//! timer.
//!
//! On a poller, or in a handler that works for one: that one, so that a proxy's two sides need no
//! hop. Elsewhere one of a set that all of the process share; or, for a dialer that was told of a loop,
//! one of that loop's, which a [`PollerRegistry`] knows.

use std::io;
use std::time::Duration;

use netpoll_buffer::Pool;

use super::mailbox::{Command, Mailbox};
use super::notifier;
use super::poller_registry::PollerRegistry;
use super::recovery::Supervisor;
use super::set::{LoadGuard, PollerConfig, PollerHandle, PollerSet};
use super::source::SourceFactory;
use crate::budget::{Budget, LoopMemory};
use crate::error::NotRunning;
use crate::sync::{Arc, PoisonError};

/// The poller of a new source.
pub(crate) enum Placement {
    /// The caller's.
    Current(Arc<Mailbox>),
    /// One that was chosen.
    Selected(PollerHandle),
}

impl Placement {
    /// The poller that the caller's sources belong to; one of a loop's, if that is given.
    pub(crate) fn select(pollers: Option<&PollerRegistry>) -> io::Result<Self> {
        if let Some(pollers) = pollers {
            let chosen = pollers.choose().ok_or(NotRunning::new())?;
            return Ok(Self::Selected(chosen));
        }
        match notifier::current_mailbox() {
            Some(here) => Ok(Self::Current(here)),
            None => Ok(Self::Selected(
                shared_pollers()?.least_connections().clone(),
            )),
        }
    }

    /// A seat at a poller that was chosen for having the fewest connections.
    pub(crate) fn load_guard(&self) -> Option<LoadGuard> {
        match self {
            Self::Current(_) => None,
            Self::Selected(poller) => Some(poller.add_connection(None)),
        }
    }

    /// For how long that poller waits awake before it sleeps; zero if it does not.
    pub(crate) fn busy_poll(&self) -> Duration {
        match self {
            Self::Current(mailbox) => mailbox.busy_poll(),
            Self::Selected(poller) => poller.busy_poll(),
        }
    }

    /// What the loop of that poller may use.
    pub(crate) fn memory(&self) -> LoopMemory {
        match self {
            Self::Current(mailbox) => mailbox.memory(),
            Self::Selected(poller) => poller.mailbox().memory(),
        }
    }

    /// Has a source made there.
    pub(crate) fn register(&self, factory: SourceFactory) {
        match self {
            Self::Current(mailbox) => mailbox.send(Command::Register(factory)),
            Self::Selected(poller) => poller.register(factory),
        }
    }
}

/// Has a source made on the poller that the caller's sources belong to.
pub(crate) fn register_source(factory: SourceFactory) -> io::Result<()> {
    Placement::select(None)?.register(factory);
    Ok(())
}

/// The pollers of all that is not made on a poller. If they cannot be started, the next call tries
/// again: descriptors run out and come back. So does the next call after one of them was given up.
fn shared_pollers() -> io::Result<&'static PollerSet> {
    // The standard library's: no model dials, and a model checker's lock cannot be a static.
    static SET: std::sync::Mutex<Option<&'static PollerSet>> = std::sync::Mutex::new(None);
    let mut known = SET.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(set) = *known
        && !set.has_ended_poller()
    {
        return Ok(set);
    }
    let setup = PollerConfig {
        budget: Budget::of(Pool::current(), usize::MAX),
        thread_hook: None,
        busy_poll: Duration::ZERO,
        supervisor: Supervisor::default(),
    };
    let set = PollerSet::start(&[Arc::default()], &setup)?;
    // It is there for as long as the process is.
    Ok(*known.insert(Box::leak(Box::new(set))))
}
