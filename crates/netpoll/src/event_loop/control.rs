// SPDX-License-Identifier: MIT OR Apache-2.0
//! The request to end a loop, and the promise that it has ended.

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

/// What a loop, its handles and its shutdowns share.
#[derive(Debug)]
pub(crate) struct LoopControl {
    requests: Mutex<ControlRequests>,
    requested: Condvar,
    /// What a poller could not be started again for.
    failure: Mutex<Option<io::Error>>,
    tracker: Arc<ConnectionTracker>,
    /// The loop's pollers, while it runs.
    pollers: PollerRegistry,
}

/// What was asked of a loop.
#[derive(Debug, Default)]
struct ControlRequests {
    /// When what is left is cut; `None` until it is asked for.
    deadline: Option<Instant>,
    stop_accepting: StopAccepting,
}

/// Whether the loop is to let nobody in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum StopAccepting {
    #[default]
    NotRequested,
    Requested,
    /// The pollers know.
    Delivered,
}

impl LoopControl {
    /// Of a loop that may use `memory`.
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

    /// Asks for the end, unless it was asked for. A time too long to count is a century.
    pub(super) fn request_shutdown(&self, within: Duration) {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        let mut requests = lock(&self.requests);
        requests
            .deadline
            .get_or_insert_with(|| Instant::now() + within.min(CENTURY));
        drop(requests);
        self.requested.notify_all();
    }

    /// The loop cannot go on: asks for its end at once.
    pub(super) fn fail(&self, error: io::Error) {
        lock(&self.failure).get_or_insert(error);
        let mut requests = lock(&self.requests);
        requests.deadline = Some(Instant::now());
        drop(requests);
        self.requested.notify_all();
    }

    /// Why the loop could not go on, if it could not.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        lock(&self.failure).take()
    }

    /// Asks to let nobody in any more.
    pub(super) fn stop_accepting(&self) {
        let mut requests = lock(&self.requests);
        if requests.stop_accepting == StopAccepting::NotRequested {
            requests.stop_accepting = StopAccepting::Requested;
        }
        drop(requests);
        self.requested.notify_all();
    }

    /// Waits until the end is asked for. Calls `stop` if before that the loop is to let nobody in.
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

    /// The loop runs, on `pollers`.
    pub(super) fn set_running(&self, pollers: &PollerSet) {
        self.pollers.set_running(pollers);
    }

    /// The handler of this loop's that is the caller, if one is.
    fn current_handler(&self) -> Option<SourceId> {
        let handler = notifier::current_source()?;
        self.pollers.contains(&handler).then_some(handler)
    }

    /// Whoever dials for the loop finds its pollers here.
    pub(super) fn pollers(&self) -> &PollerRegistry {
        &self.pollers
    }

    pub(super) fn mark_stopped(&self) {
        self.pollers.set_stopped();
        self.tracker.mark_stopped();
    }
}

/// The end of a loop that was asked for: a future of how many connections had to be cut.
///
/// It does not wait for the handler that awaits it: when everybody else is gone it is ready, and
/// the handler has until the deadline to return.
#[derive(Debug)]
pub struct Shutdown {
    control: Arc<LoopControl>,
    /// The handler that awaits it, if it is one of the loop's.
    waiting_handler: Option<SourceId>,
    /// Its place among those who wait.
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

    /// Blocks until the loop has ended, and says how many connections had to be cut.
    ///
    /// # Panics
    ///
    /// On a poller's thread, where handlers run unless they are told to run elsewhere: the loop
    /// would wait for this thread, and this thread for the loop. Handlers await it.
    #[must_use]
    pub fn wait(mut self) -> usize {
        assert!(
            !notifier::is_poller_thread(),
            "a shutdown cannot be waited for on a poller: await it"
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
            Some(cut) => Poll::Ready(cut),
            None => Poll::Pending,
        }
    }
}
