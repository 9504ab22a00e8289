// SPDX-License-Identifier: MIT OR Apache-2.0
//! A handler for a connection that somebody owned: dialed, adopted, or taken out of a handler.
//!
//! The session of such a connection calls nothing, and its type cannot learn a handler that comes
//! later. So the owner leaves a successor with the link: a function that makes a session which
//! has the handler, out of what the old one knew. The poller puts it in the old one's place.
//!
//! What is left there owns the connection, and so keeps the link it lies in. A session takes it out
//! when it next looks; of a connection that is over, whoever comes second takes it out: the one who
//! left it, or the poller that tells the end.

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

/// Makes the session that takes the place of another, on its poller.
pub(super) type Replacement = Box<dyn FnOnce(EngineParts) -> Box<dyn Source> + Send>;

/// What a session leaves to its successor, besides the link.
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
    /// Gives the connection to `handler`, which is called as one of
    /// [`on_request`](crate::Builder::on_request) is, on the connection's poller: at once if there
    /// is input that was not read, and whenever more has come. For the client side of a protocol in
    /// which both sides ask, or a connection that is only to be listened to. State that is
    /// [attached](Self::attach) is there for the handler. The connection ends as an accepted one
    /// does; until then the handle pushes to it, closes it, and waits for its end.
    ///
    /// A few allocations; none for a request.
    ///
    /// ```no_run
    /// use netpoll::{Connection, Dialer};
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let mut conn = Dialer::new().dial("127.0.0.1:8080").await?;
    /// conn.writer().put_str("subscribe\n");
    /// let news = conn.serve(async |conn: &mut Connection| {
    ///     let mut reader = conn.reader();
    ///     let line = reader.until(b'\n', 1024).await?;
    ///     println!("{} bytes of news", line.len());
    ///     Ok(())
    /// });
    /// println!("over: {}", news.closed().await);
    /// # Ok(()) }
    /// ```
    pub fn serve<H>(self, handler: H) -> ConnectionHandle
    where
        H: AsyncFn(&mut Self) -> Result<(), BoxError> + Send + 'static,
    {
        self.serve_with_policy(ReadPolicy::PauseOnBackpressure, handler)
    }

    /// As [`serve`](Self::serve), where `gate` says what holds up input.
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
        let over = lock(&self.output_buffer).final_reason().is_some();
        if over {
            self.drop_replacement();
        } else {
            // Output that nobody would flush any more leaves then, too.
            self.notifier.notify(Notice::Send);
        }
    }

    fn take_replacement(&self) -> Option<Replacement> {
        let extensions = self.extensions.get()?;
        lock(&extensions.replacement).take()
    }

    /// Nobody comes to take it.
    pub(super) fn drop_replacement(&self) {
        let replacement = self.take_replacement();
        // It has the handler, whose drop is user code.
        let _panicked = guard(|| drop(replacement)).is_err();
    }
}

impl ServiceConfig {
    /// The same, for another handler.
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
        // None of it was offered yet, whoever has seen it.
        engine.backpressure.needs_more_input = false;
        engine.reclaim(connection);
        engine
    }
}

impl<C: Dispatcher> Engine<C> {
    /// Makes way for a successor, if one was left and nobody has the connection.
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
            // It is one connection, and ends once.
            close_count: std::mem::replace(&mut self.handler.close_count, CloseCount::Done),
        };
        Some(NextAction::Replace(replacement(parts)))
    }

    /// A handler has let go of its connection: there may be a successor that waits for that.
    pub(super) fn check_replacement(&self) {
        let waits = self
            .shared
            .extensions
            .get()
            .is_some_and(|extensions| lock(&extensions.replacement).is_some());
        if waits {
            self.shared.notifier.notify(Notice::Send);
        }
    }
}
