// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Service`]: makes the engine of each accepted connection, with the handler that serves it.
//!
//! The type of a handler is known only where the user passes it. From there on it is a [`Service`],
//! which any thread may hold. A service makes engines whose calls run where the handler's type and
//! the loop's runner allow: on the poller, on one of some threads, or in a task that may move
//! between threads.

mod handler_provider;

use std::future::{Future, Ready};
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use super::Connection;
use super::dispatcher::{HandlerMode, HandlerSlot, Observer};
use super::engine::Engine;
use super::inline_dispatcher::InlineDispatcher;
use super::offloaded_task::{OffloadDispatcher, TaskGuard};
use super::request_batch::{
    BatchEnd, CallOutcome, HandlerStage, Handlers, OnConnect, OnConnectSend, SharedHandlers,
};
use super::shared::Shared;
use crate::addr::Addr;
use crate::event::EventSink;
use crate::options::ConnOptions;
use crate::per_thread::PerThread;
use crate::poll::notifier::Notifier;
use crate::poll::set::LoadGuard;
use crate::poll::socket_registration::SocketRegistration;
use crate::poll::source::{RegisterContext, Source};
use crate::runner::Spawn;
use crate::runner::thread_pool::ThreadPool;
use crate::sync::Arc;
use crate::trace::Span;
use crate::tracker::{ConnectionTracker, TrackedConnection};
use handler_provider::HandlerCache;
pub(crate) use handler_provider::{HandlerProvider, PerThreadHandler, SharedHandler};

/// A connected socket that has no engine yet.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Before the descriptor: the registration ends before the socket is closed.
    pub(crate) registration: SocketRegistration,
    pub(crate) fd: OwnedFd,
    pub(crate) peer: Addr,
    pub(crate) options: Arc<ConnOptions>,
    pub(crate) load_guard: LoadGuard,
    pub(crate) tracked: TrackedConnection,
}

/// The configuration that all connections of a service share.
pub(crate) struct ServiceConfig {
    pub(crate) options: Arc<ConnOptions>,
    pub(crate) tracker: Arc<ConnectionTracker>,
    pub(crate) observer: Option<Observer>,
    /// The type name of the handler.
    pub(crate) handler_name: &'static str,
    /// A call that takes longer than this is reported as slow.
    pub(crate) slow_call_after: Option<Duration>,
    pub(crate) event_sink: EventSink,
}

impl ServiceConfig {
    /// Returns the configuration of a handler without a name, a limit for slow calls, or an event
    /// sink.
    pub(crate) fn new(
        options: ConnOptions,
        tracker: &Arc<ConnectionTracker>,
        observer: Option<Observer>,
    ) -> Self {
        Self {
            options: Arc::new(options),
            tracker: Arc::clone(tracker),
            observer,
            handler_name: "",
            slow_call_after: None,
            event_sink: EventSink::default(),
        }
    }
}

/// Serves connections.
pub(crate) trait Service: Send + Sync {
    /// Makes the engine of an accepted connection. Called on the thread of the poller that drives
    /// it.
    fn engine(&self, accepted: Accepted, registration: RegisterContext) -> Box<dyn Source>;

    /// Returns the configuration that its connections share.
    fn config(&self) -> &ServiceConfig;
}

/// A handler and `on_connect`, whose futures stay on one thread.
pub(crate) struct PinnedHandlers<O, M> {
    pub(crate) provider: Arc<O>,
    pub(crate) on_connect: Option<Arc<OnConnect>>,
    /// Makes the future of a request batch, or of a connection task.
    pub(crate) make: M,
    pub(crate) mode: HandlerMode,
    pub(crate) config: Arc<ServiceConfig>,
}

/// Runs calls on the connections' pollers.
struct PollerService<O, M, F> {
    handlers: PinnedHandlers<O, M>,
    /// Made on poller threads, never here.
    futures: PhantomData<fn() -> F>,
}

/// Runs calls on a thread pool, each on one thread.
struct ThreadPoolService<O, M> {
    handlers: PinnedHandlers<O, M>,
    thread_pool: Arc<ThreadPool>,
}

/// Runs calls as tasks that may move between threads.
struct SpawnService<H, M> {
    handlers: Arc<Handlers<H, OnConnectSend>>,
    make: M,
    mode: HandlerMode,
    config: Arc<ServiceConfig>,
    spawn: Arc<dyn Spawn>,
}

impl<O, M> PinnedHandlers<O, M> {
    /// Returns a service whose calls run on the connections' pollers.
    pub(crate) fn on_pollers<F>(self) -> Arc<dyn Service>
    where
        O: HandlerProvider,
        M: Fn(SharedHandlers<O::Handler>, Connection, HandlerStage) -> F
            + Copy
            + Send
            + Sync
            + 'static,
        F: Future<Output = CallOutcome> + 'static,
    {
        Arc::new(PollerService {
            handlers: self,
            futures: PhantomData,
        })
    }

    /// Returns a service whose calls run on `threads`.
    pub(crate) fn on_threads<F>(self, threads: Arc<ThreadPool>) -> Arc<dyn Service>
    where
        O: HandlerProvider,
        M: Fn(SharedHandlers<O::Handler>, Connection, HandlerStage) -> F
            + Copy
            + Send
            + Sync
            + 'static,
        F: Future<Output = CallOutcome> + 'static,
    {
        Arc::new(ThreadPoolService {
            handlers: self,
            thread_pool: threads,
        })
    }
}

/// Returns a service whose calls are tasks of `spawn`.
pub(crate) fn on_spawner<H, M, F>(
    handlers: Handlers<H, OnConnectSend>,
    (make, calls): (M, HandlerMode),
    config: Arc<ServiceConfig>,
    spawn: Arc<dyn Spawn>,
) -> Arc<dyn Service>
where
    H: Send + Sync + 'static,
    M: Fn(Arc<Handlers<H, OnConnectSend>>, Connection, HandlerStage) -> F
        + Copy
        + Send
        + Sync
        + 'static,
    F: Future<Output = CallOutcome> + Send + 'static,
{
    Arc::new(SpawnService {
        handlers: Arc::new(handlers),
        make,
        mode: calls,
        config,
        spawn,
    })
}

impl Accepted {
    fn into_shared(self, notifier: Notifier) -> (Arc<Shared>, TrackedConnection) {
        // The shared state registers the socket itself.
        drop(self.registration);
        let mut shared = Shared::new(
            self.fd,
            self.peer,
            notifier,
            self.options,
            Some(self.load_guard),
        );
        shared.span = Span::open(shared.as_fd(), self.peer);
        (Arc::new(shared), self.tracked)
    }
}

fn first_stage(has_on_connect: bool) -> HandlerStage {
    if has_on_connect {
        HandlerStage::Connect
    } else {
        HandlerStage::Request
    }
}

impl<O, M, F> Service for PollerService<O, M, F>
where
    O: HandlerProvider,
    M: Fn(SharedHandlers<O::Handler>, Connection, HandlerStage) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = CallOutcome> + 'static,
{
    fn engine(&self, accepted: Accepted, registration: RegisterContext) -> Box<dyn Source> {
        let (shared, tracked) = accepted.into_shared(registration.notifier);
        let PinnedHandlers {
            provider,
            on_connect,
            ..
        } = &self.handlers;
        let cache = registration.per_thread.get::<HandlerCache<O>>();
        let handler = HandlerSlot::new(
            InlineDispatcher {
                handlers: cache.handlers(provider, on_connect.as_ref()),
                make: self.handlers.make,
                spare: registration.per_thread.get(),
            },
            self.handlers.mode,
            first_stage(on_connect.is_some()),
            Some(Arc::clone(&self.handlers.config)),
        );
        Box::new(Engine::new(shared, handler, Some(tracked)))
    }

    fn config(&self) -> &ServiceConfig {
        &self.handlers.config
    }
}

impl<O, M, F> Service for ThreadPoolService<O, M>
where
    O: HandlerProvider,
    M: Fn(SharedHandlers<O::Handler>, Connection, HandlerStage) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = CallOutcome> + 'static,
{
    fn engine(&self, accepted: Accepted, registration: RegisterContext) -> Box<dyn Source> {
        let (shared, tracked) = accepted.into_shared(registration.notifier);
        let PinnedHandlers {
            make, mode: calls, ..
        } = self.handlers;
        let provider = Arc::clone(&self.handlers.provider);
        let on_connect = self.handlers.on_connect.clone();
        let stage = first_stage(on_connect.is_some());
        let threads = Arc::clone(&self.thread_pool);
        let launch = move |task: TaskGuard, connection: Connection, stage: HandlerStage| {
            let (provider, on_connect) = (Arc::clone(&provider), on_connect.clone());
            threads.spawn_pinned(Box::new(move |thread: &PerThread| {
                let cache = thread.get::<HandlerCache<O>>();
                let call = make(
                    cache.handlers(&provider, on_connect.as_ref()),
                    connection,
                    stage,
                );
                Box::pin(task.run(call))
            }));
        };
        let handler = HandlerSlot::new(
            OffloadDispatcher {
                shared: Arc::clone(&shared),
                launch,
            },
            calls,
            stage,
            Some(Arc::clone(&self.handlers.config)),
        );
        Box::new(Engine::new(shared, handler, Some(tracked)))
    }

    fn config(&self) -> &ServiceConfig {
        &self.handlers.config
    }
}

impl<H, M, F> Service for SpawnService<H, M>
where
    H: Send + Sync + 'static,
    M: Fn(Arc<Handlers<H, OnConnectSend>>, Connection, HandlerStage) -> F
        + Copy
        + Send
        + Sync
        + 'static,
    F: Future<Output = CallOutcome> + Send + 'static,
{
    fn engine(&self, accepted: Accepted, registration: RegisterContext) -> Box<dyn Source> {
        let (shared, tracked) = accepted.into_shared(registration.notifier);
        let handlers = Arc::clone(&self.handlers);
        let stage = first_stage(handlers.on_connect.is_some());
        let (make, spawn) = (self.make, Arc::clone(&self.spawn));
        let launch = move |task: TaskGuard, connection: Connection, stage: HandlerStage| {
            let call = make(Arc::clone(&handlers), connection, stage);
            spawn.spawn(Box::pin(task.run(call)));
        };
        let handler = HandlerSlot::new(
            OffloadDispatcher {
                shared: Arc::clone(&shared),
                launch,
            },
            self.mode,
            stage,
            Some(Arc::clone(&self.config)),
        );
        Box::new(Engine::new(shared, handler, Some(tracked)))
    }

    fn config(&self) -> &ServiceConfig {
        &self.config
    }
}

/// Makes an accepted connection for user code to own, and its engine.
pub(crate) fn owned_connection(
    accepted: Accepted,
    registration: RegisterContext,
) -> (Connection, Box<dyn Source>) {
    let (shared, _tracked) = accepted.into_shared(registration.notifier);
    (
        Connection::new(Arc::clone(&shared)),
        unserved_engine(shared),
    )
}

/// Makes the engine of a connection that user code owns: it calls no handler.
pub(crate) fn unserved_engine(shared: Arc<Shared>) -> Box<dyn Source> {
    let handlers = Handlers {
        handler: Arc::new(()),
        on_connect: None,
    };
    let handler = HandlerSlot::new(
        InlineDispatcher {
            handlers: Rc::new(handlers),
            make: unserved_call,
            spare: Rc::default(),
        },
        HandlerMode::None,
        HandlerStage::Request,
        None,
    );
    Box::new(Engine::with_external_owner(shared, handler))
}

fn unserved_call(
    _handlers: SharedHandlers<()>,
    connection: Connection,
    _stage: HandlerStage,
) -> Ready<CallOutcome> {
    std::future::ready(CallOutcome {
        connection: Some(connection),
        end: BatchEnd::Consumed,
        requests: 0,
    })
}
