// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`BufStream`]: the reading and writing of a [`LinkBuffer`] over a stream of somebody else's.
//!
//! ```text
//!   S: Read  ──▶ input chain  ──▶ StreamReader     reads when bytes are missing
//!   S: Write ◀── output chain ◀── &mut LinkBuffer  written by flush
//! ```
//!
//! A file, a pipe, a blocking socket or a layer of encryption is not polled: it is asked, and the
//! caller waits for the answer. So the reader here is that of a connection with blocking in place
//! of awaiting, and the writing side is a plain [`LinkBuffer`]: putting touches no stream.
//!
//! What is read lands in a block behind what is there already, so that a frame lies in one piece.
//! Nothing is believed of a foreign stream but the bytes it gives: a length that a peer sent costs
//! 4 KiB until more has come, a count that is larger than what was offered is refused.
//!
//! This module decides when to read and write. It never retries what failed, beyond a call that a
//! signal interrupted, and it never writes on its own: not when a reader waits, and not on drop.

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
/// process, a TLS session, whatever is [`Read`], [`Write`] or both.
///
/// It reads ahead as much as one block holds, and writes only in [`flush`](Self::flush). **Dropping
/// it writes nothing**: what was put and not flushed is lost, as is what was read ahead. To keep
/// both, take it apart with [`into_parts`](Self::into_parts).
///
/// No memory is held before the first byte; what is read is let go by the next read.
///
/// It blocks the thread that calls it wherever `S` does, so it has no place on a poller's thread.
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
/// // Sends one frame back: a length, and so many bytes.
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
    /// Both surfaces over `stream`, with nothing read and nothing put. No allocation, no call on
    /// `stream`. One read may ask for at most 4 MiB.
    #[must_use]
    pub const fn new(stream: S) -> Self {
        Self {
            stream,
            input: StreamInput::new(),
            output: LinkBuffer::new(),
        }
    }

    /// The same with another bound on what one read may ask for.
    #[must_use]
    pub fn with_max_frame(mut self, max_frame: usize) -> Self {
        self.input.max_frame = max_frame;
        self
    }

    /// The writing side. What is put and committed waits for [`flush`](Self::flush).
    pub fn writer(&mut self) -> &mut LinkBuffer {
        &mut self.output
    }

    /// The stream below.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream below. What is read from it here is missing from the input, and what is written
    /// to it overtakes what was put and not flushed.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The stream, what was read of it and not consumed, and what was put and not written: first
    /// what is committed, behind it what is not. No copy, no call on the stream.
    #[must_use]
    pub fn into_parts(self) -> (S, LinkBuffer, LinkBuffer) {
        (self.stream, self.input.buffer, self.output)
    }
}

impl<S: Read> BufStream<S> {
    /// Both directions at once: while the reader lends what it has read, output can be put.
    #[inline]
    pub fn split(&mut self) -> (StreamReader<'_, S>, &mut LinkBuffer) {
        let reader = StreamReader::new(&mut self.stream, &mut self.input);
        (reader, &mut self.output)
    }

    /// The reading side.
    #[inline]
    pub fn reader(&mut self) -> StreamReader<'_, S> {
        StreamReader::new(&mut self.stream, &mut self.input)
    }
}

impl<S: Write> BufStream<S> {
    /// Writes what was put, and then flushes the stream below. One `write_vectored` for each 64
    /// segments, if the stream takes all it is given; no copy, except that a small rest which is
    /// not taken moves into memory of its own size. What is uncommitted stays so.
    ///
    /// # Errors
    ///
    /// What the stream fails with, `WouldBlock` too; only [`io::ErrorKind::Interrupted`] is tried
    /// again. [`io::ErrorKind::WriteZero`] if it takes nothing, and [`WriteOverrun`] if it claims to
    /// have taken more than it was given, of which then nothing counts as taken. What was taken by
    /// the calls before is consumed; the rest stays, and the next flush goes on with it.
    pub fn flush(&mut self) -> io::Result<()> {
        let drained = self.drain();
        if drained.is_ok() {
            self.output.release();
        } else {
            // What stays, stays in memory of its own size if it is small.
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

    /// Offers the stream what can be written, which is something, and says how much it took.
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

/// Calls until it is not a signal that ends the call.
fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
