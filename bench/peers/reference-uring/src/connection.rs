// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection: what of a frame has come, the answers that wait, and those that are being sent.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use peer_options::{Calls, Kind, TooLong};

/// With more unsent, nothing is received: a peer that does not take its answers has the server hold so
/// much and what is under way.
const MUCH: usize = 4 << 20;

pub(crate) struct Connection {
    fd: OwnedFd,
    calls: Calls,
    /// The start of a frame.
    rest: Vec<u8>,
    /// Answers that nothing was done about.
    answers: Vec<u8>,
    /// Answers of which the kernel has `sent` bytes, and is sending the rest if `sends`.
    leaving: Vec<u8>,
    sent: usize,
    sends: bool,
    /// Whether the kernel receives for it.
    pub(crate) receives: bool,
    /// Nothing more is read or sent; it stays until the kernel is done with it.
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

    /// Answers the whole frames in what has come.
    pub(crate) fn came(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.rest.is_empty() {
            let taken = self.calls.answer(bytes, &mut self.answers)?;
            self.rest.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        self.rest.extend_from_slice(bytes);
        let taken = self.calls.answer(&self.rest, &mut self.answers)?;
        if taken == self.rest.len() {
            // At rest a connection holds no memory for a frame.
            self.rest = Vec::new();
        } else {
            self.rest.drain(..taken);
            self.rest.reserve(Calls::missing(&self.rest));
        }
        Ok(())
    }

    /// The bytes to send now, if there are some and no others are being sent. They stay where they
    /// are until [`was_sent`](Self::was_sent).
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

    /// The kernel has taken so many of the bytes.
    pub(crate) fn was_sent(&mut self, count: usize) {
        self.sends = false;
        self.sent += count;
    }

    /// Whether it should be received from.
    pub(crate) fn wants_more(&self) -> bool {
        !self.over && self.answers.len() + self.leaving.len() - self.sent < MUCH
    }

    /// Whether the kernel is done with a connection that is over.
    pub(crate) fn is_gone(&self) -> bool {
        self.over && !self.receives && !self.sends
    }
}
