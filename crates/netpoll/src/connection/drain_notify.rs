// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Connection::draining`]: a future that completes once the connection should take no more work.
//!
//! The future borrows nothing, so the handler of a whole connection can await it beside its reader.
//! An owner that subscribes decides how the connection drains, because only the owner knows when a
//! conversation is over; its input goes on.
//!
//! Few connections use this, so the waiters are in [`Extensions`]. Registration may race with the
//! drain on another thread. The registering thread creates the place for waiters and then checks
//! whether the connection drains. The poller marks the connection as draining and then looks for
//! waiters. The lock of the output buffer orders the two.

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

/// The futures that wait for one connection to drain.
#[derive(Debug, Default)]
pub(super) struct DrainNotify {
    state: Mutex<DrainNotifyState>,
}

#[derive(Debug, Default)]
struct DrainNotifyState {
    stage: DrainStage,
    /// Whether the owner of the connection has subscribed.
    owner_subscribed: bool,
    waiting: WakerSlots,
}

/// Whether the connection drains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DrainStage {
    #[default]
    Open,
    Draining,
}

impl DrainNotify {
    /// Marks the connection as draining and wakes all waiters.
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

    /// Removes the waker in the slot `key`.
    fn deregister(&self, key: usize) {
        let waker = lock(&self.state).waiting.remove(key);
        drop(waker);
    }
}

/// Waits for a connection to drain. It holds neither the connection nor its descriptor.
struct DrainWait {
    /// `None` if the connection was already dropped.
    extensions: Option<Arc<Extensions>>,
    key: Option<usize>,
    /// Marks this wait as a limit on the handler's work, not as work that keeps the connection
    /// busy.
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

    /// Creates a future for the owner of the connection.
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
            active_timeout,
        } = &mut *self;
        active_timeout.activate();
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
    /// Waits until the connection should take no more work: its loop [shuts
    /// down](crate::LoopHandle::shutdown), or it has reached its
    /// [`max_age`](crate::options::Timeouts::max_age). Completes at once if it drains already, and
    /// also when the connection ends.
    ///
    /// This is for a handler that owns its connection and knows what is in flight. From then on it
    /// should accept no new request, answer those it has accepted, and return or drop the
    /// connection, which closes it in order. A shutdown waits for the handler, and cuts the
    /// connection at its deadline.
    ///
    /// **A handler that has called this decides when it is done**: its reads go on as before. A
    /// handler that has not called it reaches the end of its input as soon as it waits for input
    /// with none buffered. That read fails with
    /// [`ErrorKind::Closed`](crate::error::ErrorKind::Closed) and the reason, and output is still
    /// sent. The connection closes when the handler has returned and no
    /// [`WriteQueue`](crate::connection::WriteQueue) is held any more.
    ///
    /// Handlers of [`on_request`](crate::Builder::on_request) need it only if they wait for long:
    /// the loop calls none for a new request, and waits for each that runs. A dialed connection
    /// without a [service](Self::serve) drains at its `max_age` alone, because its requests are in
    /// flight elsewhere.
    ///
    /// Any number of futures may wait, on any threads. The first costs the connection two
    /// allocations. Each wait takes a lock. The future borrows nothing and keeps no descriptor
    /// open.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future leaves nothing behind, except that the owner counts as
    /// subscribed.
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
    /// Waits for the drain as [`Connection::draining`] does.
    ///
    /// # Cancel safety
    ///
    /// The same as [`Connection::draining`].
    pub fn draining(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        DrainWait::of_owner(self.shared())
    }
}

impl OwnedWriter {
    /// Waits for the drain as [`Connection::draining`] does.
    ///
    /// # Cancel safety
    ///
    /// The same as [`Connection::draining`].
    pub fn draining(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        DrainWait::of_owner(self.shared())
    }
}

impl ConnectionHandle {
    /// Waits for the drain as [`Connection::draining`] does, for code that does not own the
    /// connection: this changes nothing for the owner. Completes at once if the connection was
    /// already dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future leaves nothing behind.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        DrainWait {
            extensions: self.shared().map(|shared| shared.subscribe_drain()),
            key: None,
            active_timeout: ActiveTimeout::default(),
        }
    }
}

impl Shared {
    /// Returns the extensions, in which a future can wait for the drain.
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

    /// Marks the connection as draining, so that it takes no more work, and wakes all waiters.
    pub(super) fn notify_drain(&self) {
        let output_buffer = lock(&self.output_buffer);
        self.set_draining();
        drop(output_buffer);
        if let Some(extensions) = self.extensions.get() {
            extensions.drain_notify.notify();
        }
    }

    /// Returns whether the owner of the connection decides how it drains.
    pub(super) fn owner_handles_drain(&self) -> bool {
        let extensions = self.extensions.get();
        extensions.is_some_and(|extensions| lock(&extensions.drain_notify.state).owner_subscribed)
    }
}
