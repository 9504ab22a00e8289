// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`ConnectionHandle`]: control of a connection by code that does not own it.
//!
//! A handle holds the shared state weakly, so that it keeps no descriptor open.

use std::io;
use std::sync::Weak;

use bytes::Bytes;

use super::shared::{CloseRequest, Shared};
use crate::sync::Arc;
use crate::timeouts::Timeouts;

/// A handle to a connection for use on any thread, with any number of clones. Returned by
/// [`Connection::handle`](crate::Connection::handle).
///
/// A handle neither owns the connection nor keeps it open. After the connection has ended, calls
/// have no effect or return an error. Unless stated otherwise, a call takes a lock for a few
/// instructions and makes at most one system call, which wakes the poller.
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

    /// Returns the shared state, if the connection still exists.
    pub(super) fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.upgrade()
    }

    /// Closes the connection in order, as [`Connection::close`](crate::Connection::close) does.
    pub fn close(&self) {
        self.request_close(CloseRequest::Close);
    }

    /// Resets the connection, as [`Connection::abort`](crate::Connection::abort) does.
    pub fn abort(&self) {
        self.request_close(CloseRequest::Abort);
    }

    /// Pauses reads, as [`Connection::pause_reads`](crate::Connection::pause_reads) does.
    pub fn pause_reads(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.pause_reads();
        }
    }

    /// Resumes reads, as [`Connection::resume_reads`](crate::Connection::resume_reads) does.
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

    /// Appends `bytes` to the committed output without a copy, and has them sent. They never split
    /// the bytes of one call of a [`Writer`](crate::Writer), and they go ahead of output that waits
    /// for its commit. They count toward the limits of the output as all output does.
    ///
    /// # Errors
    ///
    /// * The reason of the end, if the connection has ended. It also ends with this call if the
    ///   bytes do not fit in its [`max_output`](crate::options::ConnOptions::max_output).
    /// * `NotConnected` if the connection was already dropped.
    /// * [`ErrorKind::WriteAfterShutdown`](crate::error::ErrorKind::WriteAfterShutdown) if its
    ///   output was shut down.
    ///
    /// If the call fails, none of the bytes are sent.
    pub fn push(&self, bytes: Bytes) -> io::Result<()> {
        let shared = self.shared.upgrade().ok_or_else(not_connected)?;
        shared.push_committed(bytes)?;
        shared.request_send();
        Ok(())
    }

    /// Returns the current timeouts of the connection, or `None` if it was already dropped.
    #[must_use]
    pub fn timeouts(&self) -> Option<Timeouts> {
        self.shared.upgrade().map(|shared| shared.timeouts())
    }

    /// Changes the timeouts, as [`Connection::set_timeouts`](crate::Connection::set_timeouts) does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig) with the name of the
    /// field, for a duration of zero.
    pub fn set_timeouts(&self, timeouts: Timeouts) -> io::Result<()> {
        timeouts.validate()?;
        if let Some(shared) = self.shared.upgrade() {
            shared.set_timeouts(timeouts);
        }
        Ok(())
    }
}

/// Returns the error for a connection of which nothing is left, not even the reason of its end.
pub(super) fn not_connected() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
