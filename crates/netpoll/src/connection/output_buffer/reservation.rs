// SPDX-License-Identifier: MIT OR Apache-2.0
//! Uncommitted output: the bytes that the owner of a connection has put since its first open
//! reservation.
//!
//! A reservation holds up its owner's later puts, and no other writer. So uncommitted bytes are not
//! in the buffer that all writers append to. While a reservation is open the owner puts into a
//! buffer of its own; the others append to the shared buffer, which is sent meanwhile. A commit
//! moves the uncommitted bytes to the end of the shared buffer in one piece. Any other end of the
//! reservation drops them, and nothing of the other writers.
//!
//! The uncommitted buffer starts with the tail of the shared buffer and returns it with the commit.
//! So a header that is filled in later costs no block of its own. Uncommitted bytes count toward
//! the limit of the output.

use std::io;

use netpoll_buffer::{LinkBuffer, Reservation};

use super::OutputBuffer;
use super::puts::{PutOutcome, Watermarks};
use crate::poll::notifier::Role;

impl OutputBuffer {
    /// Returns the buffer that the owner puts into while a reservation is open.
    #[inline]
    pub(super) fn uncommitted(&mut self) -> Option<&mut LinkBuffer> {
        self.cold.as_mut()?.uncommitted.as_mut()
    }

    /// Returns the number of uncommitted bytes.
    pub(crate) fn uncommitted_len(&self) -> usize {
        let uncommitted = self.cold.as_ref().and_then(|it| it.uncommitted.as_ref());
        uncommitted.map_or(0, LinkBuffer::uncommitted_len)
    }

    /// Returns whether a reservation is open.
    pub(super) fn has_reservation(&self) -> bool {
        self.cold
            .as_ref()
            .is_some_and(|it| it.uncommitted.is_some())
    }

    /// Ends every reservation, and returns the uncommitted bytes, to be committed or dropped after
    /// the lock.
    pub(crate) fn take_uncommitted(&mut self) -> Option<LinkBuffer> {
        self.cold.as_mut()?.uncommitted.take()
    }

    /// Reserves `n` bytes at the end of the uncommitted output, which begins here if no reservation
    /// is open. The output buffer is open.
    ///
    /// # Errors
    ///
    /// As [`LinkBuffer::reserve`]; nothing is changed then.
    pub(crate) fn reserve(
        &mut self,
        n: usize,
        watermarks: impl FnOnce() -> Watermarks,
        role: impl FnOnce() -> Role,
    ) -> (io::Result<Reservation>, PutOutcome) {
        let reserved = match self.uncommitted() {
            Some(uncommitted) => uncommitted.reserve(n),
            None => self.begin_reservation(n),
        };
        if reserved.is_err() {
            return (reserved, PutOutcome::Unchanged);
        }
        let before = self.buffer.len();
        let outcome = self.check_watermarks(before, watermarks(), role());
        (reserved, outcome)
    }

    fn begin_reservation(&mut self, n: usize) -> io::Result<Reservation> {
        let mut uncommitted = LinkBuffer::new();
        if let Some(tail) = self.buffer.take_tail() {
            uncommitted.append_tail(tail, 0);
        }
        let reserved = uncommitted.reserve(n);
        if reserved.is_ok() {
            self.headroom = 0;
            self.cold.get_or_insert_default().uncommitted = Some(uncommitted);
        }
        reserved
    }

    /// Returns the bytes of an open reservation.
    ///
    /// # Errors
    ///
    /// As [`LinkBuffer::get_mut`].
    pub(crate) fn reserved(&mut self, reserved: &Reservation) -> io::Result<&mut [u8]> {
        match self.cold.as_mut().and_then(|it| it.uncommitted.as_mut()) {
            Some(uncommitted) => uncommitted.get_mut(reserved),
            None => Err(unknown_reservation(reserved)),
        }
    }
}

/// Returns the error of a buffer that does not know the reservation.
fn unknown_reservation(reserved: &Reservation) -> io::Error {
    let unknown = LinkBuffer::new().get_mut(reserved).err();
    unknown.unwrap_or_else(|| io::ErrorKind::InvalidInput.into())
}
