// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`BufStream`]: buffered reads and writes over a foreign stream.
//!
//! ```text
//!   S: Read  ──▶ input buffer  ──▶ StreamReader     reads when bytes are missing
//!   S: Write ◀── output buffer ◀── &mut LinkBuffer  written by flush
//! ```
//!
//! A file, a pipe, a blocking socket or a TLS layer is not polled: the call blocks until the stream
//! returns. So the reader here is that of a connection with blocking in place of awaiting, and the
//! writing side is a plain [`LinkBuffer`]: puts do not touch the stream.
//!
//! Received bytes are stored behind the previous ones in the same block, so that a frame is
//! contiguous. The input of a foreign stream is not trusted: a length that a peer sent costs 4 KiB
//! until more bytes have arrived, and a count larger than the offered memory is rejected.
//!
//! This module decides when to read and write. It retries calls that a signal interrupted, and no
//! other failure. It writes only in `flush`: not when a reader waits, and not on drop.

mod input;
mod io_traits;
pub(crate) mod reader;

use std::io::{self, IoSlice, Read, Write};

use bytes::Buf;
use netpoll_sys::transfer::MAX_SLICES;

use crate::error::WriteOverrun;
use crate::link_buffer::LinkBuffer;

use input::StreamInput;
use reader::StreamReader;

/// A foreign blocking stream with an input and an output [`LinkBuffer`]: for a file, a pipe, a
/// process, a TLS session, or any other type that is [`Read`], [`Write`] or both.
///
/// It reads ahead as much as one block holds, and writes only in [`flush`](Self::flush). **Dropping
/// it writes nothing**: bytes that were put and not flushed are lost, as are bytes that were read
/// ahead. To keep both, take it apart with [`into_parts`](Self::into_parts).
///
/// It owns no memory before the first byte. The next read frees the memory of what was read.
///
/// It blocks the calling thread wherever `S` does, so do not use it on a poller's thread.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
///
/// use netpoll_buffer::BufStream;
///
/// # fn main() -> std::io::Result<()> {
/// let (mut peer, stream) = UnixStream::pair()?;
/// peer.write_all(b"\0\0\0\x05hello")?;
///
/// // Echoes one frame: a length, and that many bytes.
/// let mut stream = BufStream::new(stream);
/// let (mut reader, out) = stream.split();
/// let length = reader.read_u32()?;
/// let body = reader.next(length as usize)?;
/// out.put_u32(length);
/// out.put_slice(body);
/// stream.flush()?;
///
/// let mut peer = BufStream::new(peer);
/// assert_eq!(peer.reader().next(9)?, b"\0\0\0\x05hello");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct BufStream<S> {
    stream: S,
    input: StreamInput,
    output: LinkBuffer,
}

impl<S> BufStream<S> {
    /// Creates a buffered stream over `stream`, with empty buffers. No allocation, no call on
    /// `stream`. One read may request at most 4 MiB.
    #[must_use]
    pub const fn new(stream: S) -> Self {
        Self {
            stream,
            input: StreamInput::new(),
            output: LinkBuffer::new(),
        }
    }

    /// Sets the most bytes that one read may request. Default: 4 MiB.
    #[must_use]
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.input.max_frame = bytes;
        self
    }

    /// Returns the output buffer. Committed bytes wait for [`flush`](Self::flush).
    pub fn writer(&mut self) -> &mut LinkBuffer {
        &mut self.output
    }

    /// Returns the underlying stream.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Returns the underlying stream. Bytes that are read from it directly are missing from the
    /// input, and bytes that are written to it directly overtake those that were put and not
    /// flushed.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Returns the stream, the unconsumed input, and the unwritten output: its committed bytes, and
    /// behind them the uncommitted ones. No copy, no call on the stream.
    #[must_use]
    pub fn into_parts(self) -> (S, LinkBuffer, LinkBuffer) {
        (self.stream, self.input.buffer, self.output)
    }
}

impl<S: Read> BufStream<S> {
    /// Returns both directions at once: output can be put while bytes from the reader are borrowed.
    #[inline]
    pub fn split(&mut self) -> (StreamReader<'_, S>, &mut LinkBuffer) {
        let reader = StreamReader::new(&mut self.stream, &mut self.input);
        (reader, &mut self.output)
    }

    /// Returns the reading side.
    #[inline]
    pub fn reader(&mut self) -> StreamReader<'_, S> {
        StreamReader::new(&mut self.stream, &mut self.input)
    }
}

impl<S: Write> BufStream<S> {
    /// Writes the committed output, and then flushes the underlying stream. One `write_vectored`
    /// for each 64 segments, if the stream takes all it is given. No copy, except that a small rest
    /// which is not taken moves into memory of its own size. Uncommitted bytes stay uncommitted.
    ///
    /// # Errors
    ///
    /// The stream's error, also `WouldBlock`; only [`io::ErrorKind::Interrupted`] is retried.
    /// [`io::ErrorKind::WriteZero`] if it takes nothing. [`WriteOverrun`] if it claims to have
    /// taken more than it was given; then none of that call counts as taken. Bytes that earlier
    /// calls took are consumed. The rest stays, and the next flush continues with it.
    pub fn flush(&mut self) -> io::Result<()> {
        let drained = self.drain();
        if drained.is_ok() {
            self.output.release();
        } else {
            // A small rest moves into memory of its own size.
            self.output.compact();
        }
        drained?;
        retry_interrupted(|| self.stream.flush())
    }

    fn drain(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            let taken = self.write_once()?;
            self.output.skip(taken)?;
        }
        Ok(())
    }

    /// Offers the readable bytes, of which there are some, to the stream; returns how many it took.
    fn write_once(&mut self) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = self.output.chunks_vectored(&mut slices);
        let slices = &slices[..count];
        let given = slices.iter().map(|slice| slice.len()).sum();
        match retry_interrupted(|| self.stream.write_vectored(slices))? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            taken if taken > given => Err(WriteOverrun::new(given, taken).into()),
            taken => Ok(taken),
        }
    }
}

/// Repeats the call while a signal interrupts it.
fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
