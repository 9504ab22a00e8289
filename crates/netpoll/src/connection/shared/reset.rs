// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an abort reaches the peer: at once, on the thread that asks for it.
//!
//! The descriptor is closed by the drop of the last link, and an owner, a waker or a handler at work may
//! hold one for long. So the reset does not wait for that, nor for the poller, which a handler may
//! block: a TCP socket is disconnected, which sends RST as a close with `SO_LINGER` 0 would. A Unix
//! socket has no reset; both of its directions end, and unread input becomes one when it is closed.
//!
//! The poller learns of its own reset by the bell and, in any order with that, by the kernel's errors.
//! Those are not a break: an abort that was asked for is what they are taken for.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;

use netpoll_sys::{options, socket};

use super::{CloseRequest, Shared};
use crate::addr::Addr;
use crate::sync::lock;

impl Shared {
    /// Resets the peer, unless the socket has been taken away and is no longer ours to end.
    pub(super) fn reset(&self) {
        // Held throughout: `leave_if_asked` gives the socket away under it.
        let output_buffer = lock(&self.output_buffer);
        if output_buffer.is_detached() {
            return;
        }
        // What fails on a socket whose connection is gone need not be done.
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

    /// Whether this side has reset the connection, or is about to.
    pub(crate) fn is_aborted(&self) -> bool {
        self.close_request() == CloseRequest::Abort
    }

    /// A socket that was disconnected has forgotten where it was.
    fn save_local_addr(&self) {
        if let Ok(Addr::Tcp(addr)) = socket::local_addr(self.as_fd()) {
            // It is kept once, before the one reset.
            let _kept = self.extensions.get_or_make().local_addr.set(addr).is_ok();
        }
    }

    /// The address of this end, also after a reset.
    pub(crate) fn local_addr(&self) -> io::Result<Addr> {
        let addr = socket::local_addr(self.as_fd())?;
        // Asked after the kernel: it is kept before the kernel forgets.
        let kept = self
            .extensions
            .get()
            .and_then(|extensions| extensions.local_addr.get());
        Ok(kept.map_or(addr, |kept| Addr::Tcp(*kept)))
    }
}
