// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notification of the end of a connection: futures that wait for it and callbacks that run after
//! it.
//!
//! Few connections use either, so the state lives in [`Extensions`]. A connection passes two
//! points:
//!
//! * It *ends* when no more input can arrive or no more output can be sent. This wakes the futures
//!   of [`Connection::closed`].
//! * It is *closed* when, in addition, no handler or owner works on it any more. Then the callbacks
//!   of [`Connection::on_close`] run.
//!
//! Registration may race with the end on another thread. The registering thread adds its entry and
//! then checks whether the connection has ended. The ending thread publishes the end and then takes
//! the entries. Every entry is therefore notified, and only once.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::Connection;
use super::extensions::Extensions;
use super::handle::ConnectionHandle;
use crate::active_timeouts::ActiveTimeout;
use crate::error::CloseReason;
use crate::foreign::{DeferredDrop, WakerSlot, WakerSlots, register};
use crate::guard::guard;
use crate::sync::{Arc, Mutex, lock};

/// A callback that runs when the connection is closed.
type CloseCallback = Box<dyn FnOnce(&CloseReason) + Send>;

/// The waiters and callbacks for the end of one connection.
#[derive(Default)]
pub(crate) struct CloseNotify {
    state: Mutex<CloseNotifyState>,
}

#[derive(Default)]
struct CloseNotifyState {
    /// Why the connection ends. `None` until it does.
    end_reason: Option<CloseReason>,
    /// Why the connection has closed. `None` until no handler or owner works on it any more.
    close_reason: Option<CloseReason>,
    waiting: WakerSlots,
    /// The wait of the poll function, while it waits.
    polled: Option<PolledClose>,
    /// Some may never run: the event loop may stop first.
    callbacks: Vec<DeferredDrop<CloseCallback>>,
}

/// The wait of the [poll function](super::polled), which keeps no future.
#[derive(Default)]
struct PolledClose {
    waker: WakerSlot,
    /// As that of [`CloseWait`].
    active_timeout: ActiveTimeout,
}

impl fmt::Debug for CloseNotify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("CloseNotify")
            .field("end", &state.end_reason)
            .field("over", &state.close_reason)
            .field("waiting", &state.waiting.len())
            .field("callbacks", &state.callbacks.len())
            .finish()
    }
}

impl CloseNotify {
    /// Wakes all futures that wait for the end. The first reason is kept.
    pub(crate) fn notify_end(&self, reason: CloseReason) {
        let mut state = lock(&self.state);
        state.end_reason.get_or_insert(reason);
        let waiting = std::mem::take(&mut state.waiting);
        let polled = state.polled.as_mut().map(|polled| polled.waker.take());
        drop(state);
        waiting.wake();
        polled.unwrap_or_default().wake();
    }

    /// Returns why the connection ends. Before that it registers `waker` as the one of the poll
    /// function.
    fn poll_end_without_key(&self, waker: &Waker) -> Poll<CloseReason> {
        register(waker, |caller_waker| {
            let mut state = lock(&self.state);
            if let Some(reason) = state.end_reason.clone() {
                // It was taken when the end was notified, or was never stored.
                state.polled = None;
                return Ok(Poll::Ready(reason));
            }
            let polled = state.polled.get_or_insert_default();
            polled.waker.set(caller_waker)?;
            polled.active_timeout.activate();
            Ok(Poll::Pending)
        })
    }

    /// Runs the callbacks, last added first, and returns how many panicked. Several threads may
    /// call this at once; each callback runs on one of them.
    pub(crate) fn run_callbacks(&self, reason: CloseReason) -> usize {
        let mut state = lock(&self.state);
        let reason = state.close_reason.get_or_insert(reason).clone();
        drop(state);
        let mut panics = 0;
        loop {
            let last = lock(&self.state).callbacks.pop();
            let Some(callback) = last.and_then(DeferredDrop::into_value) else {
                return panics;
            };
            // A panic does not keep the other callbacks from running.
            panics += usize::from(guard(|| callback(&reason)).is_err());
        }
    }

    /// Runs `callback` when the connection is closed, or at once on this thread if it is closed.
    fn add_callback(&self, callback: CloseCallback) {
        let mut state = lock(&self.state);
        match state.close_reason.clone() {
            Some(reason) => {
                drop(state);
                let _panicked = guard(|| callback(&reason)).is_err();
            }
            None => state.callbacks.push(DeferredDrop::new(callback)),
        }
    }

    /// Returns why the connection ends. Before that it registers `waker` in the slot `key`, or in a
    /// new slot if there is none.
    fn poll_end(&self, key: &mut Option<usize>, waker: &Waker) -> Poll<CloseReason> {
        register(waker, |caller_waker| {
            let mut state = lock(&self.state);
            if let Some(reason) = &state.end_reason {
                return Ok(Poll::Ready(reason.clone()));
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

/// Waits for the end of a connection. It holds neither the connection nor its descriptor.
struct CloseWait {
    /// Marks this wait as a limit on the handler's work, not as work that keeps the connection
    /// busy.
    active_timeout: ActiveTimeout,
    /// `None` if the connection was already dropped.
    extensions: Option<Arc<Extensions>>,
    key: Option<usize>,
}

impl Future for CloseWait {
    type Output = CloseReason;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CloseReason> {
        let Self {
            extensions,
            key,
            active_timeout,
        } = &mut *self;
        active_timeout.activate();
        match extensions {
            Some(extensions) => extensions.close_notify.poll_end(key, context.waker()),
            None => Poll::Ready(CloseReason::Forgotten),
        }
    }
}

impl Drop for CloseWait {
    fn drop(&mut self) {
        if let (Some(extensions), Some(key)) = (&self.extensions, self.key) {
            extensions.close_notify.deregister(key);
        }
    }
}

impl Connection {
    /// Waits until the peer closes its stream or the connection ends, and returns the reason. A
    /// handler that awaits something else, such as a database, can race it with this future and
    /// stop when its client is gone.
    ///
    /// [`PeerFin`](CloseReason::PeerFin) is returned as soon as the peer's FIN is read. All that
    /// the peer sent before it may still wait to be read. A peer that has closed only its own
    /// direction may still wait for replies, and gets them: the protocol decides whether a FIN
    /// means the end. Any other reason is returned when the end begins, which is when a waiting
    /// call of the [`Reader`](crate::Reader) would fail. A FIN cannot be read behind more than
    /// [`read_high`](crate::options::ConnOptions::read_high) bytes of untaken input, nor while
    /// reads are [paused](Self::pause_reads).
    ///
    /// Any number of futures may wait, on any threads. The first costs the connection two
    /// allocations, and a third if its handler has never waited. Each wait takes a lock. The future
    /// borrows nothing and keeps no descriptor open.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future leaves nothing behind.
    ///
    /// ```no_run
    /// use std::future::poll_fn;
    /// use std::pin::pin;
    /// use std::task::Poll;
    ///
    /// # async fn query() -> String { String::new() }
    /// # async fn example(conn: &mut netpoll::Connection) -> std::io::Result<()> {
    /// let (mut gone, mut answer) = (pin!(conn.closed()), pin!(query()));
    /// let answer = poll_fn(|context| match answer.as_mut().poll(context) {
    ///     Poll::Ready(answer) => Poll::Ready(Some(answer)),
    ///     Poll::Pending => gone.as_mut().poll(context).map(|_reason| None),
    /// })
    /// .await;
    /// if let Some(answer) = answer {
    ///     conn.writer().put_str(&answer);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn closed(&self) -> impl Future<Output = CloseReason> + Send + Unpin + use<> {
        CloseWait {
            active_timeout: ActiveTimeout::default(),
            extensions: Some(self.shared.subscribe_close()),
            key: None,
        }
    }

    /// Runs `callback` with the reason when the connection is closed: no call of its handler runs
    /// any more, and [`on_disconnect`](crate::Builder::on_disconnect) has returned. If user code
    /// owns the connection, the callback runs once it is closed, even while the owner still holds
    /// it. Dialed connections run callbacks too.
    ///
    /// Any number of callbacks may be added, from any thread. Each runs once, last added first, on
    /// the connection's poller, which waits for it. A callback that is added to a closed connection
    /// runs at once on the calling thread. A panic does not keep the other callbacks from running.
    ///
    /// Costs one allocation, and two more the first time.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// # fn example(conn: &mut netpoll::Connection, watching: Arc<AtomicUsize>) {
    /// watching.fetch_add(1, Ordering::Relaxed);
    /// conn.on_close(move |_reason| {
    ///     watching.fetch_sub(1, Ordering::Relaxed);
    /// });
    /// # }
    /// ```
    pub fn on_close(&self, callback: impl FnOnce(&CloseReason) + Send + 'static) {
        self.shared.on_close(Box::new(callback));
    }
}

impl ConnectionHandle {
    /// Waits for the end as [`Connection::closed`] does. The reason is
    /// [`Forgotten`](CloseReason::Forgotten) if the connection was already dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future leaves nothing behind.
    pub fn closed(&self) -> impl Future<Output = CloseReason> + Send + Unpin + use<> {
        CloseWait {
            active_timeout: ActiveTimeout::default(),
            extensions: self.shared().map(|shared| shared.subscribe_close()),
            key: None,
        }
    }

    /// Runs `callback` as [`Connection::on_close`] does. The reason is
    /// [`Forgotten`](CloseReason::Forgotten) if the connection was already dropped.
    pub fn on_close(&self, callback: impl FnOnce(&CloseReason) + Send + 'static) {
        match self.shared() {
            Some(shared) => shared.on_close(Box::new(callback)),
            None => {
                let _panicked = guard(|| callback(&CloseReason::Forgotten)).is_err();
            }
        }
    }
}

impl super::shared::Shared {
    /// Returns the extensions, in which a future can wait for the end.
    fn subscribe_close(&self) -> Arc<Extensions> {
        let extensions = self.extensions.get_or_make();
        // This creates the input buffer if there was none. Its lock orders the two threads: either
        // the end that the poller published is seen here, or the poller sees the waiter.
        drop(self.input_buffer());
        if let Some(reason) = self.end_reason() {
            extensions.close_notify.notify_end(reason);
        }
        Arc::clone(extensions)
    }

    /// Polls for the end without a future.
    pub(super) fn poll_closed(&self, waker: &Waker) -> Poll<CloseReason> {
        let extensions = self.subscribe_close();
        extensions.close_notify.poll_end_without_key(waker)
    }

    fn on_close(&self, callback: CloseCallback) {
        let close_notify = &self.extensions.get_or_make().close_notify;
        close_notify.add_callback(callback);
        // If the connection closed before it had extensions, they do not hold the reason.
        let over = lock(&self.output_buffer).final_reason();
        if let Some(reason) = over {
            close_notify.run_callbacks(reason);
        }
    }

    /// Returns why the connection ends, as far as all threads can know.
    pub(crate) fn end_reason(&self) -> Option<CloseReason> {
        let of_input = self
            .input_buffer_if_any()
            .and_then(|input_buffer| input_buffer.reason());
        of_input.or_else(|| lock(&self.output_buffer).close_reason().cloned())
    }

    /// Wakes the senders and futures that wait, now that the end is known.
    pub(crate) fn notify_end(&self) {
        self.notify_wait_queue();
        if let Some(extensions) = self.extensions.get()
            && let Some(reason) = self.end_reason()
        {
            extensions.close_notify.notify_end(reason);
        }
    }

    /// Returns whether callbacks are registered.
    pub(crate) fn has_callbacks(&self) -> bool {
        let extensions = self.extensions.get();
        extensions
            .is_some_and(|extensions| !lock(&extensions.close_notify.state).callbacks.is_empty())
    }

    /// Publishes that the connection is closed for `reason` and that no handler or owner works on
    /// it any more. Returns how many callbacks panicked.
    pub(crate) fn notify_closed(&self, reason: &CloseReason) -> usize {
        lock(&self.output_buffer).finalize(reason.clone());
        let Some(extensions) = self.extensions.get() else {
            return 0;
        };
        if let Some(wait_queue) = extensions.wait_queue.get() {
            wait_queue.close(reason.clone());
        }
        extensions.close_notify.notify_end(reason.clone());
        extensions.close_notify.run_callbacks(reason.clone())
    }
}
