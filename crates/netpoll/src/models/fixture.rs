// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the models are made of: a connection and its peer, a poller, and who is told of the end.

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

/// A task of an errand, which some thread of the model polls.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that has no session yet.
pub(super) struct ConnectionFixture {
    pub(super) handle: PollerHandle,
    pub(super) shared: Arc<Shared>,
    /// The other end.
    pub(super) peer: OwnedFd,
    pub(super) closes: Arc<CloseLog>,
    pub(super) tasks: Arc<TaskQueue>,
}

/// What the observer was told.
#[derive(Default)]
pub(super) struct CloseLog {
    reasons: Mutex<Vec<CloseReason>>,
}

/// Tasks that nobody polls yet.
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
    /// A connection with `options`, of a poller that no thread is yet.
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

    /// Makes the calling thread the poller, with a session that has its handler called elsewhere:
    /// by whoever takes its tasks. The handler takes one byte a call.
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

    /// Makes the calling thread the poller, with a session whose connection somebody owns.
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

/// What is agreed with `observer`, and nothing else.
fn terms(observer: Observer) -> Arc<ServiceConfig> {
    let census = Arc::default();
    Arc::new(ServiceConfig::new(
        ConnOptions::default(),
        &census,
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

    /// The one reason that was told.
    #[track_caller]
    pub(super) fn only(&self) -> CloseReason {
        let reasons = lock(&self.reasons);
        assert_eq!(reasons.len(), 1, "told once");
        reasons[0].clone()
    }
}

impl TaskQueue {
    /// Polls what there is, again and again when it is woken, until the end was told.
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

/// A burst of calls that take one byte each.
async fn answer_one_byte(mut connection: Connection) -> CallOutcome {
    let more = connection.reader().available() > 1;
    let verdict = match connection.reader().skip(1).await {
        Ok(()) => {
            // Foreign memory: a thread's own write block would end in an order of the checker's.
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
        end: verdict,
        requests: 1,
    }
}

/// Gives a thread of a model a pool of its own, for none of one interleaving to reach the next.
pub(super) fn install_empty_pool() {
    Pool::with_bound(0).enter();
}

/// Polls `future` to its end, again only when it was woken.
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

/// All that comes to `peer`, up to the end.
pub(super) fn receive_all(peer: &OwnedFd) -> Vec<u8> {
    let mut received = Vec::new();
    let mut room = [0; 64];
    loop {
        match transfer::receive(peer.as_fd(), &mut room) {
            Ok(0) => return received,
            Ok(count) => received.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            // It was never let in.
            Err(_) => return received,
        }
    }
}
