// SPDX-License-Identifier: MIT OR Apache-2.0
//! The place on a poller's roll of a socket that was accepted and has no source yet: it lies with a
//! filter that runs, or on its way to its poller. Its peer is sent the end if that poller is given up.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::bell::Bell;
use super::mailbox::Mailbox;
use super::set::PollerHandle;
use crate::sync::Arc;

/// One socket on a roll; no more when dropped, which has to be before the socket is closed.
#[derive(Debug)]
pub(crate) struct RollEntry {
    number: RawFd,
    mailbox: Arc<Mailbox>,
}

impl RollEntry {
    /// On the roll of the poller of `bell`.
    pub(crate) fn new(socket: &impl AsFd, bell: &Bell) -> Self {
        let mailbox = Arc::clone(bell.mailbox());
        mailbox.roll().enter(socket.as_fd());
        Self {
            number: socket.as_fd().as_raw_fd(),
            mailbox,
        }
    }

    /// The same on the roll of `poller`, which gets the socket.
    pub(crate) fn moved_to(self, socket: &impl AsFd, poller: &PollerHandle) -> Self {
        let mailbox = poller.mailbox();
        if Arc::ptr_eq(&self.mailbox, mailbox) {
            return self;
        }
        mailbox.roll().enter(socket.as_fd());
        Self {
            number: self.number,
            mailbox: Arc::clone(mailbox),
        }
    }
}

impl Drop for RollEntry {
    fn drop(&mut self) {
        self.mailbox.roll().strike(self.number);
    }
}
