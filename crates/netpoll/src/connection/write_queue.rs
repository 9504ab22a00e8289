// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`WriteQueue`]: many tasks, on any threads, send whole buffers on one connection.
//!
//! There is no queue beside the connection's outbox: a buffer is appended there, under the outbox's
//! lock, and is in its place from then on. The first tells the poller; what comes until the poller
//! takes the output goes with it, so that a burst of many senders leaves in few system calls
//! without anybody collecting it. (Go's ShardQueue collects into shards and so has no order; here a
//! sender's buffers leave in the order in which they were taken.)
//!
//! What is beside the outbox is the *line*: senders that find it full wait in the order in which
//! they came, and only the first of them tries. Whoever waits enters the line before he looks at
//! the outbox, and whoever makes room looks at the line afterwards; the outbox's lock orders the
//! two, so nobody waits for room that is there.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Weak;
use std::task::{Context, Poll, Waker};

use netpoll_buffer::{LinkBuffer, TooLarge};

use super::Connection;
use super::handle::{ConnectionHandle, gone};
use super::link::{Link, Queued};
use crate::error::CloseReason;
use crate::guard::guard;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};

/// Sends whole buffers on one connection, for any number of tasks on any threads. Made by
/// [`Connection::write_queue`] or [`ConnectionHandle::write_queue`]; clones, and others made for the
/// same connection, are the same queue.
///
/// * Buffers are never mixed, and those of one sender, who awaits each send, leave in their order.
/// * It is bounded: above [`write_high`](crate::ConnOptions::write_high) unsent bytes senders wait,
///   first come first served, until no more than [`write_low`](crate::ConnOptions::write_low) are.
///   So at most `write_high` and one buffer are held.
/// * What was taken leaves, or the connection ends and [`flush`](Self::flush), and each later call,
///   says why. A close of the connection sends what was taken before it, within the linger.
///
/// It does not keep the connection: that has its owner or its handler.
///
/// ```
/// use netpoll::{Connection, LinkBuffer};
///
/// # async fn example() -> std::io::Result<()> {
/// let (ours, mut theirs) = Connection::pair().await?;
/// let queue = ours.write_queue();
/// let senders: Vec<_> = (0..4_u8)
///     .map(|number| {
///         let queue = queue.clone();
///         std::thread::spawn(move || {
///             let mut message = LinkBuffer::new();
///             message.put_slice(&[number; 3]);
///             queue.try_send(message).unwrap();
///         })
///     })
///     .collect();
/// for _ in senders {
///     let message = theirs.reader().next(3).await?;
///     assert!(message.iter().all(|byte| *byte == message[0]), "whole");
/// }
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct WriteQueue {
    link: Weak<Link>,
    line: Arc<Line>,
}

impl Connection {
    /// The queue through which many tasks send on this connection. The first time costs the
    /// connection two allocations.
    #[must_use]
    pub fn write_queue(&self) -> WriteQueue {
        WriteQueue::of(&self.link)
    }
}

impl ConnectionHandle {
    /// As [`Connection::write_queue`]. Of a connection of which nothing is left, every send fails.
    #[must_use]
    pub fn write_queue(&self) -> WriteQueue {
        match self.link() {
            Some(link) => WriteQueue::of(&link),
            None => WriteQueue {
                link: Weak::new(),
                line: Arc::default(),
            },
        }
    }
}

impl WriteQueue {
    fn of(link: &Arc<Link>) -> Self {
        Self {
            link: Arc::downgrade(link),
            line: Arc::clone(link.line()),
        }
    }

    /// Sends `buffer` whole, behind what was sent before. Waits only while the queue is full.
    ///
    /// `Ok` says that it was taken, not that it has left: see [`flush`](Self::flush). No copy; the
    /// outbox's lock for a few instructions, and at most one system call, to wake the connection's
    /// poller if it sleeps.
    ///
    /// # Errors
    ///
    /// With the buffer as it was: the reason if the connection has ended, or
    /// [`AfterFinish`](crate::AfterFinish) if its output has; [`TooLarge`] for a buffer that the
    /// connection's [`max_output`](crate::ConnOptions::max_output) has no room for.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent nothing, and leaves the line.
    pub async fn send(&self, buffer: LinkBuffer) -> Result<(), SendError> {
        let mut left = Some(match self.try_send(buffer) {
            Err(SendError { buffer, error }) if error.kind() == io::ErrorKind::WouldBlock => buffer,
            other => return other,
        });
        let mut place = Place {
            line: &self.line,
            number: None,
        };
        poll_fn(|context| self.poll_send(&mut left, &mut place, context)).await
    }

    /// As [`send`](Self::send), without waiting.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); `WouldBlock` while the queue is full, or others wait.
    pub fn try_send(&self, mut buffer: LinkBuffer) -> Result<(), SendError> {
        buffer.commit_all();
        // The memory that this thread writes into stays with it.
        buffer.return_tail();
        let Some(link) = self.link.upgrade() else {
            return Err(SendError::new(buffer, self.line.end()));
        };
        let most = link.options.output_bound() - link.options.write_high;
        if buffer.len() > most {
            let error = TooLarge::new(most, buffer.len()).into();
            return Err(SendError::new(buffer, error));
        }
        // Relaxed: who comes at the same time as others came no later.
        if self.line.waiting.load(Ordering::Relaxed) > 0 {
            return Err(SendError::new(buffer, io::ErrorKind::WouldBlock.into()));
        }
        match link.queue(buffer) {
            Queued::Taken => Ok(()),
            Queued::Full(buffer) => Err(SendError::new(buffer, io::ErrorKind::WouldBlock.into())),
            Queued::Refused(buffer, error) => Err(SendError::new(buffer, error)),
        }
    }

    fn poll_send(
        &self,
        left: &mut Option<LinkBuffer>,
        place: &mut Place<'_>,
        context: &Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let Some(buffer) = left.take() else {
            return Poll::Ready(Ok(()));
        };
        let Some(link) = self.link.upgrade() else {
            return Poll::Ready(Err(SendError::new(buffer, self.line.end())));
        };
        if !place.is_first(context.waker()) {
            if let Some(error) = link.refusal() {
                return Poll::Ready(Err(SendError::new(buffer, error)));
            }
            *left = Some(buffer);
            return Poll::Pending;
        }
        match link.queue(buffer) {
            Queued::Taken => Poll::Ready(Ok(())),
            Queued::Full(buffer) => {
                *left = Some(buffer);
                Poll::Pending
            }
            Queued::Refused(buffer, error) => Poll::Ready(Err(SendError::new(buffer, error))),
        }
    }

    /// Waits until the kernel has everything that was taken before this call.
    ///
    /// # Errors
    ///
    /// Why the connection ended, if it did before that.
    ///
    /// # Cancel safety
    ///
    /// What was taken is sent all the same.
    pub async fn flush(&self) -> io::Result<()> {
        let Some(link) = self.link.upgrade() else {
            return Err(self.line.end());
        };
        let mut flush = Flush {
            line: &self.line,
            target: lock(&link.outbox).put_in_all(),
            key: None,
        };
        drop(link);
        poll_fn(|context| self.poll_flush(&mut flush, context)).await
    }

    fn poll_flush(&self, flush: &mut Flush<'_>, context: &Context<'_>) -> Poll<io::Result<()>> {
        flush.enter(context.waker());
        let Some(link) = self.link.upgrade() else {
            return Poll::Ready(Err(self.line.end()));
        };
        match lock(&link.outbox).has_sent_all(flush.target) {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }
}

/// A buffer that was not sent, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct SendError {
    /// As it was.
    pub buffer: LinkBuffer,
    /// Why it was not taken.
    pub error: io::Error,
}

impl SendError {
    #[cold]
    fn new(buffer: LinkBuffer, error: io::Error) -> Self {
        Self { buffer, error }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes were not sent: {}",
            self.buffer.len(),
            self.error
        )
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        error.error
    }
}

/// Who waits on the queue of one connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// How many do, to be asked without the lock.
    waiting: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// For room, in the order in which they came.
    senders: BTreeMap<u64, Waker>,
    /// For so many bytes in all to have left.
    flushes: BTreeMap<(u64, u64), Waker>,
    /// Why the connection has ended, once it has: the link may be gone before anybody asks.
    over: Option<CloseReason>,
}

/// How the output is, for those who wait on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outlook {
    room: Room,
    /// All bytes that have left.
    sent: u64,
}

/// Whether whoever is told may do something about it right away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nobody,
    Somebody,
}

/// Whether the output takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Yes,
    NotYet,
    /// Nothing is taken any more, or leaves.
    Never,
}

impl Line {
    fn count(&self, state: &State) {
        let waiting = state.senders.len() + state.flushes.len();
        // Relaxed: the outbox's lock is taken between this and what it is to be seen by.
        self.waiting.store(waiting as u64, Ordering::Relaxed);
    }

    /// The connection is over.
    pub(super) fn over(&self, reason: CloseReason) {
        lock(&self.state).over.get_or_insert(reason);
    }

    /// Why nothing can be sent, where nothing is left of the connection.
    fn end(&self) -> io::Error {
        let state = lock(&self.state);
        state.over.as_ref().map_or_else(gone, CloseReason::to_error)
    }

    /// Wakes who may go on, as the output is now.
    fn tell(&self, look: impl FnOnce() -> Outlook) -> Told {
        // Relaxed: as above.
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return Told::Nobody;
        }
        let outlook = look();
        let state = lock(&self.state);
        let mut woken = Vec::new();
        if outlook.room == Room::Never {
            woken.extend(state.senders.values().cloned());
            woken.extend(state.flushes.values().cloned());
        } else {
            let first = state
                .senders
                .values()
                .next()
                .filter(|_| outlook.room == Room::Yes);
            woken.extend(first.cloned());
            let left = state.flushes.range(..=(outlook.sent, u64::MAX));
            woken.extend(left.map(|(_, waker)| waker.clone()));
        }
        drop(state);
        if woken.is_empty() {
            return Told::Nobody;
        }
        for waker in woken {
            let _panicked = guard(|| waker.wake()).is_err();
        }
        Told::Somebody
    }
}

impl Link {
    fn line(&self) -> &Arc<Line> {
        self.rare.get_or_make().line.get_or_init(Arc::default)
    }

    fn refusal(&self) -> Option<io::Error> {
        lock(&self.outbox).why_not_open()
    }

    /// Wakes who may go on of those who wait on the write queue, if there is one. After whatever
    /// makes room, sends, or ends the output.
    #[inline]
    pub(super) fn tell_line(&self) -> Told {
        if let Some(rare) = self.rare.get()
            && let Some(line) = rare.line.get()
        {
            return line.tell(|| {
                let outbox = lock(&self.outbox);
                let room = if !outbox.is_open() {
                    Room::Never
                } else if outbox.unsent() <= self.options.write_low {
                    Room::Yes
                } else {
                    Room::NotYet
                };
                Outlook {
                    room,
                    sent: outbox.sent,
                }
            });
        }
        Told::Nobody
    }
}

/// A sender's place in the line.
struct Place<'a> {
    line: &'a Line,
    number: Option<u64>,
}

impl Place<'_> {
    /// Takes a place if there is none, and says whether it is the first.
    fn is_first(&mut self, waker: &Waker) -> bool {
        let mut state = lock(&self.line.state);
        let number = *self.number.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        match state.senders.get_mut(&number) {
            Some(known) => known.clone_from(waker),
            None => drop(state.senders.insert(number, waker.clone())),
        }
        let first = state.senders.first_key_value();
        let is_first = first.is_some_and(|(first, _)| *first == number);
        self.line.count(&state);
        is_first
    }
}

impl Drop for Place<'_> {
    /// Whoever is first now may have room.
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = lock(&self.line.state);
        let waker = state.senders.remove(&number);
        let next = state.senders.values().next().cloned();
        self.line.count(&state);
        drop(state);
        drop(waker);
        if let Some(next) = next {
            next.wake();
        }
    }
}

/// A wait for bytes to have left.
struct Flush<'a> {
    line: &'a Line,
    target: u64,
    key: Option<(u64, u64)>,
}

impl Flush<'_> {
    fn enter(&mut self, waker: &Waker) {
        let mut state = lock(&self.line.state);
        let target = self.target;
        let key = *self.key.get_or_insert_with(|| {
            state.next += 1;
            (target, state.next)
        });
        state.flushes.insert(key, waker.clone());
        self.line.count(&state);
    }
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut state = lock(&self.line.state);
        let waker = state.flushes.remove(&key);
        self.line.count(&state);
        drop(state);
        drop(waker);
    }
}
