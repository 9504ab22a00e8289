// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading for a source whose descriptor is ready.
//!
//! One read is enough if it returned fewer bytes than the buffer holds: the socket is empty then,
//! and a second read would only return `EAGAIN`. The exception is an event that reports something
//! behind the bytes (a FIN, an error, urgent data). A read that filled the buffer may have left
//! bytes. In one iteration of the poller a source gets at most [`MAX_READS_PER_ITERATION`] reads and
//! [`MAX_BYTES_PER_ITERATION`] bytes, so that one busy peer does not starve the others. Readiness
//! brings the poller back.
//!
//! As long as each event of a source is read to its end, the driver registers it edge-triggered,
//! which saves the kernel a second look at the socket. The first time bytes may have been left
//! behind, the source becomes level-triggered for the rest of its life: a peer that has sent so
//! much once is likely to do it again, and level-triggered readiness cannot lose a wake-up.
//!
//! A source that took bytes and then has no buffer is not called with `on_ready`: the poller does
//! not know whether more bytes are there. If they are, the next event reads them, or calls
//! `on_ready` if the source still has no buffer.

use std::io;

use netpoll_sys::Readiness;

use super::Poller;
use super::registry::RunningSource;
use super::source::{EndOfInput, NextAction, Received, RecvBuffer, Source};

/// The most reads for one source in one iteration of the poller.
const MAX_READS_PER_ITERATION: usize = 16;

/// The most bytes read for one source in one iteration of the poller.
const MAX_BYTES_PER_ITERATION: usize = 256 << 10;

/// The result of one read.
enum ReadResult {
    /// Bytes, and the size of the buffer they were read into.
    Bytes {
        received: Received,
        count: usize,
        capacity: usize,
    },
    /// The end of the stream.
    Fin,
    /// The source takes no bytes.
    NoBuffer,
}

impl Poller {
    /// Reads into the buffers of the source, and passes it what was received.
    pub(super) fn read_for(&mut self, run: &mut RunningSource, readiness: Readiness) -> NextAction {
        let source = run.source.as_mut();
        let (mut reads, mut bytes) = (0, 0);
        let mut wanted = None;
        loop {
            let next = match self.read_once(source) {
                Ok(ReadResult::Bytes {
                    received,
                    count,
                    capacity: buffer,
                }) => {
                    bytes += count;
                    reads += 1;
                    let next = source.on_received(received, &mut self.context);
                    if count < buffer && !readiness.needs_read_until_would_block() {
                        return next;
                    }
                    next
                }
                Ok(ReadResult::Fin) => {
                    return source.on_input_end(EndOfInput::Fin, &mut self.context);
                }
                Ok(ReadResult::NoBuffer) => {
                    run.watch.disable_edge();
                    return match wanted {
                        Some(interest) => NextAction::Wait(interest),
                        None => source.on_ready(readiness, &mut self.context),
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return source.on_ready(Readiness::NONE, &mut self.context);
                }
                Err(error) => {
                    return source.on_input_end(EndOfInput::Error(error), &mut self.context);
                }
            };
            match next {
                NextAction::Wait(interest)
                    if interest.is_readable()
                        && reads < MAX_READS_PER_ITERATION
                        && bytes < MAX_BYTES_PER_ITERATION =>
                {
                    wanted = Some(interest);
                }
                next => {
                    run.watch.disable_edge();
                    return next;
                }
            }
        }
    }

    #[inline]
    fn read_once(&mut self, source: &mut dyn Source) -> io::Result<ReadResult> {
        let driver = &self.driver;
        let counters = &self.mailbox.counters().poller;
        let buffer = source.recv_buffer(&mut self.context);
        let Some(fd) = source.fd() else {
            return Ok(ReadResult::NoBuffer);
        };
        let (received, count, buffer) = match buffer {
            RecvBuffer::Unavailable => return Ok(ReadResult::NoBuffer),
            RecvBuffer::Shared => {
                counters.reads.add(1);
                let (window, buffer) = self
                    .read_block
                    .fill_with(|buffer| driver.receive(fd, buffer))?;
                let count = window.len();
                (Received::Shared(window), count, buffer)
            }
            RecvBuffer::Owned(mut tail) => {
                counters.reads.add(1);
                let buffer = tail.spare_capacity();
                let received = driver.receive_into_tail(fd, &mut tail, buffer);
                let count = *received.as_ref().unwrap_or(&0);
                if count == 0 {
                    // The source gets its buffer back whatever the result is.
                    source.on_received(Received::Owned(tail, 0), &mut self.context);
                    return received.map(|_| ReadResult::Fin);
                }
                (Received::Owned(tail, count), count, buffer)
            }
        };
        if count == 0 {
            Ok(ReadResult::Fin)
        } else {
            counters.received.add(count as u64);
            self.context.record_progress();
            Ok(ReadResult::Bytes {
                received,
                count,
                capacity: buffer,
            })
        }
    }
}

#[cfg(test)]
mod tests;
