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

mod line;

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Weak;
use std::task::{Context, Poll};

use netpoll_buffer::{LinkBuffer, TooLarge};

use super::Connection;
use super::handle::ConnectionHandle;
use super::link::{Link, Queued};
use crate::fairness;
use crate::poll::bell::Signal;
use crate::sync::{Arc, lock};
use line::{Flush, Outlook, Place, Room};

pub(super) use line::{Line, Told};

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
/// It does not keep the connection: that has its owner or its handler. But while the connection drains,
/// for a [shutdown](crate::LoopHandle::shutdown) or because of its [age](crate::Timeouts::max_age), a
/// queue that is held stands for an answer that is owed: the connection is closed when the last one is
/// dropped, or cut at the deadline. What may be pushed and need not be waited for goes through a
/// [`ConnectionHandle`].
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
///     let mut reader = theirs.reader();
///     let message = reader.next(3).await?;
///     assert!(message.iter().all(|byte| *byte == message[0]), "whole");
/// }
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug)]
pub struct WriteQueue {
    link: Weak<Link>,
    line: Arc<Line>,
}

impl Connection {
    /// The queue through which many tasks send on this connection. The first time costs the
    /// connection three allocations.
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
            None => WriteQueue::new(Weak::new(), Arc::default()),
        }
    }
}

impl WriteQueue {
    fn of(link: &Arc<Link>) -> Self {
        link.owe_by_queue();
        Self::new(Arc::downgrade(link), Arc::clone(link.line()))
    }

    fn new(link: Weak<Link>, line: Arc<Line>) -> Self {
        line.hold();
        Self { link, line }
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
        fairness::proceed().await;
        let mut left = Some(match self.try_send(buffer) {
            Err(SendError { buffer, error }) if error.kind() == io::ErrorKind::WouldBlock => buffer,
            other => return other,
        });
        let mut place = Place::new(&self.line);
        poll_fn(|context| self.poll_send(&mut left, &mut place, context)).await
    }

    /// As [`send`](Self::send), without waiting.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); `WouldBlock` while the queue is full, or others wait.
    pub fn try_send(&self, mut buffer: LinkBuffer) -> Result<(), SendError> {
        // What is dropped of it is dropped here, and not under a lock.
        buffer.commit_all();
        buffer.trim();
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
        if self.line.is_waited_in() {
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
        // Before the buffer is taken: a waker's clone may panic.
        let is_first = left.is_some() && place.is_first(context.waker());
        let Some(buffer) = left.take() else {
            return Poll::Ready(Ok(()));
        };
        let Some(link) = self.link.upgrade() else {
            return Poll::Ready(Err(SendError::new(buffer, self.line.end())));
        };
        if !is_first {
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
        fairness::proceed().await;
        let Some(link) = self.link.upgrade() else {
            return Err(self.line.end());
        };
        let mut flush = Flush::new(&self.line, lock(&link.outbox).put_in_all());
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

impl Clone for WriteQueue {
    fn clone(&self) -> Self {
        Self::new(Weak::clone(&self.link), Arc::clone(&self.line))
    }
}

impl Drop for WriteQueue {
    /// A connection that drains may have waited for this one.
    fn drop(&mut self) {
        if self.line.let_go()
            && let Some(link) = self.link.upgrade()
        {
            link.bell.ring(Signal::Send);
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

impl Link {
    fn line(&self) -> &Arc<Line> {
        self.rare.get_or_make().line.get_or_init(Arc::default)
    }

    /// Whether somebody holds a write queue, and so may send. From now on the poller hears it when the
    /// last is let go.
    pub(super) fn is_owed(&self) -> bool {
        let line = self.rare.get().and_then(|rare| rare.line.get());
        line.is_some_and(|line| line.watch())
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
