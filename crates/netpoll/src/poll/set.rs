// SPDX-License-Identifier: MIT OR Apache-2.0
//! A set of pollers: their threads, and which of them gets the next connection.
//!
//! The set owns the threads: dropping it stops them and waits for them, though not for one that user
//! code holds up: that ends by itself. What is in a poller then is dropped on the poller's thread.

use std::io;
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

/// What the pollers of a set have in common.
#[derive(Clone)]
pub(crate) struct PollerConfig {
    /// The memory that they share.
    pub(crate) budget: Budget,
    /// What their threads live inside of.
    pub(crate) thread_hook: Option<ThreadHook>,
    /// For how long they wait awake before they sleep.
    pub(crate) busy_poll: Duration,
    /// Who learns of their failures.
    pub(crate) supervisor: Supervisor,
}

/// Some pollers and their threads.
#[derive(Debug)]
pub(crate) struct PollerSet {
    pollers: Vec<PollerHandle>,
    /// Those that were not waited for yet.
    threads: Mutex<Vec<(usize, JoinHandle<()>)>>,
    /// Whose turn it is, where pollers take turns.
    round_robin: AtomicUsize,
}

/// One poller, seen from other threads.
#[derive(Clone, Debug)]
pub(crate) struct PollerHandle {
    mailbox: Arc<Mailbox>,
    /// How many connections have their seat here.
    connections: Arc<AtomicUsize>,
}

/// A connection's seat at its poller; free again when dropped.
#[derive(Debug)]
pub(crate) struct LoadGuard {
    connections: Arc<AtomicUsize>,
    _permit: Option<ConnectionPermit>,
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        // Relaxed: a count to choose by, nothing more.
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

    /// Takes a seat for one more connection, that came in by the entrance if it has a `stay`.
    pub(crate) fn add_connection(&self, stay: Option<ConnectionPermit>) -> LoadGuard {
        // Relaxed: as in Seat's drop.
        self.connections.fetch_add(1, Ordering::Relaxed);
        LoadGuard {
            connections: Arc::clone(&self.connections),
            _permit: stay,
        }
    }

    /// Makes a source on this poller.
    pub(crate) fn register(&self, factory: SourceFactory) {
        self.mailbox.send(Command::Register(factory));
    }

    /// Leaves a letter.
    #[cfg(all(test, netpoll_shuttle))]
    pub(crate) fn send(&self, command: Command) {
        self.mailbox.send(command);
    }

    /// What reaches the poller from outside.
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Ends both streams of every socket of its connections, without it. Says how many there are.
    pub(crate) fn shut_down_sockets(&self) -> usize {
        self.mailbox.sockets().shut_down_all()
    }

    /// A descriptor to put in the place of one of its own.
    pub(crate) fn placeholder_fd(&self) -> BorrowedFd<'_> {
        self.mailbox.eventfd().as_fd()
    }

    /// How many connections have their seat here.
    pub(super) fn connections(&self) -> usize {
        // Relaxed: a guess is good enough to choose by.
        self.connections.load(Ordering::Relaxed)
    }

    /// For how long it waits awake before it sleeps; zero if it does not.
    pub(crate) fn busy_poll(&self) -> Duration {
        self.mailbox.busy_poll()
    }

    /// Whether `caller` is a handler of this poller's.
    pub(super) fn owns(&self, source_id: &SourceId) -> bool {
        source_id.belongs_to(&self.mailbox)
    }

    /// Whether the calling thread is this poller, or works for it.
    pub(crate) fn is_current(&self) -> bool {
        notifier::current_mailbox().is_some_and(|here| Arc::ptr_eq(&here, &self.mailbox))
    }
}

impl PollerSet {
    /// Pollers that a model turns.
    #[cfg(all(test, netpoll_shuttle))]
    pub(crate) fn from_handles(pollers: Vec<PollerHandle>) -> Self {
        Self {
            pollers,
            threads: Mutex::default(),
            round_robin: AtomicUsize::new(0),
        }
    }

    /// Starts a poller for each of `counters`, of which there is one at least, as `setup` says.
    ///
    /// All descriptors are made here, so that a failure is reported and leaves nothing behind.
    pub(crate) fn start(counters: &[Arc<Counters>], setup: &PollerConfig) -> io::Result<Self> {
        let mut set = Self {
            pollers: Vec::new(),
            threads: Mutex::default(),
            round_robin: AtomicUsize::new(0),
        };
        let memory = setup.budget.of_pollers(counters.len());
        for (index, counters) in counters.iter().enumerate() {
            let mailbox = Mailbox::new(Arc::clone(counters))?.with_busy_poll(setup.busy_poll);
            let handle = PollerHandle::new(mailbox.within(memory));
            let mailbox = Arc::clone(&handle.mailbox);
            let setup = setup.clone();
            let (ready, started) = std::sync::mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("netpoll-{index}"))
                .spawn(move || poller_thread(index, mailbox, &setup, &ready))?;
            lock(&set.threads).push((index, thread));
            set.pollers.push(handle);
            started
                .recv()
                .unwrap_or_else(|_| Err(io::Error::other("a poller did not start")))?;
        }
        Ok(set)
    }

    /// Whether a poller has ended, and will not begin anew.
    pub(super) fn has_ended_poller(&self) -> bool {
        self.pollers.iter().any(|poller| poller.mailbox.is_closed())
    }

    /// The poller with the fewest connections.
    pub(crate) fn least_connections(&self) -> &PollerHandle {
        self.select(&Balance::LeastConnections, || {})
    }

    /// The poller that gets the next connection; `panicked` is called if the user's choice has.
    pub(crate) fn select(&self, balance: &Balance, panicked: impl FnOnce()) -> &PollerHandle {
        let seats = self.pollers.iter().map(PollerHandle::connections);
        self.nth(balance.select(seats, &self.round_robin, panicked))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.pollers.len()
    }

    /// The poller at `index`, counted round.
    pub(crate) fn nth(&self, index: usize) -> &PollerHandle {
        &self.pollers[index % self.pollers.len()]
    }

    /// Its pollers, as other threads see them.
    pub(super) fn handles(&self) -> &[PollerHandle] {
        &self.pollers
    }

    /// Asks every source of every poller.
    pub(crate) fn shutdown_all(&self, request: ShutdownRequest) {
        for poller in &self.pollers {
            poller.mailbox.send(Command::Shutdown(request));
        }
    }

    /// The pollers that were asked to force everything to its end and have not come to it.
    pub(crate) fn blocked_pollers(&self) -> Vec<usize> {
        let is_held_up = |&index: &usize| {
            let mailbox = &self.pollers[index].mailbox;
            !mailbox.is_force_completed() && !mailbox.is_closed()
        };
        (0..self.pollers.len()).filter(is_held_up).collect()
    }

    /// Stops the pollers and waits for their threads, for as long as `patience`. Says which have not
    /// ended by then; these are left to themselves.
    pub(crate) fn stop(&self, patience: Duration) -> Vec<usize> {
        for poller in &self.pollers {
            poller.mailbox.send(Command::Stop);
        }
        let mut threads = std::mem::take(&mut *lock(&self.threads));
        // A set that is stopped by one of its own pollers cannot wait for that one.
        threads.retain(|(_, thread)| thread.thread().id() != std::thread::current().id());
        let begun = Instant::now();
        let mut pause = MIN_BACKOFF;
        loop {
            let (ended, alive): (Vec<_>, Vec<_>) = threads
                .into_iter()
                .partition(|(_, thread)| thread.is_finished());
            for (_, thread) in ended {
                // A poller that panicked has said so through the hook.
                let _panicked = thread.join().is_err();
            }
            threads = alive;
            if threads.is_empty() || begun.elapsed() > patience {
                return threads.into_iter().map(|(index, _)| index).collect();
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(MAX_BACKOFF);
        }
    }
}

/// The first pause between two looks whether threads have ended, and the longest.
const MIN_BACKOFF: Duration = Duration::from_micros(50);
const MAX_BACKOFF: Duration = Duration::from_millis(5);

/// How long the drop of a set waits for its threads.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

impl Drop for PollerSet {
    fn drop(&mut self) {
        // Those that are held up end when they are no more.
        let _left = self.stop(DROP_TIMEOUT);
    }
}

/// The life of a poller's thread. However it ends, letters that come later are dropped, and not left.
fn poller_thread(
    index: usize,
    mailbox: Arc<Mailbox>,
    setup: &PollerConfig,
    ready: &Sender<io::Result<()>>,
) {
    let commands = Arc::clone(&mailbox);
    let lived = guard(|| {
        run_in_hook(setup.thread_hook.as_ref(), || {
            run_poller(index, mailbox, setup, ready)
        });
    });
    commands.close();
    if lived.is_err() {
        let error = io::Error::other("the thread of a poller panicked");
        setup.supervisor.give_up(error);
    }
}

fn run_poller(
    index: usize,
    mailbox: Arc<Mailbox>,
    setup: &PollerConfig,
    ready: &Sender<io::Result<()>>,
) {
    setup.budget.pool().enter();
    notifier::set_current_mailbox(Arc::clone(&mailbox));
    match Poller::new(mailbox, &setup.budget) {
        Ok(mut poller) => {
            // Whoever started us waits for this word, or has given up.
            let _heard = ready.send(Ok(())).is_ok();
            if let Err(error) = poller.run_with_recovery(index, &setup.supervisor) {
                setup.supervisor.give_up(error);
            }
        }
        Err(error) => {
            let _heard = ready.send(Err(error)).is_ok();
        }
    }
}
