// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection of a load: how much of its requests is unsent, how far its answers have come,
//! and since when each request in flight is waiting.
//!
//! It owns its socket and three counters. Bytes are somebody else's: outgoing ones come from the
//! pattern that all connections share, incoming ones land in the scratch buffer of the thread and
//! are forgotten once counted.

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
    /// Requests unanswered, sent or not.
    pub(crate) in_flight: UnansweredRequests,
    /// Bytes of requests that have not left.
    unsent: usize,
    /// How many bytes of a request have left before the next unsent one; 0 between two requests.
    request_offset: usize,
    /// What epoll was last told.
    registered: Interest,
}

impl LoadConnection {
    /// A connection that is watched for reading.
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

    /// Adds requests that count from `since`; [`Connection::send`] is what sends them.
    #[inline]
    pub(crate) fn request(&mut self, requests: &RequestPattern, since: u64, count: usize) {
        self.in_flight.add(since, count);
        self.unsent += count * requests.length();
    }

    /// Reads once and says how many answers that completed. One `recv`.
    ///
    /// # Errors
    ///
    /// Why there will be no more answers.
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

    /// Sends what is unsent until there is no room. One `send` unless the requests are larger
    /// than the pattern they are taken from.
    ///
    /// # Errors
    ///
    /// Why nothing more can be sent.
    #[inline]
    pub(crate) fn send(&mut self, requests: &RequestPattern) -> Result<(), String> {
        while self.unsent > 0 {
            let bytes = requests.next_bytes(self.request_offset, self.unsent);
            let sent = match transfer::send(self.fd.as_fd(), bytes) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.to_string()),
            };
            let room_is_left = sent == bytes.len();
            self.unsent -= sent;
            self.request_offset = (self.request_offset + sent) % requests.length();
            if !room_is_left {
                break;
            }
        }
        Ok(())
    }

    /// The interest epoll has to be told, if it changed since the last call.
    #[inline]
    pub(crate) fn changed_interest(&mut self) -> Option<Interest> {
        let wanted = Interest::READABLE.union(Interest::WRITABLE.when(self.unsent > 0));
        let changed = wanted != self.registered;
        self.registered = wanted;
        changed.then_some(wanted)
    }

    /// Whether a send has to wait until the socket is writable.
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
