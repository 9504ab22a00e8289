// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is told that a connection ends: futures that wait for it, and functions that are to run.
//!
//! Few connections have either, so all of it is in what [`Extensions`] connections have. There are two
//! moments. The *end* is when there is nothing more to come, or nothing can be sent any more: it
//! wakes whoever waits in [`Connection::closed`]. *Over* is when also nobody works on the connection
//! any more, and the functions of [`Connection::on_close`] run.
//!
//! Whoever asks and whoever tells may be on two threads. The one adds and then looks whether it has
//! happened; the other lets it have happened and then takes what was added. So nobody is
//! forgotten, and what was taken is told once.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::Connection;
use super::extensions::Extensions;
use super::handle::ConnectionHandle;
use crate::active_timeouts::ActiveTimeout;
use crate::error::CloseReason;
use crate::foreign::{DeferredDrop, WakerSlots, register};
use crate::guard::guard;
use crate::sync::{Arc, Mutex, lock};

/// What runs when the connection is over.
type CloseCallback = Box<dyn FnOnce(&CloseReason) + Send>;

/// Who wants to hear of the end of one connection.
#[derive(Default)]
pub(crate) struct CloseNotify {
    state: Mutex<CloseNotifyState>,
}

#[derive(Default)]
struct CloseNotifyState {
    /// Why it ends, once it does.
    end_reason: Option<CloseReason>,
    /// Why it has ended, once nobody works on it any more.
    close_reason: Option<CloseReason>,
    waiting: WakerSlots,
    /// Some may never run: a loop may end first.
    callbacks: Vec<DeferredDrop<CloseCallback>>,
}

impl fmt::Debug for CloseNotify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Notices")
            .field("end", &state.end_reason)
            .field("over", &state.close_reason)
            .field("waiting", &state.waiting.len())
            .field("callbacks", &state.callbacks.len())
            .finish()
    }
}

impl CloseNotify {
    /// Wakes whoever waits for the end. The first reason stands.
    pub(crate) fn notify_end(&self, reason: CloseReason) {
        let mut state = lock(&self.state);
        state.end_reason.get_or_insert(reason);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.wake();
    }

    /// Runs what was to run, the last first, and says how many panicked. Several threads may: each
    /// function runs on one.
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
            // The others run whatever this one does.
            panics += usize::from(guard(|| callback(&reason)).is_err());
        }
    }

    /// Runs `callback` when the connection is over: here and now if it is.
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

    /// Why it ends; or wakes the waker in `key` once it does, in a new place if there is none.
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

    /// Whoever waited in `key` waits no more.
    fn deregister(&self, key: usize) {
        let waker = lock(&self.state).waiting.remove(key);
        drop(waker);
    }
}

/// Waits for the end of a connection. It holds neither the connection nor its descriptor.
struct CloseWait {
    /// It is no work that a handler does, and bounds what it does.
    active_timeout: ActiveTimeout,
    /// `None` if nothing was left of the connection.
    extensions: Option<Arc<Extensions>>,
    key: Option<usize>,
}

impl Future for CloseWait {
    type Output = CloseReason;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CloseReason> {
        let Self {
            extensions,
            key,
            active_timeout: bounded,
        } = &mut *self;
        bounded.activate();
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
    /// Waits until the peer is gone or the connection ends, and says why: for a handler that waits
    /// for something else, a database, and should give up with its client.
    ///
    /// [`PeerFin`](CloseReason::PeerFin) is told as soon as the peer's FIN has been read, behind
    /// all that it sent, of which more may wait to be read. A peer that has ended only its own
    /// stream may wait for answers still, and gets them: whether a FIN is the end of it is for the
    /// protocol to say. Else it is told when the end begins, which is when a call of the
    /// [`Reader`](crate::Reader) that waits would fail. A FIN cannot be read behind more than
    /// [`read_high`](crate::ConnOptions::read_high) bytes that nobody takes, nor while reads are
    /// [paused](Self::pause_reads).
    ///
    /// Any number may wait, on any threads. The first time costs the connection two allocations, and
    /// a third if its handler never waited; each wait a lock. The future borrows nothing, and keeps
    /// no descriptor open.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
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

    /// Has `callback` run with the reason when the connection is over: it is closed, no call of its
    /// handler runs any more, and [`on_disconnect`](crate::Builder::on_disconnect) has returned. A
    /// connection that somebody owns tells already when it is closed. Dialed connections do, too.
    ///
    /// Any number may be added, from any thread; the last runs first, each once. They run on the
    /// connection's poller, which waits for them; one that is added when the connection is over
    /// runs at once, on the calling thread. One that panics leaves the others.
    ///
    /// One allocation, and two more the first time.
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
    /// As [`Connection::closed`]. Of a connection of which nothing is left any more, the reason is
    /// [`Forgotten`](CloseReason::Forgotten).
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
    pub fn closed(&self) -> impl Future<Output = CloseReason> + Send + Unpin + use<> {
        CloseWait {
            active_timeout: ActiveTimeout::default(),
            extensions: self.shared().map(|shared| shared.subscribe_close()),
            key: None,
        }
    }

    /// As [`Connection::on_close`]. Of a connection of which nothing is left any more, the reason is
    /// [`Forgotten`](CloseReason::Forgotten).
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
    /// What is told of the end, for somebody who waits for it.
    fn subscribe_close(&self) -> Arc<Extensions> {
        let extensions = self.extensions.get_or_make();
        // Made if it was not there: under its lock either the poller's word of the end is seen here,
        // or the poller sees who waits.
        drop(self.input_buffer());
        if let Some(reason) = self.end_reason() {
            extensions.close_notify.notify_end(reason);
        }
        Arc::clone(extensions)
    }

    fn on_close(&self, callback: CloseCallback) {
        let close_notify = &self.extensions.get_or_make().close_notify;
        close_notify.add_callback(callback);
        // Of a connection that was over before it had notices, they do not know.
        let over = lock(&self.output_buffer).final_reason();
        if let Some(reason) = over {
            close_notify.run_callbacks(reason);
        }
    }

    /// Why the connection ends, as far as is known to all threads.
    pub(crate) fn end_reason(&self) -> Option<CloseReason> {
        let of_input = self
            .input_buffer_if_any()
            .and_then(|input_buffer| input_buffer.reason());
        of_input.or_else(|| lock(&self.output_buffer).close_reason().cloned())
    }

    /// The end is known: tells whoever waits for it.
    pub(crate) fn notify_end(&self) {
        self.notify_wait_queue();
        if let Some(extensions) = self.extensions.get()
            && let Some(reason) = self.end_reason()
        {
            extensions.close_notify.notify_end(reason);
        }
    }

    /// Whether functions are to run when it is over.
    pub(crate) fn has_callbacks(&self) -> bool {
        let extensions = self.extensions.get();
        extensions
            .is_some_and(|extensions| !lock(&extensions.close_notify.state).callbacks.is_empty())
    }

    /// Nobody works on the connection any more, and it has ended for `reason`. Says how many of
    /// the functions that were to run have panicked.
    pub(crate) fn notify_closed(&self, reason: &CloseReason) -> usize {
        lock(&self.output_buffer).finalize(reason.clone());
        let Some(extensions) = self.extensions.get() else {
            return 0;
        };
        if let Some(line) = extensions.wait_queue.get() {
            line.close(reason.clone());
        }
        extensions.close_notify.notify_end(reason.clone());
        extensions.close_notify.run_callbacks(reason.clone())
    }
}
