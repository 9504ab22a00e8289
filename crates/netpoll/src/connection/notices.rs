// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is told that a connection ends: futures that wait for it, and functions that are to run.
//!
//! Few connections have either, so all of it is in what [`Rare`] connections have. There are two
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
use super::handle::ConnectionHandle;
use super::rare::Rare;
use crate::error::CloseReason;
use crate::foreign::{Deferred, WakerSlots, register};
use crate::guard::guard;
use crate::limits::Bounded;
use crate::sync::{Arc, Mutex, lock};

/// What runs when the connection is over.
type Callback = Box<dyn FnOnce(&CloseReason) + Send>;

/// Who wants to hear of the end of one connection.
#[derive(Default)]
pub(crate) struct Notices {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why it ends, once it does.
    end: Option<CloseReason>,
    /// Why it has ended, once nobody works on it any more.
    over: Option<CloseReason>,
    waiting: WakerSlots,
    /// Some may never run: a loop may end first.
    callbacks: Vec<Deferred<Callback>>,
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Notices")
            .field("end", &state.end)
            .field("over", &state.over)
            .field("waiting", &state.waiting.len())
            .field("callbacks", &state.callbacks.len())
            .finish()
    }
}

impl Notices {
    /// Wakes whoever waits for the end. The first reason stands.
    pub(crate) fn end(&self, reason: CloseReason) {
        let mut state = lock(&self.state);
        state.end.get_or_insert(reason);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.wake();
    }

    /// Runs what was to run, the last first, and says how many panicked. Several threads may: each
    /// function runs on one.
    pub(crate) fn over(&self, reason: CloseReason) -> usize {
        let mut state = lock(&self.state);
        let reason = state.over.get_or_insert(reason).clone();
        drop(state);
        let mut panics = 0;
        loop {
            let last = lock(&self.state).callbacks.pop();
            let Some(callback) = last.and_then(Deferred::into_value) else {
                return panics;
            };
            // The others run whatever this one does.
            panics += usize::from(guard(|| callback(&reason)).is_err());
        }
    }

    /// Runs `callback` when the connection is over: here and now if it is.
    fn add(&self, callback: Callback) {
        let mut state = lock(&self.state);
        match state.over.clone() {
            Some(reason) => {
                drop(state);
                let _panicked = guard(|| callback(&reason)).is_err();
            }
            None => state.callbacks.push(Deferred::new(callback)),
        }
    }

    /// Why it ends; or wakes the waker in `key` once it does, in a new place if there is none.
    fn poll_end(&self, key: &mut Option<usize>, waker: &Waker) -> Poll<CloseReason> {
        register(waker, |offer| {
            let mut state = lock(&self.state);
            if let Some(reason) = &state.end {
                return Ok(Poll::Ready(reason.clone()));
            }
            state.waiting.set(key, offer)?;
            Ok(Poll::Pending)
        })
    }

    /// Whoever waited in `key` waits no more.
    fn forget(&self, key: usize) {
        let waker = lock(&self.state).waiting.remove(key);
        drop(waker);
    }
}

/// Waits for the end of a connection. It holds neither the connection nor its descriptor.
struct End {
    /// It is no work that a handler does, and bounds what it does.
    bounded: Bounded,
    /// `None` if nothing was left of the connection.
    rare: Option<Arc<Rare>>,
    key: Option<usize>,
}

impl Future for End {
    type Output = CloseReason;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CloseReason> {
        let Self { rare, key, bounded } = &mut *self;
        bounded.begin();
        match rare {
            Some(rare) => rare.notices.poll_end(key, context.waker()),
            None => Poll::Ready(CloseReason::Forgotten),
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let (Some(rare), Some(key)) = (&self.rare, self.key) {
            rare.notices.forget(key);
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
        End {
            bounded: Bounded::default(),
            rare: Some(self.link.asked_for_end()),
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
        self.link.on_close(Box::new(callback));
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
        End {
            bounded: Bounded::default(),
            rare: self.link().map(|link| link.asked_for_end()),
            key: None,
        }
    }

    /// As [`Connection::on_close`]. Of a connection of which nothing is left any more, the reason is
    /// [`Forgotten`](CloseReason::Forgotten).
    pub fn on_close(&self, callback: impl FnOnce(&CloseReason) + Send + 'static) {
        match self.link() {
            Some(link) => link.on_close(Box::new(callback)),
            None => {
                let _panicked = guard(|| callback(&CloseReason::Forgotten)).is_err();
            }
        }
    }
}

impl super::link::Link {
    /// What is told of the end, for somebody who waits for it.
    fn asked_for_end(&self) -> Arc<Rare> {
        let rare = self.rare.get_or_make();
        // Made if it was not there: under its lock either the poller's word of the end is seen here,
        // or the poller sees who waits.
        drop(self.inbox());
        if let Some(reason) = self.end() {
            rare.notices.end(reason);
        }
        Arc::clone(rare)
    }

    fn on_close(&self, callback: Callback) {
        let notices = &self.rare.get_or_make().notices;
        notices.add(callback);
        // Of a connection that was over before it had notices, they do not know.
        let over = lock(&self.outbox).is_over();
        if let Some(reason) = over {
            notices.over(reason);
        }
    }

    /// Why the connection ends, as far as is known to all threads.
    pub(crate) fn end(&self) -> Option<CloseReason> {
        let of_input = self.inbox_if_any().and_then(|inbox| inbox.reason());
        of_input.or_else(|| lock(&self.outbox).closed().cloned())
    }

    /// The end is known: tells whoever waits for it.
    pub(crate) fn tell_end(&self) {
        self.tell_line();
        if let Some(rare) = self.rare.get()
            && let Some(reason) = self.end()
        {
            rare.notices.end(reason);
        }
    }

    /// Whether functions are to run when it is over.
    pub(crate) fn has_callbacks(&self) -> bool {
        let rare = self.rare.get();
        rare.is_some_and(|rare| !lock(&rare.notices.state).callbacks.is_empty())
    }

    /// Nobody works on the connection any more, and it has ended for `reason`. Says how many of
    /// the functions that were to run have panicked.
    pub(crate) fn tell_over(&self, reason: &CloseReason) -> usize {
        lock(&self.outbox).over(reason.clone());
        let Some(rare) = self.rare.get() else {
            return 0;
        };
        if let Some(line) = rare.line.get() {
            line.over(reason.clone());
        }
        rare.notices.end(reason.clone());
        rare.notices.over(reason.clone())
    }
}
