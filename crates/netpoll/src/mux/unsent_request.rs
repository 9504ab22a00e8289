// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends the request of a call, and returns a request that was not sent to the caller, which may
//! send it on another connection.

use std::future::{Future, poll_fn};
use std::io;
use std::task::Poll;
use std::time::Instant;

use netpoll_buffer::LinkBuffer;

use super::client_connection::{ClientConnection, PendingCall};
use crate::connection::write_queue::SendError;
use crate::time::Elapsed;

/// Why a request was not sent.
#[derive(Debug)]
pub(super) enum UnsentRequest {
    /// It is complete, and may be sent on another connection.
    Retryable(SendError),
    Lost(io::Error),
}

impl UnsentRequest {
    /// Returns the request, to be sent on another connection, unless it is lost or `is_final`
    /// returns `true`.
    pub(super) fn into_buffer_unless(
        self,
        is_final: impl FnOnce() -> bool,
    ) -> io::Result<LinkBuffer> {
        match self {
            Self::Retryable(unsent) if !is_final() => Ok(unsent.buffer),
            Self::Retryable(unsent) => Err(unsent.error),
            Self::Lost(error) => Err(error),
        }
    }
}

/// Sends the request of `call`, before its deadline.
pub(super) async fn send<F: Send + 'static>(
    connection: &ClientConnection<F>,
    buffer: LinkBuffer,
    call: &PendingCall<F>,
    deadline: Option<Instant>,
) -> Result<(), UnsentRequest> {
    let unsent = match connection.queue.try_send(buffer) {
        Err(unsent) if unsent.error.kind() == io::ErrorKind::WouldBlock => unsent.buffer,
        other => return other.map_err(UnsentRequest::Retryable),
    };
    let mut sent = std::pin::pin!(connection.queue.send(unsent));
    poll_fn(|context| {
        // Polled first, since it returns the request if the connection has ended.
        if let Poll::Ready(sent) = sent.as_mut().poll(context) {
            return Poll::Ready(sent.map_err(UnsentRequest::Retryable));
        }
        let lost = |error| Poll::Ready(Err(UnsentRequest::Lost(error)));
        match call.poll(context) {
            // The call timed out, or the client was closed.
            Poll::Ready(Err(error)) => lost(error),
            // A request that was not sent cannot have an answer.
            Poll::Ready(Ok(_)) => lost(io::ErrorKind::InvalidData.into()),
            Poll::Pending if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                lost(Elapsed.into())
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
