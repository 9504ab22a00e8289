// SPDX-License-Identifier: MIT OR Apache-2.0
//! A handler for a connection that user code owned: dialed, adopted, or taken out of a handler.
//!
//! The engine of such a connection calls no handler, and its type cannot hold one that comes later.
//! So the owner puts a replacement into the shared state: a function that makes an engine with the
//! handler from the parts of the old one. The poller puts the new engine in the old one's place.
//!
//! The replacement owns the connection, and so a reference to the shared state that it lies in. The
//! engine takes it out when it next runs. When the connection is over, the later of two takes it
//! out and drops it: the setter, or the poller that finalizes the connection.

use std::rc::Rc;

use super::Connection;
use super::backpressure::{Backpressure, PauseReason, ReadPolicy};
use super::deadlines::DeadlineTracker;
use super::dispatcher::{Dispatcher, HandlerMode, HandlerSlot, ObserverState, Owner};
use super::engine::Engine;
use super::handle::ConnectionHandle;
use super::inline_dispatcher::InlineDispatcher;
use super::lifecycle::Lifecycle;
use super::request_batch::{HandlerStage, Handlers, run_batch};
use super::service::ServiceConfig;
use super::shared::Shared;
use super::teardown::CloseCount;
use crate::error::BoxError;
use crate::foreign::OwnWaker;
use crate::guard::guard;
use crate::poll::notifier::Notice;
use crate::poll::source::{NextAction, Source, SourceContext};
use crate::sync::{Arc, lock};
use crate::tracker::TrackedConnection;

/// Makes the engine that replaces another one, on its poller.
pub(super) type Replacement = Box<dyn FnOnce(EngineParts) -> Box<dyn Source> + Send>;

/// The parts that an engine passes to its replacement, besides the shared state.
pub(super) struct EngineParts {
    lifecycle: Lifecycle,
    tracked: Option<TrackedConnection>,
    backpressure: Backpressure,
    deadlines: DeadlineTracker,
    config: Option<Arc<ServiceConfig>>,
    observer_state: ObserverState,
    close_count: CloseCount,
}

impl Connection {
    /// Gives the connection to `handler`, which is called like a handler of
    /// [`on_request`](crate::Builder::on_request), on the connection's poller: at once if there is
    /// unread input, and whenever more has come. Use it for the client side of a protocol in which
    /// both sides send requests, or for a connection that only receives. The handler finds the
    /// state that is [attached](Self::attach). The connection ends as an accepted one does. Until
    /// then the handle pushes to it, closes it, and waits for its end.
    ///
    /// Makes a few allocations, and none for each request.
    ///
    /// ```no_run
    /// use netpoll::{Connection, Dialer};
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let mut conn = Dialer::new().dial("127.0.0.1:8080").await?;
    /// conn.writer().put_str("subscribe\n");
    /// let handle = conn.serve(async |conn: &mut Connection| {
    ///     let mut reader = conn.reader();
    ///     let line = reader.until(b'\n', 1024).await?;
    ///     println!("received {} bytes", line.len());
    ///     Ok(())
    /// });
    /// println!("closed: {}", handle.closed().await);
    /// # Ok(()) }
    /// ```
    pub fn serve<H>(self, handler: H) -> ConnectionHandle
    where
        H: AsyncFn(&mut Self) -> Result<(), BoxError> + Send + 'static,
    {
        self.serve_with_policy(ReadPolicy::PauseOnBackpressure, handler)
    }

    /// As [`serve`](Self::serve). `policy` says whether unsent output pauses reads.
    pub(crate) fn serve_with_policy<H>(self, policy: ReadPolicy, handler: H) -> ConnectionHandle
    where
        H: AsyncFn(&mut Self) -> Result<(), BoxError> + Send + 'static,
    {
        let handle = self.handle();
        let shared = Arc::clone(&self.shared);
        shared.set_replacement(Box::new(move |parts| {
            let handlers = Handlers {
                handler: Arc::new(handler),
                on_connect: None,
            };
            let dispatcher = InlineDispatcher {
                handlers: Rc::new(handlers),
                make: run_batch::<H>,
                spare: Rc::default(),
            };
            let parts = parts.with_handler_name(std::any::type_name::<H>());
            Box::new(parts.into_engine(self, dispatcher, policy))
        }));
        handle
    }
}

impl Shared {
    fn set_replacement(&self, replacement: Replacement) {
        *lock(&self.extensions.get_or_make().replacement) = Some(replacement);
        let is_over = lock(&self.output_buffer).final_reason().is_some();
        if is_over {
            self.drop_replacement();
        } else {
            // This also sends output that has no other sender any more.
            self.notifier.notify(Notice::Send);
        }
    }

    fn take_replacement(&self) -> Option<Replacement> {
        let extensions = self.extensions.get()?;
        lock(&extensions.replacement).take()
    }

    /// Drops the replacement, if there is one: no engine will take it.
    pub(super) fn drop_replacement(&self) {
        let replacement = self.take_replacement();
        // It owns the handler, whose drop is user code.
        let _panicked = guard(|| drop(replacement)).is_err();
    }
}

impl ServiceConfig {
    /// Returns the same configuration for another handler.
    fn with_handler(&self, handler: &'static str) -> Self {
        Self {
            options: Arc::clone(&self.options),
            tracker: Arc::clone(&self.tracker),
            observer: self.observer.clone(),
            handler_name: handler,
            slow_call_after: self.slow_call_after,
            event_sink: self.event_sink.clone(),
        }
    }
}

impl EngineParts {
    fn with_handler_name(mut self, handler: &'static str) -> Self {
        let config = self.config.take();
        self.config = config.map(|config| Arc::new(config.with_handler(handler)));
        self
    }

    fn into_engine<C: Dispatcher>(
        self,
        connection: Connection,
        dispatcher: C,
        policy: ReadPolicy,
    ) -> Engine<C> {
        let shared = Arc::clone(connection.shared());
        let handler = HandlerSlot {
            observer_state: self.observer_state,
            close_count: self.close_count,
            ..HandlerSlot::new(
                dispatcher,
                HandlerMode::PerRequest,
                HandlerStage::Request,
                self.config,
            )
        };
        let mut engine = Engine {
            waker: OwnWaker::new(Arc::clone(&shared)),
            shared,
            handler,
            owner: Owner::None,
            lifecycle: self.lifecycle,
            tracked: self.tracked,
            backpressure: self.backpressure,
            deadlines: self.deadlines,
        };
        engine.backpressure.paused = PauseReason::None;
        engine.backpressure.read_policy = policy;
        // None of the input was offered to this handler yet.
        engine.backpressure.needs_more_input = false;
        engine.reclaim(connection);
        engine
    }
}

impl<C: Dispatcher> Engine<C> {
    /// Returns the replacement of this engine, if one is set and the connection is not in use.
    pub(super) fn replace(&mut self, context: &mut SourceContext) -> Option<NextAction> {
        if !matches!(self.owner, Owner::User) {
            return None;
        }
        let replacement = self.shared.take_replacement()?;
        self.after_handler(context);
        self.owner = Owner::None;
        let parts = EngineParts {
            lifecycle: std::mem::replace(&mut self.lifecycle, Lifecycle::new()),
            tracked: self.tracked.take(),
            backpressure: std::mem::take(&mut self.backpressure),
            deadlines: std::mem::replace(
                &mut self.deadlines,
                DeadlineTracker::new(context.timestamp()),
            ),
            config: self.handler.config.clone(),
            observer_state: std::mem::replace(
                &mut self.handler.observer_state,
                ObserverState::Done,
            ),
            // The connection is the same, and its end is counted once.
            close_count: std::mem::replace(&mut self.handler.close_count, CloseCount::Done),
        };
        Some(NextAction::Replace(replacement(parts)))
    }

    /// Notifies the poller if a replacement waits for the handler to give its connection back.
    pub(super) fn check_replacement(&self) {
        let is_set = self
            .shared
            .extensions
            .get()
            .is_some_and(|extensions| lock(&extensions.replacement).is_some());
        if is_set {
            self.shared.notifier.notify(Notice::Send);
        }
    }
}
