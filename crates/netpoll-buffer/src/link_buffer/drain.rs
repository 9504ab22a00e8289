// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a [`LinkBuffer`] to the kernel.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use bytes::Buf;
use netpoll_sys::transfer;

use super::LinkBuffer;

impl LinkBuffer {
    /// What can be read as slices for a vectored write, in order; none is empty. No copy. To fill
    /// an array of them, see [`Buf::chunks_vectored`].
    pub fn io_slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        self.segments()
            .map(|segment| IoSlice::new(segment.as_slice()))
    }

    /// Sends what can be read to a socket until there is nothing left or the socket takes no more,
    /// consumes what was sent, and says how much that was. One `send(2)`, or one `sendmsg(2)` for
    /// each 64 segments; no copy.
    ///
    /// # Errors
    ///
    /// `WouldBlock` only if nothing was sent; otherwise what ended the connection, and what was
    /// sent before is consumed. `WriteZero` if the kernel took nothing and gave no reason.
    pub fn drain_to(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let only = match &self.front {
            Some(front) if self.rest.has_no_queue() && !front.is_empty() => front,
            _ => return self.drain_pieces(fd),
        };
        // One segment that leaves as a whole, which nearly every answer is.
        let sent = transfer::send(fd, only.as_slice())?;
        if sent == only.len() {
            self.front = None;
            return Ok(sent);
        }
        self.drain_after(sent, fd)
    }

    /// What [`drain_to`](Self::drain_to) does after a send that was short.
    #[cold]
    fn drain_after(&mut self, sent: usize, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.consume_sent(sent)?;
        match self.drain_pieces(fd) {
            Ok(more) => Ok(sent + more),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(sent),
            Err(error) => Err(error),
        }
    }

    /// What [`drain_to`](Self::drain_to) does where there may be several segments.
    #[inline(never)]
    fn drain_pieces(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let before = self.len();
        while !self.is_empty() {
            self.settle();
            let sent = match &self.front {
                Some(only) if self.rest.is_empty() => transfer::send(fd, only.as_slice()),
                _ => self.send_chain(fd),
            };
            match sent {
                Ok(count) => self.consume_sent(count)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.len() < before => {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(before - self.len())
    }

    fn send_chain(&self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); transfer::MAX_SLICES];
        let count = self.chunks_vectored(&mut slices);
        transfer::send_vectored(fd, &slices[..count])
    }

    fn consume_sent(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let consumed = self.skip(count.min(self.len()));
        debug_assert!(consumed.is_ok(), "the kernel took what it was given");
        if self.is_empty() {
            self.settle();
        }
        Ok(())
    }
}
