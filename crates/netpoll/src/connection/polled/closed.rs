// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wait for the end of a connection, as a poll function.

use std::task::{Context, Poll};

use crate::connection::Connection;
use crate::connection::halves::{OwnedWriter, half_methods};
use crate::error::CloseReason;

half_methods! {
    for Connection, OwnedWriter, as &mut writer:

    /// Polls for the end of the connection, and returns the reason as
    /// [`Connection::closed`](crate::Connection::closed) does. Ready each time once it has ended.
    ///
    /// A connection has one waker for this call, and keeps it until the end. Takes three locks; the
    /// first call costs two allocations, and a third if nothing has waited for input yet.
    fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<CloseReason>
        = |writer| writer.shared().poll_closed(context.waker());
}
