// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Framed`]: a connection as a stream of frames, and a sink for them.
//!
//! A [`FrameWait`] borrows from its connection. So between two polls of the stream its state is in
//! a [`FrameProgress`], while its waker stays in the input buffer.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::Connection;
use super::frames::{FrameProgress, FrameWait};
use super::reader::Reader;
use crate::codec::Codec;
use crate::error::{ErrorExt, ErrorKind};

/// A connection whose input and output are frames of a [`Codec`]. Made by
/// [`Connection::framed`].
///
/// It is a [`Stream`] of the received frames, which also has [`next`](Self::next) without a trait.
/// [`send`](Self::send) and [`feed`](Self::feed) put frames. For two tasks that work at once,
/// [split](Connection::into_split) the connection instead, and use
/// [`OwnedReader::frame`](crate::connection::OwnedReader::frame) and
/// [`OwnedWriter::frame`](crate::connection::OwnedWriter::frame).
///
/// ```no_run
/// use netpoll::codec::LengthField;
/// use netpoll::{Connection, EventLoop};
///
/// fn main() -> std::io::Result<()> {
///     EventLoop::builder()
///         .on_connection(async |conn: Connection| {
///             let mut frames = conn.framed(LengthField::new());
///             while let Some(frame) = frames.next().await {
///                 frames.send(frame?).await?;
///             }
///             Ok(())
///         })
///         .serve("127.0.0.1:8080")
/// }
/// ```
///
/// The stream ends with `None` when the peer has ended its output between two frames. An error is
/// one item, and the stream ends behind it, with two exceptions: it goes on after
/// [`ErrorKind::TimedOut`], and behind a frame that did not
/// [decode](Codec::decode). Frames are at most `max_frame` bytes long, as with [`Reader::frame`],
/// which has the same errors.
pub struct Framed<C> {
    connection: Connection,
    codec: C,
    progress: FrameProgress,
    stage: StreamStage,
}

/// Whether a stream of frames has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamStage {
    Open,
    Ended,
}

impl Connection {
    /// Makes the connection a stream of frames of `codec`, and a sink for them. Bytes that were
    /// received and not consumed are its first. No allocation.
    ///
    /// ```no_run
    /// use netpoll::buffer::LinkBuffer;
    /// use netpoll::codec::Delimiter;
    ///
    /// # async fn example(conn: netpoll::Connection) -> std::io::Result<()> {
    /// let mut lines = conn.framed(Delimiter::new(b"\n"));
    /// lines.send(LinkBuffer::from(b"hello".to_vec())).await?;
    /// if let Some(answer) = lines.next().await {
    ///     println!("{} bytes", answer?.len());
    /// }
    /// let conn = lines.into_inner();
    /// conn.close();
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn framed<C: Codec>(self, codec: C) -> Framed<C> {
        Framed {
            connection: self,
            codec,
            progress: FrameProgress::default(),
            stage: StreamStage::Open,
        }
    }
}

impl<C: Codec> Framed<C> {
    /// Reads and consumes the next frame; `None` at the end of the [stream](Self). Copies none of
    /// its bytes.
    ///
    /// # Errors
    ///
    /// As [`Reader::frame`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost, and nothing stays registered.
    pub async fn next(&mut self) -> Option<io::Result<C::Frame>> {
        let awaited = AwaitedFrame(self);
        poll_fn(|context| awaited.0.poll_frame(context)).await
    }

    /// Puts `frame` and sends it: returns when the kernel has the last byte of all output.
    ///
    /// # Errors
    ///
    /// The codec's error, and then nothing was put; else as
    /// [`Writer::flush`](crate::Writer::flush).
    ///
    /// # Cancel safety
    ///
    /// The first poll puts the whole frame, which is sent even if the future is dropped then.
    pub async fn send(&mut self, frame: C::Frame) -> io::Result<()> {
        let mut writer = self.connection.writer();
        writer.frame(&self.codec, frame)?;
        writer.flush().await
    }

    /// Puts `frame` without waiting until it is sent. Waits first, if
    /// [`write_high`](crate::options::ConnOptions::write_high) bytes are unsent, until few are. A
    /// [`flush`](Self::flush) follows the last one; a stream that waits for input sends, too.
    ///
    /// # Errors
    ///
    /// The codec's error, and then nothing was put; else as
    /// [`Writer::writable`](crate::Writer::writable).
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped while it waits drops `frame`, and has put no part of it.
    pub async fn feed(&mut self, frame: C::Frame) -> io::Result<()> {
        let mut writer = self.connection.writer();
        writer.writable().await?;
        writer.frame(&self.codec, frame)
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<C::Frame>>> {
        if self.stage == StreamStage::Ended {
            return Poll::Ready(None);
        }
        let Connection { shared, local } = &mut self.connection;
        let input = &mut local.reader;
        let start = input.consumed();
        let mut wait = FrameWait::resume(std::mem::take(&mut self.progress), shared);
        let polled = Reader::new(shared, input).poll_frame(&self.codec, &mut wait, context);
        match polled {
            Poll::Pending => self.progress = wait.suspend(),
            Poll::Ready(_) => drop(wait),
        }
        let item = ready!(polled).transpose();
        // An error that has consumed nothing comes again, unless more input may arrive.
        let goes_on = match &item {
            Some(Ok(_)) => true,
            Some(Err(error)) => is_timeout(error) || input.consumed() != start,
            None => false,
        };
        if !goes_on {
            self.stage = StreamStage::Ended;
        }
        Poll::Ready(item)
    }
}

impl<C> Framed<C> {
    /// Sends all output, and returns when the kernel has the last byte of it.
    ///
    /// # Errors
    ///
    /// As [`Writer::flush`](crate::Writer::flush).
    ///
    /// # Cancel safety
    ///
    /// Output is sent all the same.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.connection.writer().flush().await
    }

    /// Returns the codec.
    #[must_use]
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// Returns the connection.
    #[must_use]
    pub fn get_ref(&self) -> &Connection {
        &self.connection
    }

    /// Returns the connection, to read or write beside the frames. The next frame begins behind
    /// the bytes that are consumed, and behind output that is put.
    pub fn get_mut(&mut self) -> &mut Connection {
        self.end_wait();
        self.progress = FrameProgress::default();
        &mut self.connection
    }

    /// Returns the connection. Input behind the last frame, and output that is not sent, stay with
    /// it.
    #[must_use]
    pub fn into_inner(mut self) -> Connection {
        self.end_wait();
        self.connection
    }

    /// Deregisters the wait of the last poll.
    fn end_wait(&mut self) {
        self.progress.end_wait(&self.connection.shared);
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.netpoll_kind(), Some(ErrorKind::TimedOut { .. }))
}

impl<C> Unpin for Framed<C> {}

impl<C: Codec> Stream for Framed<C> {
    type Item = io::Result<C::Frame>;

    /// Polls the next frame. The wait goes on between two polls, and so does its
    /// [read timeout](crate::options::Timeouts::read).
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_frame(context)
    }
}

impl<C> fmt::Debug for Framed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framed")
            .field("connection", &self.connection)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// A call of [`Framed::next`]. Its drop ends the wait.
struct AwaitedFrame<'a, C>(&'a mut Framed<C>);

impl<C> Drop for AwaitedFrame<'_, C> {
    fn drop(&mut self) {
        self.0.end_wait();
    }
}
