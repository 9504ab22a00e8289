// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Reader`]: the input of a connection.
//!
//! Every method waits first and borrows afterwards. A wait registers with the input buffer and
//! returns the unread bytes to it, so that later input is received right behind them. A dropped
//! wait leaves them there, and the next call takes them again. So every method is cancel-safe:
//! **dropping a future loses no byte**, and a failed call has consumed nothing.
//!
//! Each public method is defined once for [`Reader`] and for the owned half, in [`methods`]. It
//! borrows its reader for one call and passes it on by value, so that the result may borrow from
//! the input.

mod methods;
mod read_future;
mod read_wait;

use std::io;
use std::time::Instant;

use netpoll_buffer::LinkBuffer;

use super::reader_state::ReaderState;
use super::shared::Shared;
use crate::error::ErrorKind;
use crate::sync::Arc;
pub(super) use read_wait::{ReadWait, SuspendedWait};

/// The reading side of a [`Connection`](crate::Connection).
///
/// * Fields of known lengths: [`next`](Self::next) and [`peek`](Self::peek) borrow,
///   [`slice`](Self::slice) and [`split_to`](Self::split_to) share memory, and `read_*` copies.
/// * A parser: [`buffered`](Self::buffered), [`consume`](Self::consume) and [`more`](Self::more).
/// * Whole frames: [`frame`](Self::frame), or [`Connection::framed`](crate::Connection::framed).
/// * A stream of bytes: [`chunk`](Self::chunk) and [`chunk_up_to`](Self::chunk_up_to).
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
    pub(super) shared: &'a Arc<Shared>,
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

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.shared
    }

    /// Borrows this reader, for one call.
    #[inline]
    pub(super) fn reborrow(&mut self) -> Reader<'_> {
        Reader {
            shared: self.shared,
            state: self.state,
            deadline: self.deadline,
        }
    }

    /// Borrows this reader, for a look at it.
    #[inline]
    fn view(&self) -> ReaderView<'_> {
        ReaderView::new(self.shared, self.state)
    }

    /// See `until`.
    async fn find(mut self, delimiter: u8, max: usize) -> io::Result<&'a [u8]> {
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
                let least = max.saturating_add(1);
                return Err(self.shared.frame_too_large("max", max, least));
            }
            self.wait_in(&mut began, seen + 1).await?;
        }
    }

    /// See `chunk`.
    async fn take_all(mut self) -> io::Result<Option<LinkBuffer>> {
        if !self.has_any().await? {
            return Ok(None);
        }
        let all = self.state.buffer.len();
        self.state.buffer.split_to(all).map(Some)
    }

    /// See `chunk_up_to`.
    async fn take_up_to(mut self, n: usize) -> io::Result<Option<&'a [u8]>> {
        if n > 0 && !self.has_any().await? {
            return Ok(None);
        }
        let count = self.state.first_piece().len().min(n);
        self.state.buffer.next(count).map(Some)
    }

    /// Waits until there is a byte; returns `false` at the end of the stream.
    async fn has_any(&mut self) -> io::Result<bool> {
        self.proceed().await;
        self.take_input_buffer();
        match self.state.buffer.is_empty() {
            true => or_end(self.reborrow().wait(1).await),
            false => Ok(true),
        }
    }

    /// See `more`.
    async fn extend(mut self) -> io::Result<bool> {
        self.proceed().await;
        let buffered = self.state.first_piece().len();
        if buffered == self.state.buffer.len() {
            let mut wait = UnreadWait {
                began: ReadWait::default(),
                reader: self.reborrow(),
            };
            let UnreadWait { began, reader } = &mut wait;
            if !or_end(reader.wait_in(began, buffered.saturating_add(1)).await)? {
                return Ok(false);
            }
        }
        let max_frame = self.state.max_frame;
        if buffered >= max_frame {
            let least = buffered.saturating_add(1);
            return Err(self.shared.frame_too_large("max_frame", max_frame, least));
        }
        self.state.extend_first_piece(buffered).map(|()| true)
    }
}

/// A reader, for methods that only look at it.
#[derive(Clone, Copy)]
pub(super) struct ReaderView<'a> {
    shared: &'a Shared,
    state: &'a ReaderState,
}

impl<'a> ReaderView<'a> {
    #[inline]
    pub(super) fn new(shared: &'a Shared, state: &'a ReaderState) -> Self {
        Self { shared, state }
    }
}

/// A wait that takes the unread bytes back when it is dropped before its end.
struct UnreadWait<'a, 'r> {
    began: ReadWait<'a>,
    reader: Reader<'r>,
}

impl Drop for UnreadWait<'_, '_> {
    fn drop(&mut self) {
        drop(std::mem::take(&mut self.began));
        if self.reader.state.buffer.is_empty() {
            self.reader.take_input_buffer();
        }
    }
}

/// Returns `false` for a call that failed because the peer ended its stream.
fn or_end(waited: io::Result<()>) -> io::Result<bool> {
    match waited {
        Ok(()) => Ok(true),
        Err(error) if is_unexpected_eof(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns whether a call failed because the peer ended its stream.
pub(super) fn is_unexpected_eof(error: &io::Error) -> bool {
    matches!(
        ErrorKind::payload(error),
        Some(ErrorKind::UnexpectedEof { .. })
    )
}
