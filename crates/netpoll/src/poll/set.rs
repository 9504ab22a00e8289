// SPDX-License-Identifier: MIT OR Apache-2.0
//! A set of pollers: their threads, and the choice of a poller for the next connection.
//!
//! A [`PollerGroup`] selects among pollers and owns none of them. A [`PollerSet`] owns the threads of
//! its group.
//!
//! The set owns the threads. Dropping it stops them and waits for them, for at most 1 s. A thread
//! that user code blocks ends once that code returns, and drops its sources then. Sources are
//! always dropped on their poller's thread.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Poller;
use super::balance::Balance;
use super::mailbox::{Command, Mailbox};
use super::notifier::{self, SourceId};
use super::recovery::Supervisor;
use super::source::{ShutdownRequest, SourceFactory};
use crate::admission::ConnectionPermit;
use crate::budget::Budget;
use crate::guard::guard;
use crate::stats::counters::Counters;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, lock};
use crate::thread_hook::{ThreadHook, run_in_hook};

/// The configuration that the pollers of a set share.
#[derive(Clone)]
pub(crate) struct PollerConfig {
    /// The memory that they share.
    pub(crate) budget: Budget,
    /// A hook around the body of their threads.
    pub(crate) thread_hook: Option<ThreadHook>,
    /// How long they busy poll before they sleep.
    pub(crate) busy_poll: Duration,
    /// The receiver of their failures.
    pub(crate) supervisor: Supervisor,
}

/// Some pollers, and the choice of one of them. Keeps no poller alive.
#[derive(Debug)]
pub(crate) struct PollerGroup {
    pollers: Vec<PollerHandle>,
    /// The counter of round-robin selection.
    round_robin: AtomicUsize,
}

/// Pollers and their threads.
#[derive(Debug)]
pub(crate) struct PollerSet {
    group: PollerGroup,
    /// Threads that are not joined yet.
    threads: Mutex<Vec<(usize, JoinHandle<()>)>>,
}

/// A poller, seen from other threads.
#[derive(Clone, Debug)]
pub(crate) struct PollerHandle {
    mailbox: Arc<Mailbox>,
    /// The number of connections placed here.
    connections: Arc<AtomicUsize>,
}

/// Counts a connection at its poller until it is dropped.
#[derive(Debug)]
pub(crate) struct LoadGuard {
    connections: Arc<AtomicUsize>,
    _permit: Option<ConnectionPermit>,
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        // Relaxed: the count only serves the choice of a poller.
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PollerHandle {
    pub(crate) fn new(mailbox: Mailbox) -> Self {
        Self {
            mailbox: Arc::new(mailbox),
            connections: Arc::default(),
        }
    }

    /// Counts one more connection here; `permit` is its permit from admission control, if it has
    /// one.
    pub(crate) fn add_connection(&self, permit: Option<ConnectionPermit>) -> LoadGuard {
        // Relaxed: as in the drop of `LoadGuard`.
        self.connections.fetch_add(1, Ordering::Relaxed);
        LoadGuard {
            connections: Arc::clone(&self.connections),
            _permit: permit,
        }
    }

    /// Registers a source with this poller.
    pub(crate) fn register(&self, factory: SourceFactory) {
        self.mailbox.send(Command::Register(factory));
    }

    /// Sends a command.
    #[cfg(all(test, netpoll_shuttle))]
    pub(crate) fn send(&self, command: Command) {
        self.mailbox.send(command);
    }

    /// Returns the poller's mailbox.
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Shuts down both directions of every socket of its connections, without the poller. Returns
    /// the number of sockets.
    pub(crate) fn shut_down_sockets(&self) -> usize {
        self.mailbox.sockets().shut_down_all()
    }

    /// Returns a descriptor that can replace one of the poller's sockets.
    pub(crate) fn placeholder_fd(&self) -> BorrowedFd<'_> {
        self.mailbox.eventfd().as_fd()
    }

    /// Returns the number of connections placed here.
    pub(super) fn connections(&self) -> usize {
        // Relaxed: an approximate value is good enough for the choice of a poller.
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns how long it busy polls before it sleeps; zero if it does not.
    pub(crate) fn busy_poll(&self) -> Duration {
        self.mailbox.busy_poll()
    }

    /// Returns whether `source_id` is a source of this poller.
    pub(super) fn owns(&self, source_id: &SourceId) -> bool {
        source_id.belongs_to(&self.mailbox)
    }

    /// Returns whether the calling thread is this poller, or runs a handler for it.
    pub(crate) fn is_current(&self) -> bool {
        notifier::current_mailbox().is_some_and(|here| Arc::ptr_eq(&here, &self.mailbox))
    }
}

impl PollerGroup {
    /// Creates a group of `pollers`. Only a group of at least one can select.
    pub(crate) fn new(pollers: Vec<PollerHandle>) -> Self {
        Self {
            pollers,
            round_robin: AtomicUsize::new(0),
        }
    }

    /// Returns the poller with the fewest connections.
    pub(crate) fn least_connections(&self) -> &PollerHandle {
        self.select(&Balance::LeastConnections, || {})
    }

    /// Returns the poller for the next connection. `panicked` is called if the user's function
    /// panics.
    pub(crate) fn select(&self, balance: &Balance, panicked: impl FnOnce()) -> &PollerHandle {
        let loads = self.pollers.iter().map(PollerHandle::connections);
        self.nth(balance.select(loads, &self.round_robin, panicked))
    }

    /// Returns the number of pollers.
    pub(crate) fn count(&self) -> usize {
        self.pollers.len()
    }

    /// Returns the poller at `index` modulo the number of pollers.
    pub(crate) fn nth(&self, index: usize) -> &PollerHandle {
        &self.pollers[index % self.pollers.len()]
    }

    /// Returns the handles of its pollers.
    pub(super) fn handles(&self) -> &[PollerHandle] {
        &self.pollers
    }
}

impl Deref for PollerSet {
    type Target = PollerGroup;

    fn deref(&self) -> &PollerGroup {
        &self.group
    }
}

impl PollerSet {
    /// Starts a poller with `config` for each of `counters`, of which there is at least one.
    ///
    /// Creates all descriptors before it returns, so that a failure is reported and leaves nothing
    /// behind.
    pub(crate) fn start(counters: &[Arc<Counters>], config: &PollerConfig) -> io::Result<Self> {
        let mut set = Self {
            group: PollerGroup::new(Vec::new()),
            threads: Mutex::default(),
        };
        let memory = config.budget.of_pollers(counters.len());
        for (index, counters) in counters.iter().enumerate() {
            let mailbox = Mailbox::new(Arc::clone(counters))?.with_busy_poll(config.busy_poll);
            let handle = PollerHandle::new(mailbox.within(memory));
            let mailbox = Arc::clone(&handle.mailbox);
            let config = config.clone();
            let (ready, started) = std::sync::mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("netpoll-{index}"))
                .spawn(move || poller_thread(index, mailbox, &config, &ready))?;
            lock(&set.threads).push((index, thread));
            set.group.pollers.push(handle);
            started.recv().unwrap_or_else(|_| {
                Err(io::Error::other("poller thread exited before it started"))
            })?;
        }
        Ok(set)
    }

    /// Returns its pollers as a group of their own, which keeps no thread alive.
    pub(crate) fn to_group(&self) -> PollerGroup {
        PollerGroup::new(self.pollers.clone())
    }

    /// Returns whether a poller has ended for good.
    pub(super) fn has_ended_poller(&self) -> bool {
        self.pollers.iter().any(|poller| poller.mailbox.is_closed())
    }

    /// Sends a request to every source of every poller.
    pub(crate) fn shutdown_all(&self, request: ShutdownRequest) {
        for poller in &self.pollers {
            poller.mailbox.send(Command::Shutdown(request));
        }
    }

    /// Returns the pollers that got a forced shutdown and have not completed it.
    pub(crate) fn blocked_pollers(&self) -> Vec<usize> {
        let is_blocked = |&index: &usize| {
            let mailbox = &self.pollers[index].mailbox;
            !mailbox.is_force_completed() && !mailbox.is_closed()
        };
        (0..self.pollers.len()).filter(is_blocked).collect()
    }

    /// Stops the pollers and waits for their threads until `deadline`, which may change meanwhile.
    /// Returns the pollers whose threads still run; these are detached.
    pub(crate) fn stop(&self, deadline: impl Fn() -> Instant) -> Vec<usize> {
        for poller in &self.pollers {
            poller.mailbox.send(Command::Stop);
        }
        let mut threads = std::mem::take(&mut *lock(&self.threads));
        // A set that one of its own pollers stops cannot wait for that one.
        threads.retain(|(_, thread)| thread.thread().id() != std::thread::current().id());
        let mut pause = MIN_BACKOFF;
        loop {
            let (ended, alive): (Vec<_>, Vec<_>) = threads
                .into_iter()
                .partition(|(_, thread)| thread.is_finished());
            for (_, thread) in ended {
                // The panic hook has already reported a panic.
                let _panicked = thread.join().is_err();
            }
            threads = alive;
            if threads.is_empty() || Instant::now() > deadline() {
                return threads.into_iter().map(|(index, _)| index).collect();
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(MAX_BACKOFF);
        }
    }
}

/// The shortest and the longest pause between two checks whether threads have ended.
const MIN_BACKOFF: Duration = Duration::from_micros(50);
const MAX_BACKOFF: Duration = Duration::from_millis(5);

/// How long the drop of a set waits for its threads.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

impl Drop for PollerSet {
    fn drop(&mut self) {
        // A blocked thread ends when its user code returns.
        let deadline = Instant::now() + DROP_TIMEOUT;
        let _left = self.stop(|| deadline);
    }
}

/// The body of a poller's thread. However it ends, later commands are dropped.
fn poller_thread(
    index: usize,
    mailbox: Arc<Mailbox>,
    config: &PollerConfig,
    ready: &Sender<io::Result<()>>,
) {
    let commands = Arc::clone(&mailbox);
    let result = guard(|| {
        run_in_hook(config.thread_hook.as_ref(), || {
            run_poller(index, mailbox, config, ready)
        });
    });
    commands.close();
    if result.is_err() {
        let error = io::Error::other("poller thread panicked");
        config.supervisor.give_up(error);
    }
}

fn run_poller(
    index: usize,
    mailbox: Arc<Mailbox>,
    config: &PollerConfig,
    ready: &Sender<io::Result<()>>,
) {
    config.budget.pool().enter();
    notifier::set_current_mailbox(Arc::clone(&mailbox));
    match Poller::new(mailbox, &config.budget) {
        Ok(mut poller) => {
            // The starting thread waits for this message, or is gone.
            let _received = ready.send(Ok(())).is_ok();
            if let Err(error) = poller.run_with_recovery(index, &config.supervisor) {
                config.supervisor.give_up(error);
            }
        }
        Err(error) => {
            let _received = ready.send(Err(error)).is_ok();
        }
    }
}
