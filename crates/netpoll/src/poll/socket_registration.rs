// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers an accepted socket that has no source yet with the socket set of a poller, while a
//! filter runs or the socket moves to its poller. If that poller is abandoned, the socket is shut
//! down.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::mailbox::Mailbox;
use super::notifier::Notifier;
use super::set::PollerHandle;
use crate::sync::Arc;

/// A registered socket. Deregistered when dropped, which must happen before the socket is closed.
#[derive(Debug)]
pub(crate) struct SocketRegistration {
    fd: RawFd,
    mailbox: Arc<Mailbox>,
}

impl SocketRegistration {
    /// Registers `socket` with the poller of `notifier`.
    pub(crate) fn new(socket: &impl AsFd, notifier: &Notifier) -> Self {
        let mailbox = Arc::clone(notifier.mailbox());
        mailbox.sockets().insert(socket.as_fd());
        Self {
            fd: socket.as_fd().as_raw_fd(),
            mailbox,
        }
    }

    /// Moves the registration to `poller`, which gets the socket.
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
