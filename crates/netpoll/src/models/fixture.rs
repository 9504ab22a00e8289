// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the models are made of: a connection and its peer, a poller, and a log of closes.

use std::future::Future;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use netpoll_buffer::Pool;
use netpoll_sys::{socket, transfer};

use crate::addr::Addr;
use crate::budget::Budget;
use crate::connection::Connection;
use crate::connection::dispatcher::{HandlerMode, HandlerSlot, Observer};
use crate::connection::engine::Engine;
use crate::connection::offloaded_task::{OffloadDispatcher, TaskGuard};
use crate::connection::request_batch::{BatchEnd, CallOutcome, HandlerStage};
use crate::connection::service::ServiceConfig;
use crate::connection::shared::Shared;
use crate::error::CloseReason;
use crate::options::ConnOptions;
use crate::poll::mailbox::Mailbox;
use crate::poll::model_poller::ModelPoller;
use crate::poll::notifier::Notifier;
use crate::poll::set::PollerHandle;
use crate::poll::source::{RegisterContext, SourceFactory};
use crate::poll::token::Token;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, lock, thread};

/// An offloaded task, which a thread of the model polls.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection without an engine.
pub(super) struct ConnectionFixture {
    pub(super) handle: PollerHandle,
    pub(super) shared: Arc<Shared>,
    /// The peer's end.
    pub(super) peer: OwnedFd,
    pub(super) closes: Arc<CloseLog>,
    pub(super) tasks: Arc<TaskQueue>,
}

/// The reasons that the observer was called with.
#[derive(Default)]
pub(super) struct CloseLog {
    reasons: Mutex<Vec<CloseReason>>,
}

/// Tasks that wait to be polled.
#[derive(Default)]
pub(super) struct TaskQueue {
    queue: Mutex<Vec<Work>>,
}

/// Counts wakes.
pub(super) struct WakeCounter(AtomicUsize);

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl ConnectionFixture {
    /// Creates a connection with `options`, on a poller that has no thread yet.
    pub(super) fn new(options: ConnOptions) -> Self {
        install_empty_pool();
        let (fd, peer) = socket::pair().expect("two sockets");
        let handle = PollerHandle::new(Mailbox::new(Arc::default()).expect("a poller"));
        // The first source that a poller registers has this token.
        let notifier = Notifier::new(Arc::clone(handle.mailbox()), Token::source(0, 0));
        let shared = Shared::new(fd, Addr::Unnamed, notifier, Arc::new(options), None);
        Self {
            handle,
            shared: Arc::new(shared),
            peer,
            closes: Arc::default(),
            tasks: Arc::default(),
        }
    }

    /// Makes the calling thread the poller, with an engine that offloads its handler: a thread that
    /// takes from `tasks` runs it. The handler takes one byte per call.
    pub(super) fn with_offloaded_handler(&self) -> ModelPoller {
        let (tasks, shared) = (Arc::clone(&self.tasks), Arc::clone(&self.shared));
        let (closes, dispatcher) = (self.closes.observer(), Arc::clone(&self.shared));
        let launch = move |task: TaskGuard, connection: Connection, _stage: HandlerStage| {
            let work: Work = Box::pin(task.run(answer_one_byte(connection)));
            lock(&tasks.queue).push(work);
        };
        self.poller(Box::new(move |_registration: RegisterContext| {
            let handler = HandlerSlot::new(
                OffloadDispatcher {
                    shared: dispatcher,
                    launch,
                },
                HandlerMode::PerRequest,
                HandlerStage::Request,
                Some(config(closes)),
            );
            Box::new(Engine::new(shared, handler, None))
        }))
    }

    /// Makes the calling thread the poller, with an engine whose connection has an external owner.
    pub(super) fn with_owner(&self) -> ModelPoller {
        let shared = Arc::clone(&self.shared);
        let closes = self.closes.observer();
        let dispatcher = Arc::clone(&self.shared);
        self.poller(Box::new(move |_registration: RegisterContext| {
            let handler = HandlerSlot::new(
                OffloadDispatcher {
                    shared: dispatcher,
                    launch: |_: TaskGuard, _: Connection, _: HandlerStage| {},
                },
                HandlerMode::None,
                HandlerStage::Request,
                Some(config(closes)),
            );
            Box::new(Engine::with_external_owner(shared, handler))
        }))
    }

    fn poller(&self, factory: SourceFactory) -> ModelPoller {
        install_empty_pool();
        let mut poller = ModelPoller::new(&self.handle, &Budget::of(Pool::current(), usize::MAX));
        poller.register(factory);
        poller
    }
}

/// A configuration with `observer` and nothing else.
fn config(observer: Observer) -> Arc<ServiceConfig> {
    let tracker = Arc::default();
    Arc::new(ServiceConfig::new(
        ConnOptions::default(),
        &tracker,
        Some(observer),
    ))
}

impl CloseLog {
    fn observer(self: &Arc<Self>) -> Observer {
        let closes = Arc::clone(self);
        Arc::new(move |_connection, reason| lock(&closes.reasons).push(reason.clone()))
    }

    pub(super) fn has_closed(&self) -> bool {
        !lock(&self.reasons).is_empty()
    }

    /// Returns the one reason that was reported.
    #[track_caller]
    pub(super) fn only(&self) -> CloseReason {
        let reasons = lock(&self.reasons);
        assert_eq!(reasons.len(), 1, "reported once");
        reasons[0].clone()
    }
}

impl TaskQueue {
    /// Polls the queued tasks, again after each wake, until the close is reported.
    pub(super) fn run_until_closed(&self, closes: &CloseLog) {
        let wakes = Arc::new(WakeCounter(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut mine: Vec<Work> = Vec::new();
        while !closes.has_closed() {
            let new = std::mem::take(&mut *lock(&self.queue));
            let is_new = !new.is_empty();
            mine.extend(new);
            if is_new || wakes.0.swap(0, Ordering::SeqCst) > 0 {
                let mut context = Context::from_waker(&waker);
                mine.retain_mut(|work| work.as_mut().poll(&mut context).is_pending());
            } else {
                thread::yield_now();
            }
        }
    }
}

/// Runs a batch of one request that takes one byte.
async fn answer_one_byte(mut connection: Connection) -> CallOutcome {
    let more = connection.reader().available() > 1;
    let end = match connection.reader().skip(1).await {
        Ok(()) => {
            // Pushed memory: the checker would choose when a thread's write block is dropped.
            connection.writer().push(Bytes::from_static(b"."));
            if more {
                BatchEnd::Yielded
            } else {
                BatchEnd::Consumed
            }
        }
        Err(error) => BatchEnd::Failed(error.into()),
    };
    CallOutcome {
        connection: Some(connection),
        end,
        requests: 1,
    }
}

/// Gives the calling thread an empty pool, so that no block of one interleaving reaches the next.
pub(super) fn install_empty_pool() {
    Pool::with_bound(0).enter();
}

/// Polls `future` to its end, each time only after a wake.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let wakes = Arc::new(WakeCounter(AtomicUsize::new(1)));
    let waker = Waker::from(Arc::clone(&wakes));
    loop {
        if wakes.0.swap(0, Ordering::SeqCst) == 0 {
            thread::yield_now();
        } else if let std::task::Poll::Ready(output) =
            future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return output;
        }
    }
}

/// Returns all that `peer` receives before the end.
pub(super) fn receive_all(peer: &OwnedFd) -> Vec<u8> {
    let mut received = Vec::new();
    let mut buffer = [0; 64];
    loop {
        match transfer::receive(peer.as_fd(), &mut buffer) {
            Ok(0) => return received,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            // The connection was never accepted.
            Err(_) => return received,
        }
    }
}
