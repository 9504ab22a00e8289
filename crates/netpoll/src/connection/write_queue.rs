// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`WriteQueue`]: many tasks, on any threads, send whole buffers on one connection.
//!
//! There is no queue beside the connection's output buffer: a buffer is appended there, under its
//! lock, and keeps its place from then on. The first one notifies the poller; all that follow
//! before the poller takes the output are sent with it. So the buffers of many senders leave in few
//! system calls, without a collecting task. (Go's ShardQueue collects into shards and so has no
//! order; here a sender's buffers leave in the order in which they were queued.)
//!
//! Beside the output buffer is the *wait queue*: senders that find the buffer full wait in the
//! order in which they came, and only the first of them tries. A sender enters the wait queue
//! before it checks the output buffer, and code that frees space checks the wait queue afterwards.
//! The lock of the output buffer orders the two, so no sender waits for space that is free.

mod wait_queue;

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Weak;
use std::task::{Context, Poll};

use netpoll_buffer::LinkBuffer;

use super::Connection;
use super::handle::ConnectionHandle;
use super::shared::{EnqueueResult, Shared};
use crate::fairness;
use crate::poll::notifier::Notice;
use crate::sync::{Arc, lock};
use wait_queue::{Capacity, OutputStatus, QueueFlush, SenderSlot};

pub(super) use wait_queue::{WaitQueue, WakeResult};

/// Sends whole buffers on one connection, for any number of tasks on any threads. Made by
/// [`Connection::write_queue`] or [`ConnectionHandle::write_queue`]; clones, and others made for
/// the same connection, are the same queue.
///
/// * Buffers are never mixed. Those of one sender, which awaits each send, leave in their order.
/// * The queue is bounded: at [`write_high`](crate::options::ConnOptions::write_high) unsent bytes
///   senders wait, first come, first served, until at most
///   [`write_low`](crate::options::ConnOptions::write_low) bytes are unsent. So at most
///   `write_high` bytes and one buffer are held.
/// * A queued buffer is sent, or the connection ends, and [`flush`](Self::flush) and each later
///   call return the reason. A close of the connection sends the buffers queued before it, within
///   the linger.
///
/// The queue does not keep the connection open; its owner or its handler does. But while the
/// connection drains, for a [shutdown](crate::LoopHandle::shutdown) or because of its
/// [age](crate::options::Timeouts::max_age), a held queue counts as a pending reply: the connection
/// is closed when the last queue is dropped, or cut at the deadline. Use a [`ConnectionHandle`] for
/// pushes that a drain need not wait for.
///
/// ```
/// use netpoll::buffer::LinkBuffer;
/// use netpoll::Connection;
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
    shared: Weak<Shared>,
    wait_queue: Arc<WaitQueue>,
}

impl Connection {
    /// Returns the queue through which many tasks send on this connection. The first call for a
    /// connection makes three allocations.
    #[must_use]
    pub fn write_queue(&self) -> WriteQueue {
        WriteQueue::of(&self.shared)
    }
}

impl ConnectionHandle {
    /// As [`Connection::write_queue`]. If the connection is gone, every send fails.
    #[must_use]
    pub fn write_queue(&self) -> WriteQueue {
        match self.shared() {
            Some(shared) => WriteQueue::of(&shared),
            None => WriteQueue::new(Weak::new(), Arc::default()),
        }
    }
}

impl WriteQueue {
    fn of(shared: &Arc<Shared>) -> Self {
        shared.expect_queue_reply();
        Self::new(Arc::downgrade(shared), Arc::clone(shared.wait_queue()))
    }

    fn new(shared: Weak<Shared>, queue: Arc<WaitQueue>) -> Self {
        queue.add_handle();
        Self {
            shared,
            wait_queue: queue,
        }
    }

    /// Sends `buffer` as a whole, behind the buffers queued before. Waits only while the queue is
    /// full.
    ///
    /// `Ok` means that the buffer is queued, not that it is sent: see [`flush`](Self::flush).
    /// Copies nothing, takes the lock of the output buffer for a few instructions, and makes at
    /// most one system call, to wake the connection's poller if it sleeps.
    ///
    /// # Errors
    ///
    /// Each error returns the buffer unchanged. The reason if the connection has ended, or
    /// [`ErrorKind::WriteAfterShutdown`](crate::error::ErrorKind::WriteAfterShutdown) if its output
    /// was shut down; [`ErrorKind::FrameTooLarge`](crate::error::ErrorKind::FrameTooLarge) for a
    /// buffer larger than the connection's [`max_output`](crate::options::ConnOptions::max_output)
    /// minus its [`write_high`](crate::options::ConnOptions::write_high).
    ///
    /// # Cancel safety
    ///
    /// A dropped future has sent nothing, and leaves the wait queue.
    pub async fn send(&self, buffer: LinkBuffer) -> Result<(), SendError> {
        fairness::proceed().await;
        let mut pending = Some(match self.try_send(buffer) {
            Err(SendError { buffer, error }) if error.kind() == io::ErrorKind::WouldBlock => buffer,
            other => return other,
        });
        let mut slot = SenderSlot::new(&self.wait_queue);
        poll_fn(|context| self.poll_send(&mut pending, &mut slot, context)).await
    }

    /// As [`send`](Self::send), without waiting.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); `WouldBlock` while the queue is full, or other senders wait.
    pub fn try_send(&self, mut buffer: LinkBuffer) -> Result<(), SendError> {
        // Consumed segments are dropped here, and not under a lock.
        buffer.commit_all();
        buffer.trim();
        // The tail block stays with this thread.
        buffer.return_tail();
        let Some(shared) = self.shared.upgrade() else {
            return Err(SendError::new(buffer, self.wait_queue.closed_error()));
        };
        let most = shared.options.output_bound() - shared.options.write_high;
        if buffer.len() > most {
            let error = shared.frame_too_large("max_output", most, buffer.len());
            return Err(SendError::new(buffer, error));
        }
        if self.wait_queue.has_waiters() {
            return Err(SendError::new(buffer, io::ErrorKind::WouldBlock.into()));
        }
        match shared.enqueue(buffer) {
            EnqueueResult::Enqueued => Ok(()),
            EnqueueResult::Full(buffer) => {
                Err(SendError::new(buffer, io::ErrorKind::WouldBlock.into()))
            }
            EnqueueResult::Closed(buffer, error) => Err(SendError::new(buffer, error)),
        }
    }

    fn poll_send(
        &self,
        pending: &mut Option<LinkBuffer>,
        slot: &mut SenderSlot<'_>,
        context: &Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        // Before the buffer is taken: a waker's clone may panic.
        let is_first = pending.is_some() && slot.is_first(context.waker());
        let Some(buffer) = pending.take() else {
            return Poll::Ready(Ok(()));
        };
        let Some(shared) = self.shared.upgrade() else {
            return Poll::Ready(Err(SendError::new(buffer, self.wait_queue.closed_error())));
        };
        if !is_first {
            if let Some(error) = shared.closed_error() {
                return Poll::Ready(Err(SendError::new(buffer, error)));
            }
            *pending = Some(buffer);
            return Poll::Pending;
        }
        match shared.enqueue(buffer) {
            EnqueueResult::Enqueued => Poll::Ready(Ok(())),
            EnqueueResult::Full(buffer) => {
                *pending = Some(buffer);
                Poll::Pending
            }
            EnqueueResult::Closed(buffer, error) => Poll::Ready(Err(SendError::new(buffer, error))),
        }
    }

    /// Waits until the kernel has taken every buffer that was queued before this call.
    ///
    /// # Errors
    ///
    /// Why the connection ended, if it ended before that.
    ///
    /// # Cancel safety
    ///
    /// Queued buffers are sent all the same.
    pub async fn flush(&self) -> io::Result<()> {
        fairness::proceed().await;
        let Some(shared) = self.shared.upgrade() else {
            return Err(self.wait_queue.closed_error());
        };
        let mut flush = QueueFlush::new(&self.wait_queue, lock(&shared.output_buffer).total_put());
        drop(shared);
        poll_fn(|context| self.poll_flush(&mut flush, context)).await
    }

    fn poll_flush(
        &self,
        flush: &mut QueueFlush<'_>,
        context: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        flush.register(context.waker());
        let Some(shared) = self.shared.upgrade() else {
            return Poll::Ready(Err(self.wait_queue.closed_error()));
        };
        match lock(&shared.output_buffer).sent_result(flush.target) {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }
}

impl Clone for WriteQueue {
    fn clone(&self) -> Self {
        Self::new(Weak::clone(&self.shared), Arc::clone(&self.wait_queue))
    }
}

impl Drop for WriteQueue {
    /// A draining connection may wait for this queue.
    fn drop(&mut self) {
        if self.wait_queue.remove_handle()
            && let Some(shared) = self.shared.upgrade()
        {
            shared.notifier.notify(Notice::Send);
        }
    }
}

/// A buffer that was not queued, and the reason.
#[derive(Debug)]
#[non_exhaustive]
pub struct SendError {
    /// The buffer, unchanged.
    pub buffer: LinkBuffer,
    /// Why the buffer was not queued.
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

impl Shared {
    fn wait_queue(&self) -> &Arc<WaitQueue> {
        self.extensions
            .get_or_make()
            .wait_queue
            .get_or_init(Arc::default)
    }

    /// Returns whether a write queue is held, which may send. From now on the drop of the last one
    /// notifies the poller.
    pub(super) fn has_write_queues(&self) -> bool {
        let queue = self
            .extensions
            .get()
            .and_then(|extensions| extensions.wait_queue.get());
        queue.is_some_and(|queue| queue.watch_handles())
    }

    fn closed_error(&self) -> Option<io::Error> {
        lock(&self.output_buffer).closed_error()
    }

    /// Wakes the waiters of the write queue that can proceed, if there is one. Called after space
    /// was made, output was sent, or the output has ended.
    #[inline]
    pub(super) fn notify_wait_queue(&self) -> WakeResult {
        if let Some(extensions) = self.extensions.get()
            && let Some(queue) = extensions.wait_queue.get()
        {
            return queue.notify(|| {
                let output_buffer = lock(&self.output_buffer);
                let capacity = if !output_buffer.is_open() {
                    Capacity::Closed
                } else if output_buffer.unsent() <= self.options.write_low {
                    Capacity::Available
                } else {
                    Capacity::Full
                };
                OutputStatus {
                    capacity,
                    sent: output_buffer.sent,
                }
            });
        }
        WakeResult::NoneWoken
    }
}
