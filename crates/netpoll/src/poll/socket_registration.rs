// SPDX-License-Identifier: MIT OR Apache-2.0
//! The place on a poller's roll of a socket that was accepted and has no source yet: it lies with a
//! filter that runs, or on its way to its poller. Its peer is sent the end if that poller is given up.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::mailbox::Mailbox;
use super::notifier::Notifier;
use super::set::PollerHandle;
use crate::sync::Arc;

/// One socket on a roll; no more when dropped, which has to be before the socket is closed.
#[derive(Debug)]
pub(crate) struct SocketRegistration {
    fd: RawFd,
    mailbox: Arc<Mailbox>,
}

impl SocketRegistration {
    /// On the roll of the poller of `bell`.
    pub(crate) fn new(socket: &impl AsFd, notifier: &Notifier) -> Self {
        let mailbox = Arc::clone(notifier.mailbox());
        mailbox.sockets().insert(socket.as_fd());
        Self {
            fd: socket.as_fd().as_raw_fd(),
            mailbox,
        }
    }

    /// The same on the roll of `poller`, which gets the socket.
    pub(crate) fn transfer_to(self, socket: &impl AsFd, poller: &PollerHandle) -> Self {
        let mailbox = poller.mailbox();
        if Arc::ptr_eq(&self.mailbox, mailbox) {
            return self;
        }
        mailbox.sockets().insert(socket.as_fd());
        Self {
            fd: self.fd,
            mailbox: Arc::clone(mailbox),
        }
    }
}

impl Drop for SocketRegistration {
    fn drop(&mut self) {
        self.mailbox.sockets().remove(self.fd);
    }
}
