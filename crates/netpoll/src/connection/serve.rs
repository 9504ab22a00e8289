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
use super::burst::{Handlers, Stage, burst};
use super::calling::{Caller, Calls, Holder, Observed, Script};
use super::clock::Clock;
use super::flow::{Flow, Gate, Paused};
use super::handle::ConnectionHandle;
use super::inline::Inline;
use super::link::Link;
use super::service::Terms;
use super::session::Session;
use super::state::Life;
use super::teardown::Counted;
use crate::census::Presence;
use crate::error::BoxError;
use crate::foreign::OwnWaker;
use crate::guard::guard;
use crate::poll::bell::Signal;
use crate::poll::source::{Next, Source, Turn};
use crate::sync::{Arc, lock};

/// Makes the session that takes the place of another, on its poller.
pub(super) type Successor = Box<dyn FnOnce(Inheritance) -> Box<dyn Source> + Send>;

/// What a session leaves to its successor, besides the link.
pub(super) struct Inheritance {
    life: Life,
    presence: Option<Presence>,
    flow: Flow,
    clock: Clock,
    terms: Option<Arc<Terms>>,
    observed: Observed,
    counted: Counted,
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
        self.serve_through(Gate::Shut, handler)
    }

    /// As [`serve`](Self::serve), where `gate` says what holds up input.
    pub(crate) fn serve_through<H>(self, gate: Gate, handler: H) -> ConnectionHandle
    where
        H: AsyncFn(&mut Self) -> Result<(), BoxError> + Send + 'static,
    {
        let handle = self.handle();
        let link = Arc::clone(&self.link);
        link.leave_successor(Box::new(move |inheritance| {
            let handlers = Handlers {
                handler: Arc::new(handler),
                greet: None,
            };
            let caller = Inline {
                handlers: Rc::new(handlers),
                make: burst::<H>,
                spare: Rc::default(),
            };
            let inheritance = inheritance.served_by(std::any::type_name::<H>());
            Box::new(inheritance.session(self, caller, gate))
        }));
        handle
    }
}

impl Link {
    fn leave_successor(&self, successor: Successor) {
        *lock(&self.rare.get_or_make().successor) = Some(successor);
        let over = lock(&self.outbox).is_over().is_some();
        if over {
            self.drop_successor();
        } else {
            // Output that nobody would flush any more leaves then, too.
            self.bell.ring(Signal::Send);
        }
    }

    fn take_successor(&self) -> Option<Successor> {
        let rare = self.rare.get()?;
        lock(&rare.successor).take()
    }

    /// Nobody comes to take it.
    pub(super) fn drop_successor(&self) {
        let successor = self.take_successor();
        // It has the handler, whose drop is user code.
        let _panicked = guard(|| drop(successor)).is_err();
    }
}

impl Terms {
    /// The same, for another handler.
    fn with_handler(&self, handler: &'static str) -> Self {
        Self {
            options: Arc::clone(&self.options),
            census: Arc::clone(&self.census),
            observer: self.observer.clone(),
            handler,
            slow: self.slow,
            listening: self.listening.clone(),
        }
    }
}

impl Inheritance {
    fn served_by(mut self, handler: &'static str) -> Self {
        let terms = self.terms.take();
        self.terms = terms.map(|terms| Arc::new(terms.with_handler(handler)));
        self
    }

    fn session<C: Caller>(self, connection: Connection, caller: C, gate: Gate) -> Session<C> {
        let link = Arc::clone(connection.link());
        let script = Script {
            observed: self.observed,
            counted: self.counted,
            ..Script::new(caller, Calls::PerRequest, Stage::Request, self.terms)
        };
        let mut session = Session {
            waker: OwnWaker::new(Arc::clone(&link)),
            link,
            script,
            holder: Holder::Nobody,
            life: self.life,
            presence: self.presence,
            flow: self.flow,
            clock: self.clock,
        };
        session.flow.paused = Paused::No;
        session.flow.gate = gate;
        // None of it was offered yet, whoever has seen it.
        session.flow.stalled = false;
        session.take_back(connection);
        session
    }
}

impl<C: Caller> Session<C> {
    /// Makes way for a successor, if one was left and nobody has the connection.
    pub(super) fn succeed(&mut self, turn: &mut Turn) -> Option<Next> {
        if !matches!(self.holder, Holder::Owner) {
            return None;
        }
        let successor = self.link.take_successor()?;
        self.after_handler(turn);
        self.holder = Holder::Nobody;
        let inheritance = Inheritance {
            life: std::mem::replace(&mut self.life, Life::new()),
            presence: self.presence.take(),
            flow: std::mem::take(&mut self.flow),
            clock: std::mem::replace(&mut self.clock, Clock::new(turn.moment())),
            terms: self.script.terms.clone(),
            observed: std::mem::replace(&mut self.script.observed, Observed::Done),
            // It is one connection, and ends once.
            counted: std::mem::replace(&mut self.script.counted, Counted::Once),
        };
        Some(Next::Become(successor(inheritance)))
    }

    /// A handler has let go of its connection: there may be a successor that waits for that.
    pub(super) fn look_for_successor(&self) {
        let waits = self
            .link
            .rare
            .get()
            .is_some_and(|rare| lock(&rare.successor).is_some());
        if waits {
            self.link.bell.ring(Signal::Send);
        }
    }
}
