// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Connection::draining`]: a future that is ready once the connection should take no more work.
//!
//! It borrows nothing, so that a handler of a whole connection waits for it beside its reader. Whoever
//! owns a connection and asks for it decides what becomes of it then: its input goes on. Nobody else
//! knows when a conversation is over.
//!
//! Few connections are asked, so what waits is in what [`Extensions`] connections have. The poller and who
//! asks may be on two threads: the one makes the place to wait in and then looks whether the connection
//! drains; the other says that it does, and then looks for the place. The outbox's lock orders the two.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::Connection;
use super::extensions::Extensions;
use super::halves::{OwnedReader, OwnedWriter};
use super::handle::ConnectionHandle;
use super::shared::Shared;
use crate::active_timeouts::ActiveTimeout;
use crate::foreign::{WakerSlots, register};
use crate::sync::{Arc, Mutex, lock};

/// Who waits for one connection to drain.
#[derive(Debug, Default)]
pub(super) struct DrainNotify {
    state: Mutex<DrainNotifyState>,
}

#[derive(Debug, Default)]
struct DrainNotifyState {
    stage: DrainStage,
    /// Whoever owns the connection has asked.
    owner_subscribed: bool,
    waiting: WakerSlots,
}

/// Whether the connection takes no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DrainStage {
    #[default]
    Open,
    Draining,
}

impl DrainNotify {
    /// The connection takes no more: wakes who waits for that.
    pub(super) fn notify(&self) {
        let mut state = lock(&self.state);
        state.stage = DrainStage::Draining;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.wake();
    }

    fn poll(&self, key: &mut Option<usize>, waker: &Waker) -> Poll<()> {
        register(waker, |caller_waker| {
            let mut state = lock(&self.state);
            if state.stage == DrainStage::Draining {
                return Ok(Poll::Ready(()));
            }
            state.waiting.set(key, caller_waker)?;
            Ok(Poll::Pending)
        })
    }

    /// Whoever waited in `key` waits no more.
    fn deregister(&self, key: usize) {
        let waker = lock(&self.state).waiting.remove(key);
        drop(waker);
    }
}

/// Waits for a connection to drain. It holds neither the connection nor its descriptor.
struct DrainWait {
    /// `None` if nothing was left of the connection.
    extensions: Option<Arc<Extensions>>,
    key: Option<usize>,
    /// It is no work that a handler does, and bounds what it does.
    active_timeout: ActiveTimeout,
}

impl DrainWait {
    fn of(extensions: Arc<Extensions>) -> Self {
        Self {
            extensions: Some(extensions),
            key: None,
            active_timeout: ActiveTimeout::default(),
        }
    }

    /// For whoever owns the connection.
    fn of_owner(shared: &Shared) -> Self {
        let extensions = shared.subscribe_drain();
        lock(&extensions.drain_notify.state).owner_subscribed = true;
        Self::of(extensions)
    }
}

impl Future for DrainWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self {
            extensions,
            key,
            active_timeout: bounded,
        } = &mut *self;
        bounded.activate();
        match extensions {
            Some(extensions) => extensions.drain_notify.poll(key, context.waker()),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for DrainWait {
    fn drop(&mut self) {
        if let (Some(extensions), Some(key)) = (&self.extensions, self.key) {
            extensions.drain_notify.deregister(key);
        }
    }
}

impl Connection {
    /// Waits until the connection should take no more work: its loop
    /// [shuts down](crate::LoopHandle::shutdown), or it has reached its
    /// [`max_age`](crate::Timeouts::max_age). Ready at once if that is so already, and when the
    /// connection ends.
    ///
    /// For a handler that owns its connection and knows what is under way: it takes no new request from
    /// then on, answers what it has taken, and returns or drops the connection, which closes it in order.
    /// A shutdown waits for it, and cuts it at its deadline. **A handler that has asked decides itself
    /// when it is done**: its reads go on as before. A handler that never asks finds the end of its input
    /// instead, as soon as it waits for input with nothing at hand: the read fails with
    /// [`Closed`](crate::Closed) and the reason, what it puts is still sent, and the connection is
    /// closed when it returns and no [`WriteQueue`](crate::WriteQueue) is held any more.
    ///
    /// Handlers of [`on_request`](crate::Builder::on_request) need it only if they wait for long: the
    /// loop calls none for a new request, and waits for each that runs. A dialed connection that nobody
    /// [serves](Self::serve) drains at its `max_age` alone: what it is used for is under way elsewhere.
    ///
    /// Any number may wait, on any threads. The first time costs the connection two allocations; each
    /// wait a lock. The future borrows nothing, and keeps no descriptor open.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind, but that the handler has asked.
    ///
    /// ```no_run
    /// use std::future::poll_fn;
    /// use std::pin::pin;
    /// use std::task::Poll;
    ///
    /// # async fn example(mut conn: netpoll::Connection) -> std::io::Result<()> {
    /// loop {
    ///     let mut draining = pin!(conn.draining());
    ///     let (mut reader, mut writer) = conn.split();
    ///     let mut line = pin!(reader.until(b'\n', 1024));
    ///     let line = poll_fn(|context| match line.as_mut().poll(context) {
    ///         Poll::Ready(line) => Poll::Ready(Some(line)),
    ///         Poll::Pending => draining.as_mut().poll(context).map(|()| None),
    ///     });
    ///     match line.await {
    ///         Some(line) => writer.put_slice(line?),
    ///         None => break writer.put_str("goodbye\n"),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn draining(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        DrainWait::of_owner(&self.shared)
    }
}

impl OwnedReader {
    /// As [`Connection::draining`].
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        DrainWait::of_owner(self.shared())
    }
}

impl OwnedWriter {
    /// As [`Connection::draining`].
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        DrainWait::of_owner(self.shared())
    }
}

impl ConnectionHandle {
    /// As [`Connection::draining`], for somebody who does not own the connection: to ask changes
    /// nothing for its owner. Of a connection of which nothing is left any more it is ready at once.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        DrainWait {
            extensions: self.shared().map(|shared| shared.subscribe_drain()),
            key: None,
            active_timeout: ActiveTimeout::default(),
        }
    }
}

impl Shared {
    /// Where to wait for the drain.
    fn subscribe_drain(&self) -> Arc<Extensions> {
        let extensions = self.extensions.get_or_make();
        let output_buffer = lock(&self.output_buffer);
        let begun = self.is_draining();
        drop(output_buffer);
        if begun {
            extensions.drain_notify.notify();
        }
        Arc::clone(extensions)
    }

    /// The connection takes no more work: tells whoever waits for that.
    pub(super) fn notify_drain(&self) {
        let output_buffer = lock(&self.output_buffer);
        self.set_draining();
        drop(output_buffer);
        if let Some(extensions) = self.extensions.get() {
            extensions.drain_notify.notify();
        }
    }

    /// Whether whoever owns the connection decides what becomes of it when it drains.
    pub(super) fn owner_handles_drain(&self) -> bool {
        let extensions = self.extensions.get();
        extensions.is_some_and(|extensions| lock(&extensions.drain_notify.state).owner_subscribed)
    }
}
