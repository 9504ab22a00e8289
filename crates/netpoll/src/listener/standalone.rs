// SPDX-License-Identifier: MIT OR Apache-2.0
//! A [`Listener`] without an event loop: the options of its connections, and its acceptor.
//!
//! The first caller that waits for a connection starts an acceptor on a poller. The acceptor has a
//! duplicate of the descriptor, so that the owner can drop its own at any time. The drop of the
//! listener also replaces the duplicate by another file: the address is free when the drop returns,
//! even if the poller is blocked.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Weak;

use super::Listener;
use super::accept_queue::{AcceptQueue, AcceptorGuard};
use super::acceptor::{Acceptor, default_max_connections};
use super::destination::{AcceptContext, Destination};
use super::filter::Filter;
use crate::admission::{AcceptStats, AdmissionControl};
use crate::budget::Budget;
use crate::connection::service::ServiceConfig;
use crate::error::{ErrorKind, InvalidConfig};
use crate::event::EventSink;
use crate::options::ConnOptions;
use crate::poll::balance::Balance;
use crate::poll::placement::shared_group;
use crate::poll::poller_registry::{PollerRegistry, WaitForStart};
use crate::poll::set::{PollerGroup, PollerHandle};
use crate::sync::{Arc, Mutex, OnceLock, lock};

/// The part of a listener that accepts without a loop. Its drop stops that.
#[derive(Default)]
pub(super) struct Standalone {
    pub(super) config: StandaloneConfig,
    /// Set by the first caller that waits for a connection.
    state: OnceLock<Box<StandaloneState>>,
}

/// The configuration that the owner of a listener has set.
#[derive(Default)]
pub(super) struct StandaloneConfig {
    pub(super) options: ConnOptions,
    pub(super) max_connections: Option<usize>,
    pub(super) accept_rate: Option<u32>,
    pub(super) filter: Option<Filter>,
    /// The loop whose pollers get the connections; `None` for those of the process.
    pub(super) bound_loop: Option<BoundLoop>,
}

/// The loop that a listener uses.
pub(super) struct BoundLoop {
    pub(super) pollers: PollerRegistry,
    pub(super) budget: Budget,
}

struct StandaloneState {
    queue: Arc<AcceptQueue>,
    admission: Arc<AdmissionControl>,
    config: Arc<ServiceConfig>,
    acceptor: Mutex<Option<StartedAcceptor>>,
}

/// The acceptor that was started last.
struct StartedAcceptor {
    /// Its duplicate of the socket, while it exists.
    socket: Weak<Listener>,
    poller: PollerHandle,
}

impl StandaloneConfig {
    /// Rejects values that cannot work, by the name of the field.
    fn check(&self) -> Result<(), InvalidConfig> {
        self.options.check()?;
        if self.max_connections == Some(0) {
            return Err(InvalidConfig::new("max_connections", "must be at least 1"));
        }
        if self.accept_rate == Some(0) {
            let expected = "must be at least 1; use None to disable it";
            return Err(InvalidConfig::new("accept_rate", expected));
        }
        match &self.bound_loop {
            Some(bound) => bound
                .pollers
                .memory()
                .check_max_frame(self.options.max_frame),
            None => Ok(()),
        }
    }

    fn to_state(&self) -> StandaloneState {
        let budget = match &self.bound_loop {
            Some(bound) => bound.budget.clone(),
            None => Budget::unlimited(),
        };
        let limit = self.max_connections.unwrap_or_else(default_max_connections);
        let event_sink = EventSink::default();
        let admission = AdmissionControl::new(limit, self.accept_rate, budget, event_sink);
        // The connections belong to their owners: no loop waits for them.
        let tracker = Arc::default();
        StandaloneState {
            queue: Arc::default(),
            admission: Arc::new(admission),
            config: Arc::new(ServiceConfig::new(self.options.clone(), &tracker, None)),
            acceptor: Mutex::default(),
        }
    }

    /// Returns the pollers that get the connections.
    fn pollers(&self) -> io::Result<PollerGroup> {
        match &self.bound_loop {
            Some(bound) => bound.pollers.group().ok_or(ErrorKind::NotRunning.into()),
            None => shared_group(),
        }
    }
}

impl Standalone {
    /// Returns a future of the start of the loop that the listener is bound to, if there is one.
    pub(super) fn wait_for_loop(&self) -> Option<WaitForStart<'_>> {
        let bound = self.config.bound_loop.as_ref()?;
        Some(bound.pollers.wait_for_start())
    }

    fn state(&self) -> Result<&StandaloneState, InvalidConfig> {
        if let Some(state) = self.state.get() {
            return Ok(state);
        }
        self.config.check()?;
        Ok(self.state.get_or_init(|| Box::new(self.config.to_state())))
    }

    /// Returns the queue of accepted connections.
    pub(super) fn queue(&self) -> io::Result<&Arc<AcceptQueue>> {
        Ok(&self.state()?.queue)
    }

    /// Returns whether the loop of the listener has ended or stopped accepting. Called once the
    /// loop has started or will never start.
    pub(super) fn is_stopped(&self) -> bool {
        let has_ended = |bound: &BoundLoop| !bound.pollers.is_running();
        self.config.bound_loop.as_ref().is_some_and(has_ended)
            || self
                .state
                .get()
                .is_some_and(|state| state.queue.is_stopped())
    }

    /// Starts the acceptor of `socket`, unless it runs.
    pub(super) fn ensure_accepting(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let state = self.state()?;
        match state.queue.claim_acceptor()? {
            Some(guard) => self.start(state, socket, guard),
            None => Ok(()),
        }
    }

    fn start(
        &self,
        state: &StandaloneState,
        socket: BorrowedFd<'_>,
        mut guard: AcceptorGuard,
    ) -> io::Result<()> {
        let pollers = self.config.pollers()?;
        // Shared: at the end of a loop, the owner of the listener keeps what the kernel has queued.
        let duplicate = Arc::new(Listener::shared(socket.try_clone_to_owned()?));
        let poller = pollers.least_connections().clone();
        if self.config.bound_loop.is_some() {
            guard.set_last();
        }
        let accept_context = AcceptContext {
            pollers,
            destination: Destination::Queue {
                queue: Arc::clone(&state.queue),
                config: Arc::clone(&state.config),
            },
            admission: Arc::clone(&state.admission),
            filter: self.config.filter.clone(),
            balance: Balance::default(),
        };
        let started = StartedAcceptor {
            socket: Arc::downgrade(&duplicate),
            poller: poller.clone(),
        };
        let before = lock(&state.acceptor).replace(started);
        drop(before);
        let accept_context = Arc::new(accept_context);
        poller.register(Acceptor::queue_factory(duplicate, guard, &accept_context));
        Ok(())
    }

    /// Returns the counters of the accepted connections.
    pub(super) fn stats(&self) -> AcceptStats {
        let state = self.state.get();
        state.map_or_else(AcceptStats::default, |state| state.admission.stats())
    }

    /// Stops accepting, and closes the connections that no caller has taken. When it returns, the
    /// acceptor's descriptor leads to the socket no more.
    pub(super) fn close(&self) {
        let Some(state) = self.state.get() else {
            return;
        };
        // First, so that an acceptor whose accept fails finds the queue closed.
        state.queue.close();
        let started = lock(&state.acceptor).take();
        if let Some(StartedAcceptor { socket, poller }) = started
            && let Some(socket) = socket.upgrade()
        {
            // If that fails, the poller closes the descriptor soon.
            let _replaced = socket.replace_socket(poller.placeholder_fd()).is_ok();
        }
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Standalone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standalone")
            .field("options", &self.config.options)
            .field("max_connections", &self.config.max_connections)
            .field("accept_rate", &self.config.accept_rate)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
