// SPDX-License-Identifier: MIT OR Apache-2.0
//! The choice of a poller for a source that has none: a dialed connection, a timer.
//!
//! On a poller, or in a handler that runs for one, it is that poller, so that both sides of a proxy
//! share one. Elsewhere it is one of a set that the whole process shares; or, for a dialer of a
//! loop, one of the loop's pollers, which a [`PollerRegistry`] lists.

use std::io;
use std::time::Duration;

use netpoll_buffer::Pool;

use super::mailbox::{Command, Mailbox};
use super::notifier;
use super::poller_registry::PollerRegistry;
use super::recovery::Supervisor;
use super::set::{LoadGuard, PollerConfig, PollerGroup, PollerHandle, PollerSet};
use super::source::SourceFactory;
use crate::budget::{Budget, LoopMemory};
use crate::error::ErrorKind;
use crate::sync::{Arc, PoisonError};

/// The poller of a new source.
pub(crate) enum Placement {
    /// The caller's poller.
    Current(Arc<Mailbox>),
    /// A selected poller.
    Selected(PollerHandle),
}

impl Placement {
    /// Selects the poller for the caller's sources: one of `pollers`, if that is given.
    pub(crate) fn select(pollers: Option<&PollerRegistry>) -> io::Result<Self> {
        if let Some(pollers) = pollers {
            let chosen = pollers.choose().ok_or(ErrorKind::NotRunning)?;
            return Ok(Self::Selected(chosen));
        }
        match notifier::current_mailbox() {
            Some(here) => Ok(Self::Current(here)),
            None => Ok(Self::Selected(
                shared_pollers()?.least_connections().clone(),
            )),
        }
    }

    /// Counts a connection at a selected poller, which was the one with the fewest.
    pub(crate) fn load_guard(&self) -> Option<LoadGuard> {
        match self {
            Self::Current(_) => None,
            Self::Selected(poller) => Some(poller.add_connection(None)),
        }
    }

    /// Returns how long the poller busy polls before it sleeps; zero if it does not.
    pub(crate) fn busy_poll(&self) -> Duration {
        match self {
            Self::Current(mailbox) => mailbox.busy_poll(),
            Self::Selected(poller) => poller.busy_poll(),
        }
    }

    /// Returns the memory that the poller's loop may use.
    pub(crate) fn memory(&self) -> LoopMemory {
        match self {
            Self::Current(mailbox) => mailbox.memory(),
            Self::Selected(poller) => poller.mailbox().memory(),
        }
    }

    /// Registers a source there.
    pub(crate) fn register(&self, factory: SourceFactory) {
        match self {
            Self::Current(mailbox) => mailbox.send(Command::Register(factory)),
            Self::Selected(poller) => poller.register(factory),
        }
    }
}

/// Registers a source with the poller for the caller's sources.
pub(crate) fn register_source(factory: SourceFactory) -> io::Result<()> {
    Placement::select(None)?.register(factory);
    Ok(())
}

/// Returns the process-wide pollers, for listeners without a loop.
pub(crate) fn shared_group() -> io::Result<PollerGroup> {
    Ok(shared_pollers()?.to_group())
}

/// Returns the process-wide pollers, for sources created outside of a poller. If they fail to
/// start, the next call tries again: descriptors run out and come back. The next call also starts
/// new ones after one of them was abandoned.
fn shared_pollers() -> io::Result<&'static PollerSet> {
    // The standard library's mutex: no model dials, and a model checker's lock cannot be a static.
    static SET: std::sync::Mutex<Option<&'static PollerSet>> = std::sync::Mutex::new(None);
    let mut known = SET.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(set) = *known
        && !set.has_ended_poller()
    {
        return Ok(set);
    }
    let config = PollerConfig {
        budget: Budget::of(Pool::current(), usize::MAX),
        thread_hook: None,
        busy_poll: Duration::ZERO,
        supervisor: Supervisor::default(),
    };
    let set = PollerSet::start(&[Arc::default()], &config)?;
    // It lives as long as the process.
    Ok(*known.insert(Box::leak(Box::new(set))))
}
