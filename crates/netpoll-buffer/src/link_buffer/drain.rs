// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends from a [`LinkBuffer`] to the kernel.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use bytes::Buf;
use netpoll_sys::transfer;

use super::LinkBuffer;

impl LinkBuffer {
    /// Returns the readable bytes as slices for a vectored write, in order; none is empty. No copy.
    /// To fill an array of them, see [`Buf::chunks_vectored`].
    pub fn io_slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        self.segments()
            .map(|segment| IoSlice::new(segment.as_slice()))
    }

    /// Sends the readable bytes to a socket until none are left or the socket takes no more.
    /// Consumes the sent bytes and returns their number. One `send(2)`, or one `sendmsg(2)` for
    /// each 64 segments; no copy.
    ///
    /// # Errors
    ///
    /// `WouldBlock` only if no byte was sent. Otherwise the error that ended the connection; bytes
    /// sent before it are consumed. `WriteZero` if the kernel took nothing and reported no error.
    pub fn drain_to(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let only = match &self.front {
            Some(front) if self.rest.is_unallocated() && !front.is_empty() => front,
            _ => return self.drain_segments_to(fd),
        };
        // The common case: one segment that is sent as a whole.
        let sent = transfer::send(fd, only.as_slice())?;
        if sent == only.len() {
            self.front = None;
            return Ok(sent);
        }
        self.drain_remaining(sent, fd)
    }

    /// The part of [`drain_to`](Self::drain_to) after a short send.
    #[cold]
    fn drain_remaining(&mut self, sent: usize, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.consume_sent(sent)?;
        match self.drain_segments_to(fd) {
            Ok(more) => Ok(sent + more),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(sent),
            Err(error) => Err(error),
        }
    }

    /// The part of [`drain_to`](Self::drain_to) for several segments.
    #[inline(never)]
    fn drain_segments_to(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let before = self.len();
        while !self.is_empty() {
            self.drop_empty_front();
            let sent = match &self.front {
                Some(only) if self.rest.is_empty() => transfer::send(fd, only.as_slice()),
                _ => self.send_segments(fd),
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

    fn send_segments(&self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); transfer::MAX_SLICES];
        let count = self.chunks_vectored(&mut slices);
        transfer::send_vectored(fd, &slices[..count])
    }

    fn consume_sent(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let consumed = self.skip(count.min(self.len()));
        debug_assert!(
            consumed.is_ok(),
            "the kernel takes at most what it was given"
        );
        // Sent memory is freed here, and not by the owner of the rest.
        self.drop_empty_front();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll_sys::socket;
    use std::io::Read;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    fn pair() -> (OwnedFd, UnixStream) {
        let (ours, theirs) = socket::pair().expect("a pair of sockets");
        (ours, UnixStream::from(theirs))
    }

    /// Drains a buffer of `abcdef`, in one segment or in three, of which the first two bytes were
    /// sent.
    fn after_two(each: usize, fd: BorrowedFd<'_>) -> (io::Result<usize>, Vec<u8>) {
        let mut buffer = LinkBuffer::new();
        for piece in b"abcdef".chunks(each) {
            buffer.push(bytes::Bytes::from_static(piece));
        }
        let result = buffer.drain_remaining(2, fd);
        let left = buffer.read_vec(buffer.len()).expect("the unsent bytes");
        (result, left)
    }

    #[test]
    fn bytes_sent_after_a_short_send_are_counted() {
        for each in [2, 6] {
            let (ours, mut theirs) = pair();
            let (sent, left) = after_two(each, ours.as_fd());
            assert_eq!((sent.unwrap(), left), (6, Vec::new()));
            let mut received = [0; 5];
            assert_eq!(theirs.read(&mut received).unwrap(), 4);
            assert_eq!(received[..4], *b"cdef");
        }
    }

    #[test]
    fn a_full_socket_after_a_short_send_reports_that_send() {
        for each in [2, 6] {
            let (ours, _theirs) = pair();
            let mut much = LinkBuffer::from(vec![0; 8 << 20]);
            much.drain_to(ours.as_fd()).unwrap();
            assert!(!much.is_empty(), "the socket is full");
            let (sent, left) = after_two(each, ours.as_fd());
            assert_eq!((sent.unwrap(), left), (2, b"cdef".to_vec()));
        }
    }

    #[test]
    fn an_error_after_a_short_send_is_returned_and_the_sent_bytes_are_consumed() {
        for each in [2, 6] {
            let (ours, theirs) = pair();
            drop(theirs);
            let (sent, left) = after_two(each, ours.as_fd());
            assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(left, b"cdef");
        }
    }

    #[test]
    fn a_send_of_zero_bytes_is_an_error() {
        let (ours, _theirs) = pair();
        let mut buffer = LinkBuffer::from(b"abc".to_vec());
        let error = buffer.drain_remaining(0, ours.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        assert_eq!(buffer.len(), 3);
    }
}
