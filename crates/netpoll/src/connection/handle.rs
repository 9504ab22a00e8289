// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`ConnectionHandle`]: what can be asked of a connection by whoever does not own it.
//!
//! It holds the link weakly, so that a handle which is kept somewhere keeps no descriptor open.

use std::io;
use std::sync::Weak;

use bytes::Bytes;

use super::shared::{CloseRequest, Shared};
use crate::sync::Arc;
use crate::timeouts::Timeouts;

/// A connection from elsewhere: any thread, any number of clones. Made by
/// [`Connection::handle`](crate::Connection::handle).
///
/// It neither owns the connection nor keeps it: on one that has ended, its calls do nothing, or
/// say so. Each takes a lock for a few instructions, and at most one system call to wake the
/// connection's poller.
#[derive(Clone, Debug)]
pub struct ConnectionHandle {
    shared: Weak<Shared>,
}

impl ConnectionHandle {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::downgrade(shared),
        }
    }

    /// What it is a handle of, if something is left of it.
    pub(super) fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.upgrade()
    }

    /// As [`Connection::close`](crate::Connection::close).
    pub fn close(&self) {
        self.request_close(CloseRequest::Close);
    }

    /// As [`Connection::abort`](crate::Connection::abort).
    pub fn abort(&self) {
        self.request_close(CloseRequest::Abort);
    }

    /// As [`Connection::pause_reads`](crate::Connection::pause_reads).
    pub fn pause_reads(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.pause_reads();
        }
    }

    /// As [`Connection::resume_reads`](crate::Connection::resume_reads).
    pub fn resume_reads(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.resume_reads();
        }
    }

    fn request_close(&self, request: CloseRequest) {
        if let Some(shared) = self.shared.upgrade() {
            shared.request_close(request);
        }
    }

    /// Adds `bytes` to the output as they are, without a copy, and has them sent: behind what was
    /// put before, and never within what one call of a [`Writer`](crate::Writer) puts, nor within what
    /// waits for its commit: behind none of that. They count towards the bounds of the output as every put
    /// does.
    ///
    /// # Errors
    ///
    /// Why the connection has ended, if it has, or ends with this call, for want of room for them in its
    /// [`max_output`](crate::ConnOptions::max_output); `NotConnected` if nothing of it is left;
    /// [`WriteAfterShutdown`](crate::WriteAfterShutdown) if its output has ended. Then nothing is sent of them.
    pub fn push(&self, bytes: Bytes) -> io::Result<()> {
        let shared = self.shared.upgrade().ok_or_else(not_connected)?;
        shared.push_committed(bytes)?;
        shared.request_send();
        Ok(())
    }

    /// How long what may take on this connection now; `None` if it is gone.
    #[must_use]
    pub fn timeouts(&self) -> Option<Timeouts> {
        self.shared.upgrade().map(|shared| shared.timeouts())
    }

    /// As [`Connection::set_timeouts`](crate::Connection::set_timeouts).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::InvalidConfig), naming the field, for a time of zero.
    pub fn set_timeouts(&self, timeouts: Timeouts) -> io::Result<()> {
        timeouts.validate()?;
        if let Some(shared) = self.shared.upgrade() {
            shared.set_timeouts(timeouts);
        }
        Ok(())
    }
}

/// Nothing is left of the connection, not even why it ended.
pub(super) fn not_connected() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
