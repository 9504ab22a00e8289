// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`AnyBuilder`]: a builder of the kind that the settings of the test program require.

use std::time::Duration;

use netpoll::event_loop::{Balance, ConnectionHandler, SendHandlers};
use netpoll::listener::{Accept, IncomingConnection};
use netpoll::options::Budget;
use netpoll::options::{ConnOptions, MinRate, Timeouts};
use netpoll::{Builder, CloseReason, Connection, EventLoop, Handler, Listener};

use super::setting::{Runs, THREADS, runs};

/// A builder of either kind. [`builder`] chooses it, and [`Server::start`](super::Server::start)
/// gives it handlers.
pub(crate) enum AnyBuilder {
    Local(Builder),
    Send(Builder<SendHandlers>),
}

/// Returns a builder whose handlers run as the program's [`Runs`] requires.
pub(crate) fn builder() -> AnyBuilder {
    match runs() {
        Runs::Inline => AnyBuilder::Local(EventLoop::builder()),
        Runs::Pinned => AnyBuilder::Local(EventLoop::builder().handler_threads(THREADS)),
        moving => AnyBuilder::Send(EventLoop::builder_on(moving.runner())),
    }
}

/// Returns a builder for handlers whose futures are not `Send`. They run on pollers, or on threads if
/// the handlers of this program do.
pub(crate) fn local_builder() -> Builder {
    match runs() {
        Runs::Inline => EventLoop::builder(),
        _ => EventLoop::builder().handler_threads(THREADS),
    }
}

impl From<Builder> for AnyBuilder {
    fn from(builder: Builder) -> Self {
        Self::Local(builder)
    }
}

impl From<Builder<SendHandlers>> for AnyBuilder {
    fn from(builder: Builder<SendHandlers>) -> Self {
        Self::Send(builder)
    }
}

/// Applies a method of the builder, whatever its kind.
macro_rules! each_kind {
    ($self:ident, |$builder:ident| $changed:expr) => {
        match $self {
            Self::Local($builder) => Self::Local($changed),
            Self::Send($builder) => Self::Send($changed),
        }
    };
}

impl AnyBuilder {
    pub(crate) fn accept_rate(self, per_second: impl Into<Option<u32>>) -> Self {
        each_kind!(self, |builder| builder.accept_rate(per_second))
    }

    pub(crate) fn balance(self, balance: Balance) -> Self {
        each_kind!(self, |builder| builder.balance(balance))
    }

    pub(crate) fn budget(self, budget: Budget) -> Self {
        each_kind!(self, |builder| builder.budget(budget))
    }

    pub(crate) fn busy_poll(self, time: impl Into<Option<Duration>>) -> Self {
        each_kind!(self, |builder| builder.busy_poll(time))
    }

    pub(crate) fn first_byte_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        each_kind!(self, |builder| builder.first_byte_timeout(time))
    }

    pub(crate) fn idle_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        each_kind!(self, |builder| builder.idle_timeout(time))
    }

    pub(crate) fn linger(self, time: Duration) -> Self {
        each_kind!(self, |builder| builder.linger(time))
    }

    pub(crate) fn listen(self, listener: impl Into<Listener>) -> Self {
        each_kind!(self, |builder| builder.listen(listener))
    }

    pub(crate) fn max_age(self, time: impl Into<Option<Duration>>) -> Self {
        each_kind!(self, |builder| builder.max_age(time))
    }

    pub(crate) fn max_connections(self, count: usize) -> Self {
        each_kind!(self, |builder| builder.max_connections(count))
    }

    pub(crate) fn max_frame(self, bytes: usize) -> Self {
        each_kind!(self, |builder| builder.max_frame(bytes))
    }

    pub(crate) fn min_rate(self, rate: impl Into<Option<MinRate>>) -> Self {
        each_kind!(self, |builder| builder.min_rate(rate))
    }

    pub(crate) fn on_accept<A>(self, filter: A) -> Self
    where
        A: Fn(&IncomingConnection<'_>) -> Accept + Send + Sync + 'static,
    {
        each_kind!(self, |builder| builder.on_accept(filter))
    }

    pub(crate) fn on_connect<H: Handler>(self, handler: H) -> Self {
        match self {
            Self::Local(builder) => builder
                .on_connect(async move |conn: &mut Connection| handler.call(conn).await)
                .into(),
            Self::Send(builder) => builder.on_connect(handler).into(),
        }
    }

    pub(crate) fn on_connection<H: ConnectionHandler>(self, handler: H) -> Self {
        match self {
            Self::Local(builder) => builder
                .on_connection(async move |conn: Connection| handler.serve(conn).await)
                .into(),
            Self::Send(builder) => builder.on_connection(handler).into(),
        }
    }

    pub(crate) fn on_disconnect<O>(self, observer: O) -> Self
    where
        O: Fn(&mut Connection, &CloseReason) + Send + Sync + 'static,
    {
        each_kind!(self, |builder| builder.on_disconnect(observer))
    }

    pub(crate) fn on_request<H: Handler>(self, handler: H) -> Self {
        match self {
            Self::Local(builder) => builder
                .on_request(async move |conn: &mut Connection| handler.call(conn).await)
                .into(),
            Self::Send(builder) => builder.on_request(handler).into(),
        }
    }

    pub(crate) fn options(self, options: ConnOptions) -> Self {
        each_kind!(self, |builder| builder.options(options))
    }

    pub(crate) fn pollers(self, count: usize) -> Self {
        each_kind!(self, |builder| builder.pollers(count))
    }

    pub(crate) fn read_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        each_kind!(self, |builder| builder.read_timeout(time))
    }

    pub(crate) fn timeouts(self, timeouts: Timeouts) -> Self {
        each_kind!(self, |builder| builder.timeouts(timeouts))
    }

    pub(crate) fn write_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        each_kind!(self, |builder| builder.write_timeout(time))
    }

    pub(crate) fn build(self) -> std::io::Result<EventLoop> {
        match self {
            Self::Local(builder) => builder.build(),
            Self::Send(builder) => builder.build(),
        }
    }
}
