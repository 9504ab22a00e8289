// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Reader`]: the input of a connection, waiting for what is not there yet.
//!
//! Every method waits first and borrows after. Waiting registers with the inbox and gives the
//! unread bytes back to it, so that what comes next can land right behind them; a wait that is
//! dropped leaves them there, and the next call takes them again. So every method is cancel-safe:
//! **no byte is lost by dropping a future**, and a failed call has consumed nothing.

mod read_future;
mod read_wait;

use std::future::Future;
use std::io;
use std::time::Instant;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, TooLarge};

use super::reader_state::ReaderState;
use super::shared::Shared;
use crate::error::UnexpectedEof;
use crate::sync::Arc;
use read_future::ReadFuture;
pub(super) use read_wait::ReadWait;

/// The reading side of a [`Connection`](crate::Connection).
///
/// All waiting methods fail alike:
///
/// * [`TooLarge`] (`InvalidData`) at once, before waiting or allocating, if more than `max_frame`
///   bytes are asked for; a handler that passes it on ends its connection with
///   [`Limit::Frame`](crate::Limit::Frame);
/// * [`UnexpectedEof`] (`UnexpectedEof`) if the peer ended its stream before; what came stays readable;
/// * [`TimedOut`](crate::TimedOut) if [`Timeouts::read`](crate::Timeouts::read), or the reader's
///   [deadline](Self::with_deadline), has passed before all was there; what came stays, and the next
///   call may succeed;
/// * [`Closed`](crate::Closed), or the kernel's error with its errno, if the connection has ended
///   otherwise; what came before is read first.
///
/// There is one reader at a time, and one call on it. Two tasks that take turns on one, each with a
/// part of a frame, do not compile:
///
/// ```compile_fail,E0499
/// # use std::io;
/// # fn spawn<T>(task: impl Future<Output = T>) -> impl Future<Output = T> { task }
/// # async fn handle(conn: &mut netpoll::Connection) -> io::Result<()> {
/// let mut reader = conn.reader();
/// let one = spawn(async { reader.read_u32().await });
/// let other = spawn(async { reader.read_u32().await }); // a second borrow of `reader`
/// one.await?;
/// other.await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Reader<'a> {
    shared: &'a Arc<Shared>,
    pub(super) state: &'a mut ReaderState,
    deadline: Option<Instant>,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(shared: &'a Arc<Shared>, input: &'a mut ReaderState) -> Self {
        Self {
            shared,
            state: input,
            deadline: None,
        }
    }

    /// This reader with a deadline: a call that would wait beyond it fails with
    /// [`TimedOut`](crate::TimedOut) then, at once if it has passed. What is there can be read all
    /// the same. The timeouts of the connection hold beside it.
    ///
    /// ```no_run
    /// # use std::time::{Duration, Instant};
    /// # async fn example(conn: &mut netpoll::Connection) -> std::io::Result<()> {
    /// let soon = Instant::now() + Duration::from_millis(50);
    /// let length = conn.reader().with_deadline(soon).read_u32().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// How many bytes can be read without waiting. Takes the inbox, which is one lock, unless there
    /// are [`read_high`](crate::ConnOptions::read_high) already.
    pub fn available(&mut self) -> usize {
        if self.state.buffer.len() < self.shared.options.read_high {
            self.take_input_buffer();
        }
        self.state.buffer.len()
    }

    /// The next `n` bytes, which stay. Copies only across segments.
    ///
    /// # Errors
    ///
    /// As all of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    #[inline]
    pub fn peek(&mut self, n: usize) -> impl Future<Output = io::Result<&[u8]>> {
        ReadFuture::new(self, n, move |chain| chain.peek(n))
    }

    /// The next `n` bytes, consumed. Copies only across segments.
    ///
    /// # Errors
    ///
    /// As all of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: bytes are consumed when all are there.
    #[inline]
    pub fn next(&mut self, n: usize) -> impl Future<Output = io::Result<&[u8]>> {
        ReadFuture::new(self, n, move |chain| chain.next(n))
    }

    /// Consumes `n` bytes unseen, at most `max_frame`.
    ///
    /// # Errors
    ///
    /// As all of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is consumed unless all are there.
    #[inline]
    pub fn skip(&mut self, n: usize) -> impl Future<Output = io::Result<()>> {
        ReadFuture::new(self, n, move |chain| chain.skip(n))
    }

    /// The bytes up to and including the first `delimiter`, consumed; at most `max` of them.
    /// Looks at each byte once, however often it waits.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if the first `max` bytes do not have the delimiter; else as all of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn until(&mut self, delimiter: u8, max: usize) -> io::Result<&[u8]> {
        self.proceed().await;
        let mut seen = 0;
        let mut began = ReadWait::default();
        loop {
            self.take_input_buffer();
            if let Some(at) = self.state.buffer.position_of(delimiter, seen, max) {
                return self.state.buffer.next(at + 1);
            }
            seen = self.state.buffer.len();
            if seen >= max {
                return Err(TooLarge::new(max, max.saturating_add(1)).into());
            }
            self.wait_in(&mut began, seen + 1).await?;
        }
    }

    /// The next `n` bytes, consumed, as memory of their own right. Shares memory within one
    /// segment, copies across segments and when it is small beside its block.
    ///
    /// # Errors
    ///
    /// As all of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    #[inline]
    pub fn slice(&mut self, n: usize) -> impl Future<Output = io::Result<Bytes>> {
        ReadFuture::new(self, n, move |chain| chain.slice(n))
    }

    /// The next `n` bytes, consumed, as a buffer. Never copies.
    ///
    /// # Errors
    ///
    /// As all of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    #[inline]
    pub fn split_to(&mut self, n: usize) -> impl Future<Output = io::Result<LinkBuffer>> {
        ReadFuture::new(self, n, move |chain| chain.split_to(n))
    }

    /// Whatever is there, consumed, at least one byte; `None` at the end of the stream. No copy.
    ///
    /// # Errors
    ///
    /// As all of [`Reader`], but for [`UnexpectedEof`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn chunk(&mut self) -> io::Result<Option<LinkBuffer>> {
        self.proceed().await;
        self.take_input_buffer();
        if self.state.buffer.is_empty()
            && let Err(error) = self.wait(1).await
        {
            return if is_unexpected_eof(&error) {
                Ok(None)
            } else {
                Err(error)
            };
        }
        let all = self.state.buffer.len();
        self.state.buffer.split_to(all).map(Some)
    }

    /// Fills `target`, consumed. One copy.
    ///
    /// # Errors
    ///
    /// As all of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is consumed unless all are there.
    #[inline]
    pub fn read_exact(&mut self, target: &mut [u8]) -> impl Future<Output = io::Result<()>> {
        ReadFuture::new(self, target.len(), |chain| chain.read_exact(target))
    }

    /// The next `n` bytes, consumed, in a `Vec`. One allocation, made when they are there.
    ///
    /// # Errors
    ///
    /// As all of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    #[inline]
    pub fn read_vec(&mut self, n: usize) -> impl Future<Output = io::Result<Vec<u8>>> {
        ReadFuture::new(self, n, move |chain| chain.read_vec(n))
    }

    /// The next `n` bytes, consumed, as text. One allocation, made when they are there.
    ///
    /// # Errors
    ///
    /// `InvalidData` if they are not UTF-8, and then they stay; else as all of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    #[inline]
    pub fn read_string(&mut self, n: usize) -> impl Future<Output = io::Result<String>> {
        ReadFuture::new(self, n, move |chain| chain.read_string(n))
    }

    /// Waits until `n` bytes are there. Consumes nothing.
    ///
    /// # Errors
    ///
    /// As all of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    #[inline]
    pub fn wait(&mut self, n: usize) -> impl Future<Output = io::Result<()>> {
        ReadFuture::new(self, n, |_| Ok(()))
    }
}

/// Whether a call failed for the end of the peer's stream.
pub(super) fn is_unexpected_eof(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|report| report.is::<UnexpectedEof>())
}

/// Fixed-size numbers.
macro_rules! numbers {
    ($($name:ident, $number:ty, $order:literal;)*) => {
        impl Reader<'_> {
            $(
                #[doc = concat!("A `", stringify!($number), "`, ", $order, ", consumed.")]
                ///
                /// # Errors
                ///
                /// As all of [`Reader`].
                ///
                /// # Cancel safety
                ///
                /// Nothing is lost.
                #[inline]
                pub fn $name(&mut self) -> impl Future<Output = io::Result<$number>> {
                    ReadFuture::new(self, size_of::<$number>(), LinkBuffer::$name)
                }
            )*
        }
    };
}

numbers! {
    read_u8, u8, "one byte";
    read_u16, u16, "big-endian";
    read_u16_le, u16, "little-endian";
    read_u32, u32, "big-endian";
    read_u32_le, u32, "little-endian";
    read_u64, u64, "big-endian";
    read_u64_le, u64, "little-endian";
}
