// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shutdown request of a loop, and [`Shutdown`], the future of its end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::built_loop::BuiltLoop;
use crate::error::{ErrorExt, ErrorKind};
use crate::poll::notifier::{self, SourceId};
use crate::poll::poller_registry::PollerRegistry;
use crate::poll::set::PollerSet;
use crate::sync::{Arc, Condvar, Mutex, OnceLock, lock, wait};
use crate::tracker::{ConnectionTracker, ShutdownWaiter};

/// The state that a loop, its handles and its shutdowns share.
#[derive(Debug, Default)]
pub(crate) struct LoopControl {
    requests: Mutex<ControlRequests>,
    requested: Condvar,
    /// Why a poller could not restart.
    failure: Mutex<Option<io::Error>>,
    tracker: Arc<ConnectionTracker>,
    /// The pollers of the loop, while it runs.
    pollers: PollerRegistry,
    built: OnceLock<BuiltLoop>,
    /// Set once the pollers run.
    started: OnceLock<()>,
}

/// Owns the state of a loop: held by the builder, then by the loop. Its drop is the end of the
/// loop, and completes its shutdowns.
#[derive(Debug, Default)]
pub(super) struct ControlOwner(pub(super) Arc<LoopControl>);

impl Drop for ControlOwner {
    fn drop(&mut self) {
        self.0.mark_stopped();
    }
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
    /// Records that the loop is built.
    pub(super) fn set_built(&self, built: BuiltLoop) {
        let pollers = built.counters.len();
        self.pollers.set_memory(built.budget.of_pollers(pollers));
        self.built.get_or_init(|| built);
    }

    /// Returns the facts about the loop, once it is built.
    pub(super) fn built(&self) -> Option<&BuiltLoop> {
        self.built.get()
    }

    pub(crate) fn tracker(&self) -> &Arc<ConnectionTracker> {
        &self.tracker
    }

    /// Requests a shutdown, or brings the deadline of an earlier request forward. The deadline is
    /// at most a century from now.
    pub(super) fn request_shutdown(&self, within: Duration) {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        let deadline = Instant::now() + within.min(CENTURY);
        let mut requests = lock(&self.requests);
        let earliest = requests.deadline.map_or(deadline, |set| set.min(deadline));
        requests.deadline = Some(earliest);
        drop(requests);
        self.requested.notify_all();
        self.tracker.recheck_deadline();
    }

    /// Returns the deadline of the requested shutdown; now, if none was requested.
    pub(super) fn deadline(&self) -> Instant {
        lock(&self.requests).deadline.unwrap_or_else(Instant::now)
    }

    /// Requests an immediate shutdown after a failure that the loop cannot recover from.
    pub(super) fn fail(&self, error: io::Error) {
        lock(&self.failure).get_or_insert(error);
        self.request_shutdown(Duration::ZERO);
    }

    /// Returns the failure that ended the loop, if any, and keeps a copy for the handles.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        let mut failure = lock(&self.failure);
        let copy = failure.as_ref().map(copy_of);
        std::mem::replace(&mut failure, copy)
    }

    /// Returns the result of a loop that has ended.
    pub(super) fn result(&self) -> io::Result<()> {
        if self.started.get().is_none() {
            return Err(ErrorKind::NotRunning.into());
        }
        lock(&self.failure)
            .as_ref()
            .map_or(Ok(()), |error| Err(copy_of(error)))
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

    /// Blocks until a shutdown is requested. Calls `stop` once if the loop has to stop accepting
    /// before that.
    pub(super) fn wait_for_shutdown(&self, stop: impl Fn()) {
        let mut requests = lock(&self.requests);
        while requests.deadline.is_none() {
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
        self.started.get_or_init(|| ());
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

    /// Records that the loop has ended or will never run, and wakes all waiters.
    fn mark_stopped(&self) {
        self.pollers.set_stopped();
        if let Some(built) = self.built() {
            built.release_admission();
        }
        self.tracker.mark_stopped();
    }
}

/// Copies an error: its errno, or else its kind and message.
fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => match error.netpoll_kind() {
            Some(kind) => kind.into(),
            None => io::Error::new(error.kind(), error.to_string()),
        },
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

#[cfg(test)]
#[cfg(not(any(netpoll_loom, netpoll_shuttle)))]
mod tests {
    use super::*;

    fn ended(failure: io::Error) -> (io::Error, Arc<LoopControl>) {
        let control = Arc::new(LoopControl::default());
        control.started.get_or_init(|| ());
        control.fail(failure);
        (control.take_failure().unwrap(), control)
    }

    #[test]
    fn run_returns_the_failure_and_handles_return_copies_of_it() {
        let (returned, control) = ended(ErrorKind::NotRunning.into());
        assert!(returned.get_ref().unwrap().is::<ErrorKind>());
        for _ in 0..2 {
            let copy = control.result().unwrap_err();
            assert_eq!(copy.kind(), returned.kind());
            assert_eq!(copy.to_string(), returned.to_string());
        }
        assert!(control.deadline() <= Instant::now());
        let (_returned, control) = ended(io::Error::from_raw_os_error(24));
        assert_eq!(control.result().unwrap_err().raw_os_error(), Some(24));
    }
}
