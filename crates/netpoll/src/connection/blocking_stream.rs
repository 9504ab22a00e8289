// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`BlockingStream`]: a connection as a stream of the standard library.
//!
//! Each call runs a call of the `Reader` or the `Writer` and parks the thread until it completes.
//! The connection's poller reads and sends meanwhile, so the thread must not be a poller's.

use std::io::{self, BufRead, Read, Write};

use bytes::Buf;

use super::Connection;
use super::reader::is_unexpected_eof;
use crate::block_on::block_on;
use crate::error::ErrorKind;
use crate::poll::notifier;

/// A connection as a blocking stream: [`Read`], [`BufRead`] and [`Write`]. Returned by
/// [`Connection::blocking`].
///
/// Each call may park the thread. The [`Timeouts`](crate::options::Timeouts) of the connection
/// apply: a read that waits too long fails with
/// [`ErrorKind::TimedOut`], and the next read may succeed.
///
/// # Errors
///
/// On a poller's thread each call fails with
/// [`ErrorKind::BlockingOnPoller`] (`WouldBlock`) and
/// has no effect. Otherwise calls fail with the errors of the [`Reader`](crate::Reader) and the
/// [`Writer`](crate::Writer).
#[derive(Debug)]
pub struct BlockingStream<'a> {
    connection: &'a mut Connection,
}

impl Connection {
    /// Returns the connection as a blocking stream, for code that uses `std::io` on a thread that
    /// is not a poller's. No allocation. Dropping the stream loses nothing.
    ///
    /// ```no_run
    /// use std::io::{BufRead, Write};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut conn = netpoll::Dialer::new().dial_blocking("127.0.0.1:8080")?;
    /// let mut stream = conn.blocking();
    /// writeln!(stream, "hello")?;
    /// let mut answer = String::new();
    /// stream.read_line(&mut answer)?;
    /// # Ok(()) }
    /// ```
    pub fn blocking(&mut self) -> BlockingStream<'_> {
        BlockingStream { connection: self }
    }
}

impl Read for BlockingStream<'_> {
    /// Reads the bytes that are available, at least one; returns 0 at the end of the peer's stream.
    /// Sends written bytes before it waits. One copy.
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if target.is_empty() {
            return reject_on_poller().map(|()| 0);
        }
        let available = self.available()?;
        let count = target.len().min(available);
        self.connection
            .local
            .reader
            .buffer
            .read_exact(&mut target[..count])?;
        Ok(count)
    }
}

impl BufRead for BlockingStream<'_> {
    /// Returns the first segment of the available bytes. No copy.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.available()?;
        Ok(self.connection.local.reader.buffer.chunk())
    }

    fn consume(&mut self, count: usize) {
        let buffer = &mut self.connection.local.reader.buffer;
        // The trait forbids a `count` beyond the returned segment, and the buffer bounds it.
        let _skipped = buffer.skip(count.min(buffer.len())).ok();
    }
}

impl Write for BlockingStream<'_> {
    /// Copies up to [`write_high`](crate::options::ConnOptions::write_high) of `bytes`, and waits
    /// if that much output is unsent. The bytes are sent by the next [`flush`](Self::flush), by a
    /// read that waits, or when more are written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        reject_on_poller()?;
        let high = self.connection.shared.options.write_high;
        let count = bytes.len().min(high);
        self.connection.shared.try_put(&bytes[..count])?;
        if self.connection.writer().unsent() >= high {
            self.flush()?;
        }
        Ok(count)
    }

    /// Sends all output, as [`Writer::flush`](crate::Writer::flush) does.
    fn flush(&mut self) -> io::Result<()> {
        reject_on_poller()?;
        block_on(self.connection.writer().flush())
    }
}

impl BlockingStream<'_> {
    /// Waits for a byte, and returns how many are available; 0 at the end of the stream.
    fn available(&mut self) -> io::Result<usize> {
        reject_on_poller()?;
        let waited = block_on(self.connection.reader().wait(1));
        match waited {
            Err(error) if !is_unexpected_eof(&error) => Err(error),
            _ => Ok(self.connection.local.reader.buffer.len()),
        }
    }
}

/// Fails on a poller's thread. A poller that waits for its own progress would block for ever, with
/// all its connections.
pub(crate) fn reject_on_poller() -> io::Result<()> {
    if notifier::is_poller_thread() {
        Err(ErrorKind::BlockingOnPoller.into())
    } else {
        Ok(())
    }
}
