// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shutdown request of a loop, and [`Shutdown`], the future of its end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::budget::LoopMemory;
use crate::poll::notifier::{self, SourceId};
use crate::poll::poller_registry::PollerRegistry;
use crate::poll::set::PollerSet;
use crate::sync::{Arc, Condvar, Mutex, lock, wait};
use crate::tracker::{ConnectionTracker, ShutdownWaiter};

/// The state that a loop, its handles and its shutdowns share.
#[derive(Debug)]
pub(crate) struct LoopControl {
    requests: Mutex<ControlRequests>,
    requested: Condvar,
    /// Why a poller could not restart.
    failure: Mutex<Option<io::Error>>,
    tracker: Arc<ConnectionTracker>,
    /// The pollers of the loop, while it runs.
    pollers: PollerRegistry,
}

/// The requests that a loop has received.
#[derive(Debug, Default)]
struct ControlRequests {
    /// When the remaining connections are aborted; `None` until a shutdown is requested.
    deadline: Option<Instant>,
    stop_accepting: StopAccepting,
}

/// Whether the loop stops accepting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum StopAccepting {
    #[default]
    NotRequested,
    Requested,
    /// The pollers have the request.
    Delivered,
}

impl LoopControl {
    /// Creates the state of a loop that may use `memory`.
    pub(super) fn new(memory: LoopMemory) -> Self {
        Self {
            requests: Mutex::default(),
            requested: Condvar::default(),
            failure: Mutex::default(),
            tracker: Arc::default(),
            pollers: PollerRegistry::new(memory),
        }
    }

    pub(crate) fn tracker(&self) -> &Arc<ConnectionTracker> {
        &self.tracker
    }

    /// Requests a shutdown, unless one was requested before. The deadline is at most a century from
    /// now.
    pub(super) fn request_shutdown(&self, within: Duration) {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        let mut requests = lock(&self.requests);
        requests
            .deadline
            .get_or_insert_with(|| Instant::now() + within.min(CENTURY));
        drop(requests);
        self.requested.notify_all();
    }

    /// Requests an immediate shutdown after a failure that the loop cannot recover from.
    pub(super) fn fail(&self, error: io::Error) {
        lock(&self.failure).get_or_insert(error);
        let mut requests = lock(&self.requests);
        requests.deadline = Some(Instant::now());
        drop(requests);
        self.requested.notify_all();
    }

    /// Returns the failure that ended the loop, if any.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        lock(&self.failure).take()
    }

    /// Requests that the loop stops accepting.
    pub(super) fn stop_accepting(&self) {
        let mut requests = lock(&self.requests);
        if requests.stop_accepting == StopAccepting::NotRequested {
            requests.stop_accepting = StopAccepting::Requested;
        }
        drop(requests);
        self.requested.notify_all();
    }

    /// Blocks until a shutdown is requested, and returns its deadline. Calls `stop` once if the
    /// loop has to stop accepting before that.
    pub(super) fn wait_for_shutdown(&self, stop: impl Fn()) -> Instant {
        let mut requests = lock(&self.requests);
        loop {
            if let Some(deadline) = requests.deadline {
                return deadline;
            }
            if requests.stop_accepting == StopAccepting::Requested {
                requests.stop_accepting = StopAccepting::Delivered;
                drop(requests);
                stop();
                requests = lock(&self.requests);
            } else {
                requests = wait(&self.requested, requests);
            }
        }
    }

    /// Publishes the pollers of the running loop.
    pub(super) fn set_running(&self, pollers: &PollerSet) {
        self.pollers.set_running(pollers);
    }

    /// Returns the handler of this loop that is running on the current thread, if any.
    fn current_handler(&self) -> Option<SourceId> {
        let handler = notifier::current_source()?;
        self.pollers.contains(&handler).then_some(handler)
    }

    /// Returns the pollers of the loop; dialers look them up here.
    pub(super) fn pollers(&self) -> &PollerRegistry {
        &self.pollers
    }

    pub(super) fn mark_stopped(&self) {
        self.pollers.set_stopped();
        self.tracker.mark_stopped();
    }
}

/// A future that completes when the loop has ended, with the number of aborted connections.
///
/// It does not wait for the handler that awaits it. For such a handler it completes when all other
/// work has ended, and the handler has until the deadline to return.
///
/// # Cancel safety
///
/// Dropping it does not cancel the shutdown.
#[derive(Debug)]
pub struct Shutdown {
    control: Arc<LoopControl>,
    /// The handler that awaits it, if it belongs to the loop.
    waiting_handler: Option<SourceId>,
    /// The key of its waker.
    key: Option<usize>,
}

impl Shutdown {
    pub(super) fn new(control: Arc<LoopControl>) -> Self {
        Self {
            control,
            waiting_handler: None,
            key: None,
        }
    }

    /// Blocks until the loop has ended, and returns how many connections were aborted.
    ///
    /// # Panics
    ///
    /// Panics on a poller thread, where handlers run by default: the loop would wait for this
    /// thread, and this thread for the loop. Handlers await the future instead.
    #[must_use]
    pub fn wait(mut self) -> usize {
        assert!(
            !notifier::is_poller_thread(),
            "Shutdown::wait called on a poller thread; await it instead"
        );
        self.register_waiting_handler();
        self.control.tracker.wait_until_stopped(self.waiter())
    }

    fn waiter(&self) -> ShutdownWaiter {
        match self.waiting_handler {
            Some(_) => ShutdownWaiter::Handler,
            None => ShutdownWaiter::External,
        }
    }

    fn register_waiting_handler(&mut self) {
        let tracker = &self.control.tracker;
        if self.waiting_handler.is_none()
            && let Some(handler) = self.control.current_handler()
            && !tracker.is_waiting_handler(&handler)
        {
            tracker.add_waiting_handler(handler.clone());
            self.waiting_handler = Some(handler);
        }
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        if let Some(handler) = &self.waiting_handler {
            self.control.tracker.remove_waiting_handler(handler);
        }
        if let Some(key) = self.key {
            self.control.tracker.remove_waker(key);
        }
    }
}

impl Future for Shutdown {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        self.register_waiting_handler();
        let waiter = self.waiter();
        let Self { control, key, .. } = &mut *self;
        match control.tracker.poll_aborted(waiter, key, context.waker()) {
            Some(aborted) => Poll::Ready(aborted),
            None => Poll::Pending,
        }
    }
}
