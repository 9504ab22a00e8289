// SPDX-License-Identifier: MIT OR Apache-2.0
//! One attempt to connect: a source, which the engine of its connection replaces, and the future
//! that waits for the result.
//!
//! Both share a [`DialChannel`], which carries one result. If the source's side is dropped without
//! a result, because the poller ended before the source was registered or together with it, the
//! result is [`ErrorKind::NotRunning`].

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use netpoll_sys::socket::ConnectStatus;
use netpoll_sys::{Interest, Readiness, socket};

use crate::addr::Addr;
use crate::connection::Connection;
use crate::connection::service::unserved_engine;
use crate::connection::shared::Shared;
use crate::error::{CloseReason, ErrorKind};
use crate::foreign::{WakerSlot, register};
use crate::options::ConnOptions;
use crate::poll::notifier::Notice;
use crate::poll::set::LoadGuard;
use crate::poll::source::{
    EndOfInput, NextAction, RegisterContext, ShutdownRequest, Source, SourceContext, SourceFactory,
};
use crate::sync::{Arc, Mutex, lock};

/// The first and the longest delay before the connect is retried while the listener's queue is
/// full.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(1);
const MAX_RETRY_DELAY: Duration = Duration::from_millis(64);

/// The state that a dial and its source share.
#[derive(Debug, Default)]
struct DialChannel {
    state: Mutex<DialState>,
}

#[derive(Debug, Default)]
struct DialState {
    stage: DialStage,
    result: Option<io::Result<Connection>>,
    waker: WakerSlot,
    shared: Option<Arc<Shared>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DialStage {
    #[default]
    Pending,
    /// The result was sent. The future may have taken it already.
    Sent,
    /// The future was dropped.
    Abandoned,
}

/// Returns both ends of a channel for one result.
pub(super) fn dial_channel() -> (DialFuture, DialSender) {
    let channel = Arc::<DialChannel>::default();
    let sender = DialSender(Arc::clone(&channel));
    (DialFuture { channel }, sender)
}

/// Sends the result of a dial. Dropped without a result, it sends
/// [`ErrorKind::NotRunning`].
pub(super) struct DialSender(Arc<DialChannel>);

impl DialSender {
    /// Sends the result, unless one was sent or the future was dropped. A connection that cannot be
    /// sent is dropped, and so closed.
    pub(super) fn send(&self, result: io::Result<Connection>) {
        let mut state = lock(&self.0.state);
        if state.stage != DialStage::Pending {
            return;
        }
        state.stage = DialStage::Sent;
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        waker.wake();
    }

    fn is_abandoned(&self) -> bool {
        lock(&self.0.state).stage == DialStage::Abandoned
    }
}

impl Drop for DialSender {
    fn drop(&mut self) {
        self.send(Err(ErrorKind::NotRunning.into()));
    }
}

/// The future of a dial: resolves to the result.
pub(super) struct DialFuture {
    channel: Arc<DialChannel>,
}

impl Future for DialFuture {
    type Output = io::Result<Connection>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        register(context.waker(), |caller_waker| {
            let mut state = lock(&self.channel.state);
            match state.result.take() {
                Some(result) => Ok(Poll::Ready(result)),
                None => state.waker.set(caller_waker).map(|()| Poll::Pending),
            }
        })
    }
}

impl Drop for DialFuture {
    fn drop(&mut self) {
        let mut state = lock(&self.channel.state);
        state.stage = DialStage::Abandoned;
        let (shared, waker) = (state.shared.take(), state.waker.take());
        let unclaimed = state.result.take();
        drop(state);
        drop(waker);
        // An unclaimed connection is closed by its drop.
        drop(unclaimed);
        if let Some(shared) = shared {
            shared.notifier.notify(Notice::Close);
        }
    }
}

/// A connect that was started and has no poller yet.
pub(super) struct PendingConnect {
    pub(super) fd: OwnedFd,
    pub(super) target: Addr,
    pub(super) status: ConnectStatus,
    pub(super) deadline: Option<Instant>,
    pub(super) options: Arc<ConnOptions>,
    pub(super) load_guard: Option<LoadGuard>,
    pub(super) sender: DialSender,
}

impl PendingConnect {
    pub(super) fn into_factory(self) -> SourceFactory {
        Box::new(move |registration: RegisterContext| {
            let shared = Shared::new(
                self.fd,
                self.target,
                registration.notifier,
                self.options,
                self.load_guard,
            );
            let shared = Arc::new(shared);
            lock(&self.sender.0.state).shared = Some(Arc::clone(&shared));
            Box::new(ConnectAttempt {
                shared,
                target: self.target,
                deadline: self.deadline,
                waits_for: self.status.into(),
                sender: self.sender,
            })
        })
    }
}

/// The source of a socket that is not connected yet.
struct ConnectAttempt {
    shared: Arc<Shared>,
    target: Addr,
    deadline: Option<Instant>,
    waits_for: ConnectWait,
    sender: DialSender,
}

/// The event that a connecting socket waits for.
#[derive(Clone, Copy, Debug)]
enum ConnectWait {
    /// The kernel's result. Whether the connect is in progress or complete, the socket becomes
    /// writable.
    Kernel,
    /// Room in the listener's queue, for which the kernel has no event: the delay to the next try.
    Retry(Duration),
}

impl From<ConnectStatus> for ConnectWait {
    fn from(status: ConnectStatus) -> Self {
        match status {
            ConnectStatus::QueueFull => Self::Retry(MIN_RETRY_DELAY),
            _ => Self::Kernel,
        }
    }
}

impl ConnectAttempt {
    /// Waits for the next event, at most until the deadline.
    fn wait(&self, context: &mut SourceContext) -> NextAction {
        match self.waits_for {
            ConnectWait::Kernel => {
                context.set_deadline(self.deadline);
                NextAction::Wait(Interest::WRITABLE)
            }
            ConnectWait::Retry(pause) => {
                let next = context.now() + pause;
                context.set_deadline(Some(self.deadline.map_or(next, |end| end.min(next))));
                // The kernel reports a socket that is not connected as hung up, again and again.
                NextAction::NoInterest
            }
        }
    }

    /// Retries a connect that found the listener's queue full.
    fn retry_connect(&mut self, pause: Duration, context: &mut SourceContext) -> NextAction {
        match socket::connect(self.shared.as_fd(), self.target) {
            Ok(ConnectStatus::QueueFull) => {
                self.waits_for = ConnectWait::Retry((2 * pause).min(MAX_RETRY_DELAY));
                self.wait(context)
            }
            Ok(_) => {
                self.waits_for = ConnectWait::Kernel;
                self.wait(context)
            }
            Err(error) => self.fail(error),
        }
    }

    /// Completes the connect with the kernel's result.
    fn finish_connect(&mut self) -> NextAction {
        match self.connect_result() {
            Ok(()) => {
                let connection = Connection::new(Arc::clone(&self.shared));
                self.sender.send(Ok(connection));
                NextAction::Replace(unserved_engine(Arc::clone(&self.shared)))
            }
            Err(error) => self.fail(error),
        }
    }

    fn connect_result(&self) -> io::Result<()> {
        let fd = self.shared.as_fd();
        if let Some(error) = socket::take_error(fd)? {
            return Err(error);
        }
        let peer = self.peer();
        // A TCP socket can connect to itself if its own port is the one that it dials.
        if is_same_endpoint(socket::local_addr(fd)?, peer) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.shared.set_peer(peer);
        Ok(())
    }

    /// Returns the address of the peer. The kernel's answer is preferred: a dial of an unspecified
    /// address reaches another one, and a path may lead to a socket that was bound by another name.
    /// If the kernel has none, because the peer is gone or has no name, it is the target.
    fn peer(&self) -> Addr {
        match socket::peer_addr(self.shared.as_fd()) {
            Ok(Addr::Unnamed) | Err(_) => self.target,
            Ok(peer) => peer,
        }
    }

    fn fail(&self, error: io::Error) -> NextAction {
        self.sender.send(Err(error));
        NextAction::Remove
    }
}

/// Returns whether both are one TCP endpoint. The zone and flow label of an IPv6 address are
/// ignored.
fn is_same_endpoint(one: Addr, other: Addr) -> bool {
    let end = |addr: Addr| {
        addr.as_tcp()
            .map(|addr| (addr.ip().to_canonical(), addr.port()))
    };
    end(one).is_some_and(|one| Some(one) == end(other))
}

impl Source for ConnectAttempt {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.shared.as_fd())
    }

    fn on_register(&mut self, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    fn on_input_end(&mut self, end: EndOfInput, context: &mut SourceContext) -> NextAction {
        match end {
            // The poller cannot watch the socket, so the result would never arrive.
            EndOfInput::Error(error) => self.fail(error),
            EndOfInput::Fin => self.on_notify(context),
        }
    }

    fn on_ready(&mut self, readiness: Readiness, context: &mut SourceContext) -> NextAction {
        if readiness.is_writable() || readiness.may_have_ended() {
            context.set_deadline(None);
            self.finish_connect()
        } else {
            self.on_notify(context)
        }
    }

    fn on_notify(&mut self, context: &mut SourceContext) -> NextAction {
        if self.sender.is_abandoned() {
            return NextAction::Remove;
        }
        self.wait(context)
    }

    fn on_timeout(&mut self, context: &mut SourceContext) -> NextAction {
        match self.waits_for {
            ConnectWait::Retry(pause) if self.deadline.is_none_or(|end| context.now() < end) => {
                self.retry_connect(pause, context)
            }
            _ => self.fail(io::ErrorKind::TimedOut.into()),
        }
    }

    fn on_shutdown(&mut self, request: ShutdownRequest, context: &mut SourceContext) -> NextAction {
        match request {
            ShutdownRequest::StopAccepting | ShutdownRequest::Graceful => self.on_notify(context),
            ShutdownRequest::Force => self.fail(ErrorKind::NotRunning.into()),
            ShutdownRequest::PollerFailed => self.fail(CloseReason::PollerFailed.to_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn error_kind(dial: &mut DialFuture) -> Option<io::ErrorKind> {
        let polled = Pin::new(dial).poll(&mut Context::from_waker(Waker::noop()));
        match polled {
            Poll::Ready(result) => Some(result.unwrap_err().kind()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn dial_fails_if_its_source_is_never_registered() {
        let (mut dial, sender) = dial_channel();
        let (fd, _other) = socket::pair().unwrap();
        let start = PendingConnect {
            fd,
            target: Addr::Unnamed,
            status: ConnectStatus::InProgress,
            deadline: None,
            options: Arc::default(),
            load_guard: None,
            sender,
        };
        let factory = start.into_factory();
        assert_eq!(error_kind(&mut dial), None);
        drop(factory);
        assert_eq!(
            error_kind(&mut dial),
            Some(io::ErrorKind::ConnectionAborted)
        );
    }

    #[test]
    fn first_dial_result_wins() {
        let (mut dial, sender) = dial_channel();
        sender.send(Err(io::ErrorKind::TimedOut.into()));
        sender.send(Err(io::ErrorKind::Other.into()));
        drop(sender);
        assert_eq!(error_kind(&mut dial), Some(io::ErrorKind::TimedOut));
    }
}
