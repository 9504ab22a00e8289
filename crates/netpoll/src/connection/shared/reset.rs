// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an abort reaches the peer: at once, on the calling thread.
//!
//! The descriptor is closed with the last reference to the shared state, and an owner, a waker or a
//! running handler may hold one for long. So the reset waits neither for that nor for the poller,
//! which a handler may block. A TCP socket is disconnected, which sends RST as a close with
//! `SO_LINGER` 0 would. A Unix socket has no reset: both of its directions end, and unread input
//! becomes a reset when it is closed.
//!
//! The poller learns of the reset by a notification and by errors of the kernel, in any order. Such
//! errors do not count as a broken connection: they are attributed to the requested abort.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;

use netpoll_sys::{options, socket};

use super::{CloseRequest, Shared};
use crate::addr::Addr;
use crate::sync::lock;

impl Shared {
    /// Resets the connection, unless its socket is detached and belongs to another owner.
    pub(super) fn reset(&self) {
        // Held throughout: `detach_if_requested` detaches the socket under it.
        let output_buffer = lock(&self.output_buffer);
        if output_buffer.is_detached() {
            return;
        }
        // If a call fails because the connection is gone, it was not needed.
        if self.is_tcp() {
            self.save_local_addr();
            // Where the kernel refuses to disconnect, the last close resets.
            let _set = options::set_reset_on_close(self.as_fd()).ok();
            let _reset = socket::reset(self.as_fd()).ok();
        } else {
            let _ended = socket::shutdown(self.as_fd(), Shutdown::Both).ok();
        }
        drop(output_buffer);
    }

    /// Returns whether this side has reset the connection, or is about to.
    pub(crate) fn is_aborted(&self) -> bool {
        self.close_request() == CloseRequest::Abort
    }

    /// Saves the local address: a disconnected socket does not know it any more.
    fn save_local_addr(&self) {
        if let Ok(Addr::Tcp(addr)) = socket::local_addr(self.as_fd()) {
            // It is saved once, before the only reset.
            let _kept = self.extensions.get_or_make().local_addr.set(addr).is_ok();
        }
    }

    /// Returns the local address, also after a reset.
    pub(crate) fn local_addr(&self) -> io::Result<Addr> {
        let addr = socket::local_addr(self.as_fd())?;
        // Read after the call to the kernel: it is saved before the kernel forgets it.
        let kept = self
            .extensions
            .get()
            .and_then(|extensions| extensions.local_addr.get());
        Ok(kept.map_or(addr, |kept| Addr::Tcp(*kept)))
    }
}
