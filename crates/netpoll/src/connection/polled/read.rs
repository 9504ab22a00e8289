// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading with poll functions.
//!
//! They take the same bytes as the methods of the `Reader`, and wait with the same waiter.

use std::io;
use std::task::{Context, Poll, ready};

use netpoll_buffer::LinkBuffer;

use super::ends::end_of_stream;
use crate::connection::Connection;
use crate::connection::halves::{OwnedReader, half_methods};
use crate::connection::reader::Reader;

half_methods! {
    for Connection, OwnedReader, as &mut reader:

    /// Polls for input, and returns the first contiguous bytes of it; they are empty at the end of
    /// the stream. [`consume`](Self::consume) takes them. No copy. Takes no lock if there is input
    /// that was taken from the poller before.
    ///
    /// This and the other `poll_*` functions are for adapters and for futures that are written by
    /// hand. Other code uses the [`Reader`].
    ///
    /// ```no_run
    /// use std::io;
    /// use std::task::{Context, Poll, ready};
    ///
    /// /// Counts the bytes of a stream.
    /// fn poll_count(
    ///     conn: &mut netpoll::Connection,
    ///     context: &mut Context<'_>,
    ///     count: &mut usize,
    /// ) -> Poll<io::Result<()>> {
    ///     loop {
    ///         let bytes = ready!(conn.poll_fill_buf(context))?.len();
    ///         if bytes == 0 {
    ///             return Poll::Ready(Ok(()));
    ///         }
    ///         *count += bytes;
    ///         conn.consume(bytes)?;
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`](crate::error::ErrorKind::TimedOut) after
    /// [`Timeouts::read`](crate::options::Timeouts::read), counted from the first of the polls that
    /// returned `Pending`; the next poll begins anew. The kernel's error, with its errno. Another
    /// end is `ConnectionAborted` with the reason, except the ends of the stream: the peer's FIN,
    /// an idle or aged connection, a shutdown of the loop.
    ///
    /// # Cancel safety
    ///
    /// No input is lost. A caller that does not poll again leaves its wait registered: the next
    /// call on the reader, of any kind, replaces it.
    fn poll_fill_buf(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>>
        = |reader| reader.poll_first_piece(context);

    /// Polls for input, and returns all that is there; `None` at the end of the stream. No copy.
    ///
    /// # Errors
    ///
    /// As [`poll_fill_buf`](Self::poll_fill_buf).
    ///
    /// # Cancel safety
    ///
    /// As [`poll_fill_buf`](Self::poll_fill_buf).
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<LinkBuffer>>>
        = |reader| reader.poll_take_all(context);

    /// Polls until `n` bytes are there. Consumes nothing. A large `n` is received into one piece of
    /// memory.
    ///
    /// # Errors
    ///
    /// As [`Reader::wait`](crate::Reader::wait): also
    /// [`ErrorKind::UnexpectedEof`](crate::error::ErrorKind::UnexpectedEof) if the stream ends
    /// before, and the reason of any other end.
    ///
    /// # Cancel safety
    ///
    /// As [`poll_fill_buf`](Self::poll_fill_buf).
    fn poll_wait(&mut self, context: &mut Context<'_>, n: usize) -> Poll<io::Result<()>>
        = |reader| reader.poll_bytes(context, n);

    /// Polls for input, consumes as much as `target` holds, and returns how many bytes that were; 0
    /// at the end of the stream, or for an empty `target` at once. One copy. Within a bulk transfer
    /// a handler on its connection's poller receives 16 KiB and more straight into `target`.
    ///
    /// # Errors
    ///
    /// As [`poll_fill_buf`](Self::poll_fill_buf).
    ///
    /// # Cancel safety
    ///
    /// As [`poll_fill_buf`](Self::poll_fill_buf).
    fn poll_read(&mut self, context: &mut Context<'_>, target: &mut [u8])
        -> Poll<io::Result<usize>>
        = |reader| reader.poll_copy(context, target);
}

impl Connection {
    /// Consumes the next `n` bytes, which a `poll_*` function has shown or waited for. Does not
    /// wait. No copy.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`](crate::error::NotEnoughData) if the connection holds fewer. Nothing is
    /// consumed then.
    pub fn consume(&mut self, n: usize) -> io::Result<()> {
        self.reader().consume(n)
    }
}

impl<'a> Reader<'a> {
    /// See `poll_wait`.
    fn poll_bytes(mut self, context: &mut Context<'_>, n: usize) -> Poll<io::Result<()>> {
        if !self.state.may_proceed() {
            return self.yield_now(context);
        }
        if self.state.has_contiguous(n) {
            return Poll::Ready(Ok(()));
        }
        self.poll_registered(context, n)
    }

    /// Polls for a byte; returns `false` at the end of the stream.
    fn poll_any(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        Poll::Ready(match ready!(self.reborrow().poll_bytes(context, 1)) {
            Ok(()) => Ok(true),
            Err(error) => end_of_stream(error).map(|()| false),
        })
    }

    /// See `poll_fill_buf`.
    fn poll_first_piece(mut self, context: &mut Context<'_>) -> Poll<io::Result<&'a [u8]>> {
        let any = ready!(self.poll_any(context))?;
        Poll::Ready(Ok(if any { self.state.first_piece() } else { &[] }))
    }

    /// See `poll_chunk`.
    fn poll_take_all(mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<LinkBuffer>>> {
        if !ready!(self.poll_any(context))? {
            return Poll::Ready(Ok(None));
        }
        self.take_input_buffer();
        let all = self.state.buffer.len();
        Poll::Ready(self.state.buffer.split_to(all).map(Some))
    }

    /// See `poll_read`.
    fn poll_copy(
        mut self,
        context: &mut Context<'_>,
        target: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(count) = self.receive_directly(target) {
            return Poll::Ready(Ok(count));
        }
        if target.is_empty() || !ready!(self.poll_any(context))? {
            return Poll::Ready(Ok(0));
        }
        let count = target.len().min(self.state.buffer.len());
        let read = self.state.buffer.read_exact(&mut target[..count]);
        Poll::Ready(read.map(|()| count))
    }
}
