// SPDX-License-Identifier: MIT OR Apache-2.0
//! The draft: what the owner of a connection has put since its first open reservation.
//!
//! A reservation holds up what its owner puts behind it, and nobody else. So what waits for a commit is
//! not in the chain that everybody appends to: the owner's puts go to a buffer of its own as long as a
//! reservation is open, and others append to the chain, from where it is sent. A commit moves the draft to
//! the end of the chain in one piece; what ends it otherwise drops the draft, and nothing of others.
//!
//! The draft begins with the memory that the chain's puts went on in, and brings it back, so a header
//! that is filled in later costs no block of its own. Its bytes count towards the bound of the output.

use std::io;

use netpoll_buffer::{LinkBuffer, Reservation};

use super::OutputBuffer;
use super::puts::{PutOutcome, Watermarks};
use crate::poll::notifier::Role;

impl OutputBuffer {
    /// Where the owner puts: its draft, if a reservation is open.
    #[inline]
    pub(super) fn uncommitted(&mut self) -> Option<&mut LinkBuffer> {
        self.cold.as_mut()?.uncommitted.as_mut()
    }

    /// How many bytes wait for a commit.
    pub(crate) fn uncommitted_len(&self) -> usize {
        let draft = self.cold.as_ref().and_then(|it| it.uncommitted.as_ref());
        draft.map_or(0, LinkBuffer::uncommitted_len)
    }

    /// Whether a reservation is open.
    pub(super) fn has_reservation(&self) -> bool {
        self.cold
            .as_ref()
            .is_some_and(|it| it.uncommitted.is_some())
    }

    /// Ends every reservation, and gives what was uncommitted: to be committed, or dropped, after the
    /// lock.
    pub(crate) fn take_uncommitted(&mut self) -> Option<LinkBuffer> {
        self.cold.as_mut()?.uncommitted.take()
    }

    /// Leaves room for `n` bytes at the end of the draft, and begins one if there is none. The outbox is
    /// open.
    pub(crate) fn reserve(
        &mut self,
        n: usize,
        watermarks: impl FnOnce() -> Watermarks,
        role: impl FnOnce() -> Role,
    ) -> (io::Result<Reservation>, PutOutcome) {
        let reserved = match self.uncommitted() {
            Some(draft) => draft.reserve(n),
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
        let mut draft = LinkBuffer::new();
        if let Some(tail) = self.buffer.take_tail() {
            draft.append_tail(tail, 0);
        }
        let reserved = draft.reserve(n);
        if reserved.is_ok() {
            self.headroom = 0;
            self.cold.get_or_insert_default().uncommitted = Some(draft);
        }
        reserved
    }

    /// The bytes of a reservation that is open.
    ///
    /// # Errors
    ///
    /// As [`LinkBuffer::get_mut`].
    pub(crate) fn reserved(&mut self, reserved: &Reservation) -> io::Result<&mut [u8]> {
        match self.cold.as_mut().and_then(|it| it.uncommitted.as_mut()) {
            Some(draft) => draft.get_mut(reserved),
            None => Err(unknown_reservation(reserved)),
        }
    }
}

/// What a buffer says of a reservation that it does not know.
fn unknown_reservation(reserved: &Reservation) -> io::Error {
    let unknown = LinkBuffer::new().get_mut(reserved).err();
    unknown.unwrap_or_else(|| io::ErrorKind::InvalidInput.into())
}
