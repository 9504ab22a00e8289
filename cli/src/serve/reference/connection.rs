// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection of the reference server: its incomplete frame and its unsent response.
//!
//! A connection is read or written, never both: while a response is unsent, nothing is read.
//! Between two frames, with its responses sent, it holds no buffer.
//!
//! A frame above [`LARGE_FRAME`] is read in place, into a buffer of its size plus one byte. A
//! connection that has received one expects the next to be alike and reads into such a buffer from
//! the first byte. Large frames are thus copied once (into the response) and not twice. If the
//! extra byte is filled, several frames are in flight. It is then better to read past the end of a
//! frame, into the shared buffer.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netpoll_sys::{Interest, transfer};

use super::buffer_pool::BufferPool;
use super::frames::{self, FollowingFrame};

/// One connection.
#[derive(Debug)]
pub(crate) struct ReferenceConnection {
    fd: OwnedFd,
    input: FrameInput,
    unsent: Option<PendingReply>,
    /// The size of the last frame if that was a large one, else 0.
    expected: usize,
}

/// The received part of a frame.
#[derive(Debug)]
enum FrameInput {
    Empty,
    /// The start of a small frame or of a header.
    Partial(Vec<u8>),
    /// An incomplete large frame: a buffer for it, and the number of bytes received.
    Large(Vec<u8>, usize),
}

/// An unsent response, of which `sent` bytes have been sent.
#[derive(Debug)]
struct PendingReply {
    bytes: Vec<u8>,
    sent: usize,
}

/// The state of a connection after it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionStatus {
    /// It stays open; its interest may have changed.
    Open,
    /// The caller drops it.
    Closed,
}

impl ReferenceConnection {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            input: FrameInput::Empty,
            unsent: None,
            expected: 0,
        }
    }

    /// Returns the interest to register.
    pub(crate) fn interest(&self) -> Interest {
        if self.unsent.is_some() {
            Interest::WRITABLE
        } else {
            Interest::READABLE
        }
    }

    /// Serves a readiness event: one `recv` and one `send`, or one `send` of the unsent response. A
    /// hang-up is not handled here: the next call on the socket reports it, after the bytes
    /// received before it.
    pub(crate) fn on_ready(&mut self, memory: &mut BufferPool) -> ConnectionStatus {
        let served = match self.unsent.take() {
            Some(unsent) => self.send_rest(unsent, memory),
            None => self.read_and_answer(memory),
        };
        served.unwrap_or(ConnectionStatus::Closed)
    }

    fn read_and_answer(&mut self, memory: &mut BufferPool) -> io::Result<ConnectionStatus> {
        memory.output.clear();
        let after = self.read(memory)?;
        self.answer(memory)?;
        Ok(after)
    }

    /// Reads once and writes the responses to all whole frames to `memory.output`.
    fn read(&mut self, memory: &mut BufferPool) -> io::Result<ConnectionStatus> {
        match mem::replace(&mut self.input, FrameInput::Empty) {
            FrameInput::Large(frame, filled) => self.read_in_place(frame, filled, memory),
            FrameInput::Partial(start) => self.read_shared(start, memory),
            FrameInput::Empty if self.expected > 0 => {
                let frame = memory.take(self.expected + 1);
                self.read_in_place(frame, 0, memory)
            }
            FrameInput::Empty => self.read_shared(Vec::new(), memory),
        }
    }

    /// Reads after `start` in the shared buffer.
    fn read_shared(
        &mut self,
        start: Vec<u8>,
        memory: &mut BufferPool,
    ) -> io::Result<ConnectionStatus> {
        let before = start.len();
        memory.scratch[..before].copy_from_slice(&start);
        let count = match transfer::receive(self.fd.as_fd(), &mut memory.scratch[before..]) {
            Ok(0) => return Ok(ConnectionStatus::Closed),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if before > 0 {
                    self.input = FrameInput::Partial(start);
                }
                return Ok(ConnectionStatus::Open);
            }
            Err(error) => return Err(error),
        };
        // The scratch is moved out of `memory` while its frames are copied.
        let scratch = mem::take(&mut memory.scratch);
        let after = self.take_frames(&scratch[..before + count], memory);
        memory.scratch = scratch;
        Ok(after)
    }

    /// Reads the missing bytes of a large frame in place.
    fn read_in_place(
        &mut self,
        mut frame: Vec<u8>,
        before: usize,
        memory: &mut BufferPool,
    ) -> io::Result<ConnectionStatus> {
        let count = match transfer::receive(self.fd.as_fd(), &mut frame[before..]) {
            Ok(0) => return Ok(ConnectionStatus::Closed),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if before > 0 {
                    self.input = FrameInput::Large(frame, before);
                } else {
                    memory.release(frame);
                }
                return Ok(ConnectionStatus::Open);
            }
            Err(error) => return Err(error),
        };
        let filled = before + count;
        // The buffer holds one frame of its size, unless the peer has changed the size of its
        // frames.
        let size = frame.len() - 1;
        let measured = frames::scan(&frame[..filled]);
        if filled < size && measured.next == FollowingFrame::Frame(size) && measured.whole == 0 {
            self.input = FrameInput::Large(frame, filled);
            return Ok(ConnectionStatus::Open);
        }
        if measured.whole != size || filled > size {
            self.expected = 0;
        }
        let after = self.take_frames(&frame[..filled], memory);
        memory.release(frame);
        Ok(after)
    }

    /// Copies the whole frames at the start of `bytes` to the output and keeps the rest.
    fn take_frames(&mut self, bytes: &[u8], memory: &mut BufferPool) -> ConnectionStatus {
        let measured = frames::scan(bytes);
        memory.output.extend_from_slice(&bytes[..measured.whole]);
        let rest = &bytes[measured.whole..];
        match measured.next {
            FollowingFrame::TooLong => return ConnectionStatus::Closed,
            FollowingFrame::Frame(size) if size > LARGE_FRAME => {
                let mut frame = memory.take(size + 1);
                frame[..rest.len()].copy_from_slice(rest);
                self.input = FrameInput::Large(frame, rest.len());
                self.expected = size;
            }
            FollowingFrame::Frame(_) | FollowingFrame::IncompleteHeader if rest.is_empty() => {}
            FollowingFrame::Frame(_) | FollowingFrame::IncompleteHeader => {
                self.input = FrameInput::Partial(rest.to_vec())
            }
        }
        ConnectionStatus::Open
    }

    /// Sends `memory.output` and keeps the bytes that the kernel does not take.
    fn answer(&mut self, memory: &mut BufferPool) -> io::Result<()> {
        if memory.output.is_empty() {
            return Ok(());
        }
        let sent = ignore_would_block(transfer::send(self.fd.as_fd(), &memory.output))?;
        if sent < memory.output.len() {
            let bytes = memory.take_output();
            self.unsent = Some(PendingReply { bytes, sent });
        }
        memory.output.clear();
        Ok(())
    }

    /// Sends more of an unsent response.
    fn send_rest(
        &mut self,
        mut unsent: PendingReply,
        memory: &mut BufferPool,
    ) -> io::Result<ConnectionStatus> {
        let rest = &unsent.bytes[unsent.sent..];
        unsent.sent += ignore_would_block(transfer::send(self.fd.as_fd(), rest))?;
        if unsent.sent < unsent.bytes.len() {
            self.unsent = Some(unsent);
        } else {
            memory.release(unsent.bytes);
        }
        Ok(ConnectionStatus::Open)
    }
}

impl AsFd for ReferenceConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn ignore_would_block(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

/// The size above which a frame is read in place. Below it, copying the start of a frame costs less
/// than a buffer for it.
const LARGE_FRAME: usize = 32 << 10;
