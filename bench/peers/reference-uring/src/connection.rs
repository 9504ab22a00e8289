// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection: its incomplete frame, its queued responses, and the responses in transmission.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use peer_options::{Calls, Kind, TooLong};

/// The limit of unsent bytes, above which nothing is received: a peer that does not read its
/// responses makes the server hold this much plus the responses in progress.
const MUCH: usize = 4 << 20;

pub(crate) struct Connection {
    fd: OwnedFd,
    calls: Calls,
    /// The received start of a frame.
    rest: Vec<u8>,
    /// Queued responses.
    answers: Vec<u8>,
    /// Responses of which `sent` bytes have been sent; if `sends`, the kernel is sending the rest.
    leaving: Vec<u8>,
    sent: usize,
    sends: bool,
    /// Whether a receive is in progress.
    pub(crate) receives: bool,
    /// The connection has ended; it stays until the kernel has completed its requests.
    pub(crate) over: bool,
}

impl Connection {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            calls: Calls::of(Kind::Rpc),
            rest: Vec::new(),
            answers: Vec::new(),
            leaving: Vec::new(),
            sent: 0,
            sends: false,
            receives: false,
            over: false,
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub(crate) fn owned_fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Answers the complete frames in the received data.
    pub(crate) fn came(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.rest.is_empty() {
            let taken = self.calls.answer(bytes, &mut self.answers)?;
            self.rest.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        self.rest.extend_from_slice(bytes);
        let taken = self.calls.answer(&self.rest, &mut self.answers)?;
        if taken == self.rest.len() {
            // An idle connection holds no memory for a frame.
            self.rest = Vec::new();
        } else {
            self.rest.drain(..taken);
            self.rest.reserve(Calls::missing(&self.rest));
        }
        Ok(())
    }

    /// Returns the bytes to send, if there are any and no send is in progress. They do not move
    /// until [`was_sent`](Self::was_sent).
    pub(crate) fn next_send(&mut self) -> Option<&[u8]> {
        if self.sends || self.over {
            return None;
        }
        if self.sent == self.leaving.len() {
            self.leaving.clear();
            self.sent = 0;
            std::mem::swap(&mut self.leaving, &mut self.answers);
        }
        self.sends = self.sent < self.leaving.len();
        self.sends.then(|| &self.leaving[self.sent..])
    }

    /// Records that the kernel has sent this many bytes.
    pub(crate) fn was_sent(&mut self, count: usize) {
        self.sends = false;
        self.sent += count;
    }

    /// Returns whether to receive from it.
    pub(crate) fn wants_more(&self) -> bool {
        !self.over && self.answers.len() + self.leaving.len() - self.sent < MUCH
    }

    /// Returns whether the connection has ended and the kernel has completed its requests.
    pub(crate) fn is_gone(&self) -> bool {
        self.over && !self.receives && !self.sends
    }
}
