// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the handlers of a test program run, and how a server gets them.
//!
//! A test defines its handlers but not where they run. Each is a [`Handler`], whose futures may
//! move, and [`Protocol`] passes it to a builder of either kind.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use netpoll::event_loop::ConnectionHandler;
use netpoll::{BoxError, Connection, Handler};

use super::AnyBuilder;
use super::ledger::{Ledger, Watched, WatchedGreeting, WatchedWhole};

/// The handlers of a server.
pub(crate) trait Protocol {
    /// Passes the handlers to `builder`, with each call recorded in `ledger`.
    fn give(self, builder: AnyBuilder, ledger: &Arc<Ledger>) -> AnyBuilder;
}

/// A handler that is called for each request.
impl<H: Handler> Protocol for H {
    fn give(self, builder: AnyBuilder, ledger: &Arc<Ledger>) -> AnyBuilder {
        requests(builder, ledger, self, false)
    }
}

/// The handlers that the builder has already. Only closes are recorded.
pub(crate) struct AsGiven;

impl Protocol for AsGiven {
    fn give(self, builder: AnyBuilder, _ledger: &Arc<Ledger>) -> AnyBuilder {
        builder
    }
}

/// A handler that is called once for each connection, which it owns.
pub(crate) struct Whole<H>(pub(crate) H);

impl<H: ConnectionHandler> Protocol for Whole<H> {
    fn give(self, builder: AnyBuilder, ledger: &Arc<Ledger>) -> AnyBuilder {
        builder.on_connection(WatchedWhole::new(ledger, self.0, false))
    }
}

/// An `on_connect` handler, and a handler for each request.
pub(crate) struct Greeted<G, H>(pub(crate) G, pub(crate) H);

impl<G: Handler, H: Handler> Protocol for Greeted<G, H> {
    fn give(self, builder: AnyBuilder, ledger: &Arc<Ledger>) -> AnyBuilder {
        let builder = greeting(builder, ledger, self.0);
        requests(builder, ledger, self.1, true)
    }
}

/// An `on_connect` handler, and a handler that owns the connection.
pub(crate) struct GreetedWhole<G, H>(pub(crate) G, pub(crate) H);

impl<G: Handler, H: ConnectionHandler> Protocol for GreetedWhole<G, H> {
    fn give(self, builder: AnyBuilder, ledger: &Arc<Ledger>) -> AnyBuilder {
        let builder = greeting(builder, ledger, self.0);
        builder.on_connection(WatchedWhole::new(ledger, self.1, true))
    }
}

fn requests<H: Handler>(
    builder: AnyBuilder,
    ledger: &Arc<Ledger>,
    handler: H,
    greets: bool,
) -> AnyBuilder {
    let ledger = Arc::clone(ledger);
    builder.on_request(Watched {
        ledger,
        handler,
        greets,
    })
}

fn greeting<G: Handler>(builder: AnyBuilder, ledger: &Arc<Ledger>, greeting: G) -> AnyBuilder {
    let ledger = Arc::clone(ledger);
    builder.on_connect(WatchedGreeting { ledger, greeting })
}

/// The future of a handler that is a closure with state of its own.
pub(crate) type Handling<'a> = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>>;

/// Gives a closure the type of a handler.
pub(crate) fn handling<F>(handler: F) -> F
where
    F: for<'a> Fn(&'a mut Connection) -> Handling<'a> + Send + Sync + 'static,
{
    handler
}

/// A request handler with state of its own, which is cloned for each call.
macro_rules! handler {
    ([$($state:ident),*], |$conn:pat_param| $body:block) => {
        $crate::support::handling(move |$conn| {
            $(let $state = Clone::clone(&$state);)*
            Box::pin(async move { $body })
        })
    };
}

/// As [`handler`], for handlers that own their connection.
macro_rules! whole {
    ([$($state:ident),*], |$conn:pat_param| $body:block) => {
        $crate::support::Whole(move |$conn: netpoll::Connection| {
            $(let $state = Clone::clone(&$state);)*
            async move { $body }
        })
    };
}
