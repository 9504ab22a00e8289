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

use netpoll_buffer::{LinkBuffer, Reserved};

use super::Outbox;
use super::puts::{Marks, Put};
use crate::poll::bell::Role;

impl Outbox {
    /// Where the owner puts: its draft, if a reservation is open.
    #[inline]
    pub(super) fn draft(&mut self) -> Option<&mut LinkBuffer> {
        self.unusual.as_mut()?.draft.as_mut()
    }

    /// How many bytes wait for a commit.
    pub(crate) fn uncommitted_len(&self) -> usize {
        let draft = self.unusual.as_ref().and_then(|it| it.draft.as_ref());
        draft.map_or(0, LinkBuffer::uncommitted_len)
    }

    /// Whether a reservation is open.
    pub(super) fn has_draft(&self) -> bool {
        self.unusual.as_ref().is_some_and(|it| it.draft.is_some())
    }

    /// Ends every reservation, and gives what was uncommitted: to be committed, or dropped, after the
    /// lock.
    pub(crate) fn take_draft(&mut self) -> Option<LinkBuffer> {
        self.unusual.as_mut()?.draft.take()
    }

    /// Leaves room for `n` bytes at the end of the draft, and begins one if there is none. The outbox is
    /// open.
    pub(crate) fn reserve(
        &mut self,
        n: usize,
        marks: impl FnOnce() -> Marks,
        role: impl FnOnce() -> Role,
    ) -> (io::Result<Reserved>, Put) {
        let reserved = match self.draft() {
            Some(draft) => draft.reserve(n),
            None => self.begin_draft(n),
        };
        if reserved.is_err() {
            return (reserved, Put::Quiet);
        }
        let before = self.chain.len();
        let news = self.look_at_marks(before, marks(), role());
        (reserved, news)
    }

    fn begin_draft(&mut self, n: usize) -> io::Result<Reserved> {
        let mut draft = LinkBuffer::new();
        if let Some(tail) = self.chain.take_tail() {
            draft.accept_tail(tail, 0);
        }
        let reserved = draft.reserve(n);
        if reserved.is_ok() {
            self.slack = 0;
            self.unusual.get_or_insert_default().draft = Some(draft);
        }
        reserved
    }

    /// The bytes of a reservation that is open.
    ///
    /// # Errors
    ///
    /// As [`LinkBuffer::get_mut`].
    pub(crate) fn reserved(&mut self, reserved: &Reserved) -> io::Result<&mut [u8]> {
        match self.unusual.as_mut().and_then(|it| it.draft.as_mut()) {
            Some(draft) => draft.get_mut(reserved),
            None => Err(not_here(reserved)),
        }
    }
}

/// What a buffer says of a reservation that it does not know.
fn not_here(reserved: &Reserved) -> io::Error {
    let unknown = LinkBuffer::new().get_mut(reserved).err();
    unknown.unwrap_or_else(|| io::ErrorKind::InvalidInput.into())
}
