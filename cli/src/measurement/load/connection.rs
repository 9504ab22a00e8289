// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection of a load: its unsent requests, the position in its response stream, and the
//! start time of each request in flight.
//!
//! It owns its socket and a few counters, not the bytes. Sent bytes come from the pattern that all
//! connections share; received bytes go to the thread's scratch buffer and are discarded once
//! counted.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netpoll_sys::{Interest, transfer};

use super::requests::RequestPattern;
use super::responses::ResponseCounter;
use super::unanswered::UnansweredRequests;

/// One connection of a load.
#[derive(Debug)]
pub(crate) struct LoadConnection {
    fd: OwnedFd,
    responses: ResponseCounter,
    /// Unanswered requests, sent or not.
    pub(crate) in_flight: UnansweredRequests,
    /// Unsent bytes of requests.
    unsent: usize,
    /// The offset of the next unsent byte in its request; 0 between two requests.
    request_offset: usize,
    /// The interest registered with epoll.
    registered: Interest,
}

impl LoadConnection {
    /// Creates a connection that is registered for reading.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            responses: ResponseCounter::default(),
            in_flight: UnansweredRequests::default(),
            unsent: 0,
            request_offset: 0,
            registered: Interest::READABLE,
        }
    }

    /// Adds requests whose latency counts from `since`. [`LoadConnection::send`] sends them.
    #[inline]
    pub(crate) fn request(&mut self, requests: &RequestPattern, since: u64, count: usize) {
        self.in_flight.add(since, count);
        self.unsent += count * requests.length();
    }

    /// Reads once and returns the number of completed responses. One `recv`.
    ///
    /// # Errors
    ///
    /// The reason why no more responses will arrive.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        requests: &RequestPattern,
        scratch: &mut [u8],
    ) -> Result<usize, String> {
        match transfer::receive(self.fd.as_fd(), scratch) {
            Ok(0) => Err("the server closed a connection".into()),
            Ok(count) => self
                .responses
                .consume(&scratch[..count], requests)
                .map_err(|wrong| wrong.to_string()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sends unsent bytes until the kernel takes no more. One `send`, unless the unsent bytes
    /// exceed the pattern.
    ///
    /// # Errors
    ///
    /// The reason why nothing more can be sent.
    #[inline]
    pub(crate) fn send(&mut self, requests: &RequestPattern) -> Result<(), String> {
        while self.unsent > 0 {
            let bytes = requests.next_bytes(self.request_offset, self.unsent);
            let sent = match transfer::send(self.fd.as_fd(), bytes) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.to_string()),
            };
            let took_all = sent == bytes.len();
            self.unsent -= sent;
            self.request_offset = (self.request_offset + sent) % requests.length();
            if !took_all {
                break;
            }
        }
        Ok(())
    }

    /// Returns the interest to register, if it has changed since the last call.
    #[inline]
    pub(crate) fn changed_interest(&mut self) -> Option<Interest> {
        let wanted = Interest::READABLE.union(Interest::WRITABLE.when(self.unsent > 0));
        let changed = wanted != self.registered;
        self.registered = wanted;
        changed.then_some(wanted)
    }

    /// Returns whether a send has to wait for the socket to become writable.
    #[inline]
    pub(crate) fn is_blocked(&self) -> bool {
        self.registered.is_writable()
    }
}

impl AsFd for LoadConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
