// SPDX-License-Identifier: MIT OR Apache-2.0
//! How handlers are given to a [`Builder`], and what becomes of them once the runner is known.
//!
//! A handler's type is known only in the method it is given to. There it is put into a closure that
//! makes a [`Service`] of it, when the loop is built: by then it is known where handlers run, and
//! whether this one may.

use std::any::type_name;
use std::future::Future;
use std::pin::pin;

use super::builder::Builder;
use crate::connection::Connection;
use crate::connection::burst::{
    Finished, Greet, GreetSend, Handlers, Shared, Stage, burst, burst_send, whole_life,
    whole_life_send,
};
use crate::connection::calling::Calls;
use crate::connection::handler::Handler;
use crate::connection::service::{OneEach, OneForAll, Origin, Pinned, Service, Terms, anywhere};
use crate::error::{BoxError, CloseReason, InvalidConfig};
use crate::foreign::UserFuture;
use crate::runner::{Running, Spawn};
use crate::sync::Arc;

/// A handler, waiting for its setting.
pub(super) type Given = Box<dyn FnOnce(Setting) -> Result<Arc<dyn Service>, InvalidConfig> + Send>;

/// What a handler has to work with.
pub(super) struct Setting {
    pub(super) terms: Terms,
    pub(super) connect: Option<Connect>,
    pub(super) running: Running,
}

/// What `on_connect` was given.
pub(super) enum Connect {
    Pinned(Arc<Greet>),
    Movable(Arc<GreetSend>),
}

impl Builder {
    /// Calls `handler` when a connection has input and no call of it is running, and again while
    /// input remains and the last call consumed some. It may await more in the middle: no thread
    /// waits. If it returns without having consumed anything it is called when *more* has come,
    /// and once more at the peer's FIN. What it put is sent when it returns or waits.
    ///
    /// Its future need not be `Send`: it is made, polled and dropped on one thread. That is the
    /// connection's poller, where a call that blocks holds up every other connection, or one of
    /// [`Runner::Threads`](crate::Runner::Threads).
    ///
    /// An `Err`, or a panic, ends that connection for that reason, and nothing else.
    pub fn on_request<H>(self, handler: H) -> Self
    where
        H: AsyncFn(&mut Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let origin = OneForAll(Arc::new(handler));
        self.given::<H, _>(|setting| setting.pinned(origin, burst::<H>, Calls::PerRequest))
    }

    /// As [`on_request`](Self::on_request), with a handler for each thread: `make` is called on
    /// each thread that calls handlers, before the first call there. So what a handler has of its
    /// own needs no lock and need not be `Send`. A panic of `make` ends the connection it was
    /// called for.
    ///
    /// ```no_run
    /// use std::cell::Cell;
    /// use netpoll::{Connection, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// EventLoop::builder()
    ///     .on_request_with(|| {
    ///         let lines = Cell::new(0);
    ///         async move |conn: &mut Connection| {
    ///             conn.reader().until(b'\n', 1024).await?;
    ///             lines.set(lines.get() + 1);
    ///             conn.writer().put_str(&format!("{} on this thread\n", lines.get()));
    ///             Ok(())
    ///         }
    ///     })
    ///     .serve("127.0.0.1:8080")
    /// # }
    /// ```
    pub fn on_request_with<W, H>(self, make: W) -> Self
    where
        W: Fn() -> H + Send + Sync + 'static,
        H: AsyncFn(&mut Connection) -> Result<(), BoxError> + 'static,
    {
        let origin = OneEach(make);
        self.given::<H, _>(|setting| setting.pinned(origin, burst::<H>, Calls::PerRequest))
    }

    /// As [`on_request`](Self::on_request), for any [`Runner`](crate::Runner): the handler's
    /// futures are `Send`, and may be polled by one thread after another.
    pub fn on_request_send<H: Handler>(self, handler: H) -> Self {
        self.given::<H, _>(|setting| {
            if setting.moves() {
                setting.movable(handler, burst_send::<H>, Calls::PerRequest)
            } else {
                let handler = async move |conn: &mut Connection| {
                    UserFuture::new(pin!(Some(handler.call(conn)))).await
                };
                setting.pinned(OneForAll(Arc::new(handler)), burst, Calls::PerRequest)
            }
        })
    }

    /// Calls `handler` once with each connection, which it owns; dropping it is
    /// [`Connection::close`]. For protocols that hold a conversation. Replaces a handler of
    /// [`on_request`](Self::on_request); everything said there of futures and errors holds.
    pub fn on_connection<H>(self, handler: H) -> Self
    where
        H: AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let origin = OneForAll(Arc::new(handler));
        self.given::<H, _>(|setting| setting.pinned(origin, whole_life::<H>, Calls::Once))
    }

    /// As [`on_connection`](Self::on_connection), for any [`Runner`](crate::Runner): the handler's
    /// futures are `Send`, and may be polled by one thread after another.
    pub fn on_connection_send<H, F>(self, handler: H) -> Self
    where
        H: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.given::<H, _>(|setting| {
            if setting.moves() {
                setting.movable(handler, whole_life_send::<H, F>, Calls::Once)
            } else {
                let handler = move |conn: Connection| handler(conn);
                setting.pinned(OneForAll(Arc::new(handler)), whole_life, Calls::Once)
            }
        })
    }

    /// Calls `handler` first, once for each connection and before any request of it, wherever
    /// requests are handled. It may read and write, and attach what the requests will need
    /// ([`Connection::attach`]). An `Err` or a panic ends the connection; of one that ended before
    /// this has returned `Ok`, [`on_disconnect`](Self::on_disconnect) is not told. One allocation
    /// for each connection.
    pub fn on_connect<H>(mut self, handler: H) -> Self
    where
        H: AsyncFn(&mut Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        let greet: Arc<Greet> = Arc::new(move |conn| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { UserFuture::new(pin!(Some((*handler)(conn)))).await })
        });
        self.connect = Some(Connect::Pinned(greet));
        self
    }

    /// As [`on_connect`](Self::on_connect), for any [`Runner`](crate::Runner): one that moves
    /// tasks between threads takes this one only.
    pub fn on_connect_send<H: Handler>(mut self, handler: H) -> Self {
        let handler = Arc::new(handler);
        let greet: Arc<GreetSend> = Arc::new(move |conn| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { UserFuture::new(pin!(Some(handler.call(conn)))).await })
        });
        self.connect = Some(Connect::Movable(greet));
        self
    }

    /// Calls `observer` when a connection has ended, once, after its last call has returned, with
    /// the first cause. On the connection's poller: it must not block. A call that holds a thread
    /// on which the loop has no say is waited for until a second after the deadline of a shutdown.
    pub fn on_disconnect<O>(mut self, observer: O) -> Self
    where
        O: Fn(&mut Connection, &CloseReason) + Send + Sync + 'static,
    {
        self.observer = Some(Arc::new(observer));
        self
    }

    fn given<H, G>(mut self, given: G) -> Self
    where
        G: FnOnce(Setting) -> Result<Arc<dyn Service>, InvalidConfig> + Send + 'static,
    {
        self.handler = Some(Box::new(|mut setting: Setting| {
            setting.terms.handler = type_name::<H>();
            given(setting)
        }));
        self
    }
}

impl Setting {
    /// Whether calls are tasks that move between threads, if they can.
    fn moves(&self) -> bool {
        match (&self.running, &self.connect) {
            (Running::Spawn(_), _) => true,
            (Running::Threads(_), connect) => !matches!(connect, Some(Connect::Pinned(_))),
            (Running::Inline, _) => false,
        }
    }

    /// A service of a handler whose futures stay on one thread.
    fn pinned<O, M, F>(
        self,
        origin: O,
        make: M,
        calls: Calls,
    ) -> Result<Arc<dyn Service>, InvalidConfig>
    where
        O: Origin,
        M: Fn(Shared<O::Handler>, Connection, Stage) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Finished> + 'static,
    {
        let pinned = Pinned {
            origin: Arc::new(origin),
            greet: self.connect.map(Connect::pinned),
            make,
            calls,
            terms: Arc::new(self.terms),
        };
        match self.running {
            Running::Inline => Ok(pinned.here()),
            Running::Threads(threads) => Ok(pinned.on_threads(threads)),
            Running::Spawn(_) => {
                let expected = "Inline or Threads for a handler whose futures stay on one thread; \
                                on_request_send and on_connection_send take one for any runner";
                Err(InvalidConfig::new("runner", expected))
            }
        }
    }

    /// A service of a handler whose futures may move.
    fn movable<H, M, F>(
        self,
        handler: H,
        make: M,
        calls: Calls,
    ) -> Result<Arc<dyn Service>, InvalidConfig>
    where
        H: Send + Sync + 'static,
        M: Fn(Arc<Handlers<H, GreetSend>>, Connection, Stage) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Finished> + Send + 'static,
    {
        let spawn: Arc<dyn Spawn> = match self.running {
            Running::Spawn(spawn) => spawn,
            Running::Threads(threads) => threads,
            Running::Inline => {
                return Err(InvalidConfig::new(
                    "runner",
                    "one that tasks can be given to",
                ));
            }
        };
        let greet = match self.connect {
            None => None,
            Some(Connect::Movable(greet)) => Some(greet),
            Some(Connect::Pinned(_)) => {
                let expected = "with this runner it has to be on_connect_send";
                return Err(InvalidConfig::new("on_connect", expected));
            }
        };
        let handlers = Handlers {
            handler: Arc::new(handler),
            greet,
        };
        Ok(anywhere(
            handlers,
            (make, calls),
            Arc::new(self.terms),
            spawn,
        ))
    }
}

impl Connect {
    fn pinned(self) -> Arc<Greet> {
        match self {
            Self::Pinned(greet) => greet,
            Self::Movable(greet) => Arc::new(move |conn| greet(conn)),
        }
    }
}
