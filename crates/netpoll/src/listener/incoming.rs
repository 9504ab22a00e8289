// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Incoming`]: the connections of a listener without a loop, as a stream; and the future of one
//! of them.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::Listener;
use super::filter::ConnInfo;
use crate::connection::Connection;
use crate::fairness::poll_proceed;
use crate::poll::poller_registry::WaitForStart;

/// A caller that waits for connections: a place in the order of the callers.
pub(super) struct AcceptFuture<'a> {
    listener: &'a Listener,
    /// Until the loop that the listener is bound to has started.
    start: Option<WaitForStart<'a>>,
    /// Its id in the queue while it waits.
    id: Option<u64>,
}

impl<'a> AcceptFuture<'a> {
    pub(super) fn new(listener: &'a Listener) -> Self {
        Self {
            listener,
            start: listener.standalone.wait_for_loop(),
            id: None,
        }
    }

    fn poll_accept(&mut self, context: &Context<'_>) -> Poll<io::Result<(Connection, ConnInfo)>> {
        ready!(poll_proceed(context));
        let standalone = &self.listener.standalone;
        let queue = standalone.queue()?;
        if let Poll::Ready(accepted) = queue.poll_next(&mut self.id, context.waker()) {
            return Poll::Ready(Ok(accepted));
        }
        // The caller waits already, so the first connection wakes it.
        if let Err(error) = standalone.ensure_accepting(self.listener.fd()) {
            self.leave();
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    /// Gives up the place in the order.
    fn leave(&mut self) {
        if let Some(id) = self.id.take()
            && let Ok(queue) = self.listener.standalone.queue()
        {
            queue.remove_waiter(id);
        }
    }
}

impl Future for AcceptFuture<'_> {
    type Output = io::Result<(Connection, ConnInfo)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(start) = &mut self.start {
            ready!(Pin::new(start).poll(context));
            self.start = None;
        }
        self.poll_accept(context)
    }
}

impl Drop for AcceptFuture<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The connections that arrive at a listener. Returned by [`Listener::incoming`].
///
/// Each item costs the same as [`Listener::accept`], and waits in the same order. An item that is
/// an error is one that `accept` returns. The stream continues after it, except after
/// [`ErrorKind::NotRunning`](crate::error::ErrorKind::NotRunning): then it ends, because the loop
/// of the listener has ended.
///
/// # Cancel safety
///
/// Dropping the stream loses no connection: the next caller of `accept` gets what it did not take.
#[must_use = "a stream does nothing unless it is polled"]
pub struct Incoming<'a> {
    next: AcceptFuture<'a>,
    progress: StreamProgress,
}

/// Whether a stream has items left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamProgress {
    Open,
    Ended,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(listener: &'a Listener) -> Self {
        Self {
            next: AcceptFuture::new(listener),
            progress: StreamProgress::Open,
        }
    }
}

impl Stream for Incoming<'_> {
    type Item = io::Result<(Connection, ConnInfo)>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.progress == StreamProgress::Ended {
            return Poll::Ready(None);
        }
        let item = ready!(Pin::new(&mut self.next).poll(context));
        if item.is_err() && self.next.listener.standalone.is_stopped() {
            self.progress = StreamProgress::Ended;
        }
        Poll::Ready(Some(item))
    }
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", &self.next.listener)
            .field("progress", &self.progress)
            .finish()
    }
}
