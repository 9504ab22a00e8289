// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`BlockingStream`]: a connection as a stream of the standard library's.
//!
//! Each call is the one of the `Reader` or the `Writer`, waited for by parking the thread. The
//! connection's poller goes on reading and sending meanwhile, so the thread must not be a poller's.

use std::io::{self, BufRead, Read, Write};

use bytes::Buf;

use super::Connection;
use super::reader::is_unexpected_eof;
use crate::block_on::block_on;
use crate::error::BlockingOnPoller;
use crate::poll::notifier;

/// A connection as a blocking stream: [`Read`], [`BufRead`] and [`Write`]. Made by
/// [`Connection::blocking`].
///
/// Each call may park the thread. The [`Timeouts`](crate::Timeouts) of the connection hold: a read
/// that waited for too long fails with [`TimedOut`](crate::TimedOut), and the next may succeed.
///
/// # Errors
///
/// On a poller's thread each call fails with [`BlockingOnPoller`] (`WouldBlock`) and does nothing. Else
/// those of the [`Reader`](crate::Reader) and the [`Writer`](crate::Writer).
#[derive(Debug)]
pub struct BlockingStream<'a> {
    connection: &'a mut Connection,
}

impl Connection {
    /// The connection as a blocking stream, for code that knows `std::io`, on a thread that is not
    /// a poller's. No allocation, and nothing is lost by dropping it.
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
    /// Whatever is there, at least a byte; 0 at the end of the peer's stream. Sends what was
    /// written before it waits. One copy.
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
    /// The first segment of what is there. No copy.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.available()?;
        Ok(self.connection.local.reader.buffer.chunk())
    }

    fn consume(&mut self, count: usize) {
        let chain = &mut self.connection.local.reader.buffer;
        // More than was shown is against the rules of the trait, and cannot be there.
        let _skipped = chain.skip(count.min(chain.len())).ok();
    }
}

impl Write for BlockingStream<'_> {
    /// Copies `bytes`, of which at most [`write_high`](crate::ConnOptions::write_high) at a time,
    /// and waits if so much is unsent. They leave with the next [`flush`](Self::flush), with a read
    /// that waits, or when there are more.
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

    /// As [`Writer::flush`](crate::Writer::flush).
    fn flush(&mut self) -> io::Result<()> {
        reject_on_poller()?;
        block_on(self.connection.writer().flush())
    }
}

impl BlockingStream<'_> {
    /// Waits for a byte, and says how many there are; 0 at the end of the stream.
    fn available(&mut self) -> io::Result<usize> {
        reject_on_poller()?;
        let waited = block_on(self.connection.reader().wait(1));
        match waited {
            Err(error) if !is_unexpected_eof(&error) => Err(error),
            _ => Ok(self.connection.local.reader.buffer.len()),
        }
    }
}

/// A poller that waits for itself waits for ever, and all its connections with it.
pub(crate) fn reject_on_poller() -> io::Result<()> {
    if notifier::is_poller_thread() {
        Err(BlockingOnPoller::new().into())
    } else {
        Ok(())
    }
}
