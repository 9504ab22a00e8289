// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Reader`]: the input of a connection.
//!
//! Every method waits first and borrows afterwards. A wait registers with the input buffer and
//! returns the unread bytes to it, so that later input is received right behind them. A dropped
//! wait leaves them there, and the next call takes them again. So every method is cancel-safe:
//! **dropping a future loses no byte**, and a failed call has consumed nothing.

mod read_future;
mod read_wait;

use std::future::Future;
use std::io;
use std::time::Instant;

use bytes::Bytes;
use netpoll_buffer::LinkBuffer;

use super::reader_state::ReaderState;
use super::shared::Shared;
use crate::error::ErrorKind;
use crate::sync::Arc;
use read_future::ReadFuture;
pub(super) use read_wait::ReadWait;

/// The reading side of a [`Connection`](crate::Connection).
///
/// All waiting methods have the same errors:
///
/// * [`ErrorKind::FrameTooLarge`] (`InvalidData`), before
///   waiting or allocating, if more than `max_frame` bytes are requested; a handler that returns it
///   ends its connection with [`Limit::Frame`](crate::error::Limit::Frame);
/// * [`ErrorKind::UnexpectedEof`] (`UnexpectedEof`) if the
///   peer ended its stream before; received bytes stay readable;
/// * [`ErrorKind::TimedOut`] if
///   [`Timeouts::read`](crate::options::Timeouts::read), or the reader's
///   [deadline](Self::with_deadline), has passed before all bytes came; received bytes stay
///   readable, and the next call may succeed;
/// * [`ErrorKind::Closed`], or the kernel's error with its errno,
///   if the connection has ended for another reason; bytes received before are read first.
///
/// There is one reader at a time, and one call on it. Two tasks that read from one reader in turn,
/// each a part of a frame, do not compile:
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
    pub(crate) fn new(shared: &'a Arc<Shared>, state: &'a mut ReaderState) -> Self {
        Self {
            shared,
            state,
            deadline: None,
        }
    }

    /// Sets a deadline: a call that would wait beyond it fails with
    /// [`ErrorKind::TimedOut`] then, or at once if it has
    /// passed. Received bytes can still be read. The timeouts of the connection apply as well.
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

    /// Returns how many bytes can be read without waiting. Takes the input buffer, which is one
    /// lock, unless there are [`read_high`](crate::options::ConnOptions::read_high) bytes already.
    pub fn available(&mut self) -> usize {
        if self.state.buffer.len() < self.shared.options.read_high {
            self.take_input_buffer();
        }
        self.state.buffer.len()
    }

    /// Returns the next `n` bytes without consuming them. Copies only across segments.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    pub fn peek(&mut self, n: usize) -> impl Future<Output = io::Result<&[u8]>> {
        ReadFuture::new(self, n, move |buffer| buffer.peek(n))
    }

    /// Consumes and returns the next `n` bytes. Copies only across segments.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost: bytes are consumed only when all of them are there.
    #[inline]
    pub fn next(&mut self, n: usize) -> impl Future<Output = io::Result<&[u8]>> {
        ReadFuture::new(self, n, move |buffer| buffer.next(n))
    }

    /// Skips `n` bytes, at most `max_frame`.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Bytes are consumed only when all of them are there.
    #[inline]
    pub fn skip(&mut self, n: usize) -> impl Future<Output = io::Result<()>> {
        ReadFuture::new(self, n, move |buffer| buffer.skip(n))
    }

    /// Consumes and returns the bytes up to and including the first `delimiter`, at most `max`
    /// bytes. Looks at each byte once, however often it waits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::FrameTooLarge`] if the first `max`
    /// bytes do not contain the delimiter; else as all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
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
                return Err(ErrorKind::frame_too_large("max", max, max.saturating_add(1)).into());
            }
            self.wait_in(&mut began, seen + 1).await?;
        }
    }

    /// Consumes the next `n` bytes and returns them as [`Bytes`]. Shares memory within one segment;
    /// copies across segments, and if `n` is small beside its block.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    pub fn slice(&mut self, n: usize) -> impl Future<Output = io::Result<Bytes>> {
        ReadFuture::new(self, n, move |buffer| buffer.slice(n))
    }

    /// Consumes the next `n` bytes and returns them as a buffer. Never copies.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    pub fn split_to(&mut self, n: usize) -> impl Future<Output = io::Result<LinkBuffer>> {
        ReadFuture::new(self, n, move |buffer| buffer.split_to(n))
    }

    /// Consumes and returns all bytes that are there, at least one; `None` at the end of the
    /// stream. No copy.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`], except
    /// [`ErrorKind::UnexpectedEof`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
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

    /// Consumes bytes and fills `target` with them. One copy.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Bytes are consumed only when all of them are there.
    #[inline]
    pub fn read_exact(&mut self, target: &mut [u8]) -> impl Future<Output = io::Result<()>> {
        ReadFuture::new(self, target.len(), |buffer| buffer.read_exact(target))
    }

    /// Consumes the next `n` bytes and returns them in a `Vec`. One allocation, made when all bytes
    /// are there.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    pub fn read_vec(&mut self, n: usize) -> impl Future<Output = io::Result<Vec<u8>>> {
        ReadFuture::new(self, n, move |buffer| buffer.read_vec(n))
    }

    /// Consumes the next `n` bytes and returns them as text. One allocation, made when all bytes
    /// are there.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the bytes are not UTF-8, and then they stay; else as all methods of
    /// [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    pub fn read_string(&mut self, n: usize) -> impl Future<Output = io::Result<String>> {
        ReadFuture::new(self, n, move |buffer| buffer.read_string(n))
    }

    /// Waits until `n` bytes are there. Consumes nothing.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    pub fn wait(&mut self, n: usize) -> impl Future<Output = io::Result<()>> {
        ReadFuture::new(self, n, |_| Ok(()))
    }
}

/// Returns whether a call failed because the peer ended its stream.
pub(super) fn is_unexpected_eof(error: &io::Error) -> bool {
    matches!(
        ErrorKind::payload(error),
        Some(ErrorKind::UnexpectedEof { .. })
    )
}

/// Reads of fixed-size numbers.
macro_rules! numbers {
    ($($name:ident, $number:ty, $order:literal;)*) => {
        impl Reader<'_> {
            $(
                #[doc = concat!("Consumes and returns a `", stringify!($number), "`, ", $order, ".")]
                ///
                /// # Errors
                ///
                /// As all methods of [`Reader`].
                ///
                /// # Cancel safety
                ///
                /// No input is lost.
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
