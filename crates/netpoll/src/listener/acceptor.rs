// SPDX-License-Identifier: MIT OR Apache-2.0
//! The source that accepts from a [`Listener`].
//!
//! An acceptor accepts connections in batches, as [`AdmissionControl`] and the user's filter
//! permit. It hands each to the poller that the loop's [`Balance`] selects, or keeps it on its own
//! poller if each poller has an acceptor.
//!
//! When the loop is at its limit, or descriptors or kernel memory are exhausted, the acceptor stops
//! polling its listener, and the kernel queues. It resumes when a connection ends. If a resource is
//! exhausted it also retries after 10 ms, then after twice that, up to a second. Existing
//! connections are not affected.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::Wake;
use std::time::Duration;

use netpoll_sys::{Interest, process, socket};

use super::Listener;
use super::filter::{Accept, ConnInfo, Filter, set_tcp_options};
use crate::addr::Addr;
use crate::admission::{
    AcceptFailure, AcceptPermit, AdmissionControl, ConnectionPermit, RatePolicy, Rejection,
};
use crate::connection::service::{Accepted, Service};
use crate::event::{Callback, Event};
use crate::foreign::OwnWaker;
use crate::guard::{CaughtPanic, guard};
use crate::options::ConnOptions;
use crate::poll::balance::Balance;
use crate::poll::busy_poll::enable_socket_busy_poll;
use crate::poll::notifier::{Notice, Notifier};
use crate::poll::set::{PollerHandle, PollerSet};
use crate::poll::socket_registration::SocketRegistration;
use crate::poll::source::{
    EndOfInput, NextAction, RegisterContext, ShutdownRequest, Source, SourceContext, SourceFactory,
};
use crate::sync::Arc;
use crate::tracker::{ListenerGuard, TrackedConnection};

/// The most connections accepted in one batch.
const ACCEPT_BATCH: usize = 64;

/// The most connections that a queue of the kernel holds: a backlog is a `u16`.
const MAX_BACKLOG: usize = 1 << 16;

/// The most failures in one batch that count as failures of single connections.
const MAX_FAILURES: usize = 16;

/// The first and the longest pause after an exhausted resource.
const MIN_BACKOFF: Duration = Duration::from_millis(10);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// The state that the acceptors of a loop share, and the service of one listener.
pub(crate) struct AcceptContext {
    pub(crate) pollers: Arc<PollerSet>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) admission: Arc<AdmissionControl>,
    pub(crate) filter: Option<Filter>,
    pub(crate) balance: Balance,
}

impl AcceptContext {
    /// Returns how long the pollers stay awake before they sleep; all use the same time.
    fn busy_poll(&self) -> Duration {
        self.pollers.nth(0).busy_poll()
    }
}

/// Accepts connections on its poller.
pub(crate) struct Acceptor {
    listener: Arc<Listener>,
    /// The poller it runs on, if accepted connections stay there.
    pinned_poller: Option<usize>,
    accept_context: Arc<AcceptContext>,
    accept_waker: Arc<AcceptWaker>,
    waker: OwnWaker,
    /// The pause after the next failure; `None` after a success.
    backoff: Option<Duration>,
    /// Set until the queue was empty once: it may hold connections from before the listener had the
    /// options that accepted sockets inherit.
    may_lack_options: bool,
    /// After a shutdown request: how many of the queued connections may still be accepted.
    drain_remaining: Option<usize>,
    /// Makes a shutdown wait until the queued connections are accepted.
    _listener_guard: ListenerGuard,
}

/// Wakes an acceptor when a permit is released.
struct AcceptWaker(Notifier);

impl Wake for AcceptWaker {
    fn wake(self: Arc<Self>) {
        self.0.notify(Notice::Poll);
    }
}

/// How a batch ended.
enum AcceptOutcome {
    /// The kernel's queue is empty.
    QueueEmpty,
    /// The queue may hold more.
    BatchFull,
    /// Accepting is paused. The acceptor is woken when it can resume.
    Paused,
}

impl Acceptor {
    /// Returns the factory of an acceptor for `listener`. With `pinned_poller` the acceptor belongs
    /// to that poller and keeps its connections; otherwise it runs on any poller, for all of them.
    pub(crate) fn factory(
        listener: Arc<Listener>,
        pinned_poller: Option<usize>,
        accept_context: &Arc<AcceptContext>,
    ) -> SourceFactory {
        let config = accept_context.service.config();
        // Accepted sockets inherit the options (tcp(7)), so they cost nothing per connection.
        set_tcp_options(listener.fd(), &config.options);
        let busy_poll = accept_context.busy_poll();
        let is_tcp = |addr: Addr| addr.as_tcp().is_some();
        if !busy_poll.is_zero() && listener.local_addr().is_ok_and(is_tcp) {
            enable_socket_busy_poll(listener.fd(), busy_poll);
        }
        let listener_guard = ListenerGuard::new(&config.tracker);
        let accept_context = Arc::clone(accept_context);
        Box::new(move |registration: RegisterContext| {
            let accept_waker = Arc::new(AcceptWaker(registration.notifier));
            let waker = OwnWaker::new(Arc::clone(&accept_waker));
            Box::new(Self {
                listener,
                pinned_poller,
                accept_context,
                accept_waker,
                waker,
                backoff: None,
                may_lack_options: true,
                drain_remaining: None,
                _listener_guard: listener_guard,
            })
        })
    }

    /// Accepts at most `limit` connections.
    fn accept(&mut self, limit: usize, context: &mut SourceContext) -> AcceptOutcome {
        let mut failures = 0;
        for _ in 0..limit {
            let Some(accept_permit) = self.admit(context) else {
                return AcceptOutcome::Paused;
            };
            match socket::accept(self.listener.fd()) {
                Ok((fd, peer)) => {
                    context.record_progress();
                    self.backoff = None;
                    if self.may_lack_options && peer.as_tcp().is_some() {
                        set_tcp_options(fd.as_fd(), &self.accept_context.service.config().options);
                        enable_socket_busy_poll(fd.as_fd(), self.accept_context.busy_poll());
                    }
                    let admission = &self.accept_context.admission;
                    let connection_permit =
                        admission.record_accepted(accept_permit, || context.now());
                    if let Some(queued) = &mut self.drain_remaining {
                        *queued = queued.saturating_sub(1);
                    }
                    self.dispatch(fd, peer, connection_permit, context);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.may_lack_options = false;
                    return AcceptOutcome::QueueEmpty;
                }
                Err(error) => {
                    drop(accept_permit);
                    let failure = self
                        .accept_context
                        .admission
                        .record_failure(&error, &self.waker);
                    // A connection that was aborted in the queue does not affect the listener
                    // (accept(2)). A listener that fails repeatedly does: the acceptor backs off.
                    failures += 1;
                    if matches!(failure, AcceptFailure::ResourceExhausted(_))
                        || failures > MAX_FAILURES
                    {
                        self.back_off(context);
                        return AcceptOutcome::Paused;
                    }
                }
            }
        }
        AcceptOutcome::BatchFull
    }

    fn admit(&mut self, context: &mut SourceContext) -> Option<AcceptPermit> {
        let rate_policy = match self.drain_remaining {
            Some(_) => RatePolicy::Exempt,
            None => RatePolicy::Limited,
        };
        let admission = &self.accept_context.admission;
        match admission.admit(&self.waker, rate_policy, || context.now()) {
            Ok(accept_permit) => Some(accept_permit),
            Err(Rejection::AtLimit) => {
                // A released permit wakes it. If none is released, the pause is reported at this
                // time.
                if let Some(later) = admission.next_report_at() {
                    context.set_deadline(Some(later));
                }
                None
            }
            Err(Rejection::OverBudget) => {
                self.back_off(context);
                None
            }
            Err(Rejection::RateLimited(later)) => {
                context.set_deadline(Some(later));
                None
            }
        }
    }

    fn back_off(&mut self, context: &mut SourceContext) {
        let pause = self
            .backoff
            .map_or(MIN_BACKOFF, |pause| (2 * pause).min(MAX_BACKOFF));
        self.backoff = Some(pause);
        let deadline = context.now() + pause;
        context.set_deadline(Some(deadline));
    }

    /// Applies the filter, and hands the connection to a poller.
    fn dispatch(
        &self,
        fd: OwnedFd,
        peer: Addr,
        connection_permit: ConnectionPermit,
        context: &mut SourceContext,
    ) {
        let entry = SocketRegistration::new(&fd, &self.accept_waker.0);
        let Some(options) = self.options_for(&fd, peer, context) else {
            self.accept_context.admission.record_rejected();
            drop(entry);
            drop(fd);
            drop(connection_permit);
            return;
        };
        let pollers = &self.accept_context.pollers;
        let poller = match self.pinned_poller {
            Some(index) => pollers.nth(index),
            None => self.select_poller(peer, context),
        };
        let accepted = Accepted {
            registration: entry.transfer_to(&fd, poller),
            fd,
            peer,
            options,
            load_guard: poller.add_connection(Some(connection_permit)),
            tracked: TrackedConnection::new(&self.accept_context.service.config().tracker),
        };
        register(
            poller,
            Arc::clone(&self.accept_context.service),
            accepted,
            context,
        );
    }

    /// Returns the options of a connection; `None` if it is rejected.
    fn options_for(
        &self,
        fd: &OwnedFd,
        peer: Addr,
        context: &mut SourceContext,
    ) -> Option<Arc<ConnOptions>> {
        let config = self.accept_context.service.config();
        let inherited = &config.options;
        let Some(filter) = &self.accept_context.filter else {
            return Some(Arc::clone(inherited));
        };
        let info = ConnInfo::new(fd.as_fd(), peer, inherited);
        config.before_call(context);
        let counters = self.accept_waker.0.counters();
        let decision = counters.track_callback(Callback::OnAccept, || guard(|| filter(&info)));
        config.after_call(
            Callback::OnAccept,
            || peer,
            context,
            self.accept_waker.0.counters(),
        );
        let options = match decision {
            Ok(Accept::Take(own)) => own,
            Ok(Accept::Refuse) => return None,
            // A filter that panics rejects the connection.
            Err(CaughtPanic) => {
                self.report_panic(Callback::OnAccept, peer);
                return None;
            }
        };
        options.check().ok()?;
        let budget = self.accept_context.admission.budget();
        budget
            .check(options.max_frame, self.accept_context.pollers.count())
            .ok()?;
        if peer.as_tcp().is_some() {
            options.set_differences(fd.as_fd(), inherited).ok()?;
        }
        Some(Arc::new(options))
    }

    /// Selects the poller of a connection.
    fn select_poller(&self, peer: Addr, context: &mut SourceContext) -> &PollerHandle {
        let AcceptContext {
            pollers, balance, ..
        } = &*self.accept_context;
        let config = self.accept_context.service.config();
        if !balance.is_custom() {
            return pollers.select(balance, || {});
        }
        config.before_call(context);
        let select = || pollers.select(balance, || self.report_panic(Callback::Balance, peer));
        let counters = self.accept_waker.0.counters();
        let poller = counters.track_callback(Callback::Balance, select);
        config.after_call(
            Callback::Balance,
            || peer,
            context,
            self.accept_waker.0.counters(),
        );
        poller
    }

    fn report_panic(&self, callback: Callback, peer: Addr) {
        let config = self.accept_context.service.config();
        config
            .event_sink
            .report(&Event::CallbackPanicked { callback, peer });
    }

    /// Accepts the next batch, and returns what to wait for.
    fn accept_more(&mut self, context: &mut SourceContext) -> NextAction {
        let limit = self.drain_remaining.unwrap_or(ACCEPT_BATCH);
        match self.accept(limit, context) {
            AcceptOutcome::QueueEmpty | AcceptOutcome::BatchFull
                if self.drain_remaining.is_some() =>
            {
                NextAction::Remove
            }
            AcceptOutcome::QueueEmpty | AcceptOutcome::BatchFull => {
                NextAction::Wait(Interest::READABLE)
            }
            // No hang-ups either: a broken listener would report one without end.
            AcceptOutcome::Paused => NextAction::NoInterest,
        }
    }
}

/// Registers the engine of an accepted connection on `poller`.
fn register(
    poller: &PollerHandle,
    service: Arc<dyn Service>,
    accepted: Accepted,
    context: &mut SourceContext,
) {
    let factory: SourceFactory = Box::new(move |context| service.engine(accepted, context));
    if poller.is_current() {
        context.register(factory);
    } else {
        poller.register(factory);
    }
}

/// Returns the descriptor limit of the process if it is below `connections`.
pub(crate) fn descriptor_limit_below(connections: usize) -> Option<u64> {
    Some(process::descriptor_limit()).filter(|&limit| (connections as u64) > limit)
}

/// Returns the default of `max_connections`, from the descriptor limit of the process.
pub(crate) fn default_max_connections() -> usize {
    AdmissionControl::limit_for(process::descriptor_limit())
}

impl Source for Acceptor {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.listener.fd())
    }

    fn on_register(&mut self, _turn: &mut SourceContext) -> NextAction {
        NextAction::Wait(Interest::READABLE)
    }

    fn on_input_end(&mut self, _end: EndOfInput, context: &mut SourceContext) -> NextAction {
        // The kernel had no memory to poll it. Connections wait in its queue until the next try.
        self.back_off(context);
        NextAction::Wait(Interest::NONE)
    }

    fn on_notify(&mut self, context: &mut SourceContext) -> NextAction {
        // Before the admission check: a permit that is released from here on notifies again.
        let _signals = self.accept_waker.0.take();
        self.accept_more(context)
    }

    fn on_shutdown(&mut self, request: ShutdownRequest, context: &mut SourceContext) -> NextAction {
        match request {
            // Another loop accepts the queued connections and the new ones.
            ShutdownRequest::Graceful | ShutdownRequest::StopAccepting
                if self.listener.is_shared() =>
            {
                self.listener.release_path();
                NextAction::Remove
            }
            // The peers of queued connections see them as established: they are served as soon as
            // the limits permit. No queue is longer than `MAX_BACKLOG`; any further connection
            // arrived after the request.
            ShutdownRequest::Graceful | ShutdownRequest::StopAccepting => {
                self.listener.release_path();
                self.drain_remaining.get_or_insert(MAX_BACKLOG);
                self.accept_more(context)
            }
            ShutdownRequest::Force => NextAction::Remove,
            // It is registered again before it accepts, and no connection in its queue is lost.
            ShutdownRequest::PollerFailed => NextAction::Wait(Interest::READABLE),
        }
    }
}
