// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detaches a socket from its connection, so that it goes on without it.
//!
//! The owner makes the request, and the poller completes it when all output is sent. From then on
//! the poller neither reads nor sends, and all that it has read is in the input buffer. Every byte
//! from the peer is therefore with the owner or still in the kernel.
//!
//! The owner gets a duplicate of the descriptor. The connection's own descriptor is closed when the
//! shared state is dropped, as always. That ends nothing while the duplicate is open.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::task::Poll;

use netpoll_buffer::LinkBuffer;
use netpoll_sys::socket;

use super::Connection;
use super::dispatcher::Dispatcher;
use super::engine::Engine;
use super::input_buffer::InputEnd;
use super::lifecycle::OutputState;
use super::output_buffer::sent_wait::SentWait;
use super::shared::CloseRequest;
use crate::error::CloseReason;
use crate::sync::lock;

impl Connection {
    /// Takes the socket out of the connection, and returns its descriptor with the unread input.
    /// First all committed output is sent. Then the poller releases the socket without ending
    /// either direction. Every byte that the peer has sent is in the returned buffer or still to be
    /// read from the descriptor. Drops uncommitted output and the value that is
    /// [attached](Self::attach).
    ///
    /// The descriptor is a duplicate, close-on-exec and non-blocking. Futures and callbacks that
    /// wait for the end of the connection get the reason [`Local`](CloseReason::Local). Costs two
    /// system calls and a round trip to the poller.
    ///
    /// # Errors
    ///
    /// * The reason of the end, if the connection ended before all output was sent.
    /// * `EMFILE` if the process has too many open descriptors.
    ///
    /// In both cases the connection is closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection is closed.
    ///
    /// ```no_run
    /// # async fn example(conn: netpoll::Connection) -> std::io::Result<()> {
    /// let (fd, unread) = conn.into_fd().await?;
    /// let stream = std::net::TcpStream::from(fd);
    /// stream.set_nonblocking(false)?;
    /// println!("{} bytes come before what {stream:?} has", unread.len());
    /// # Ok(()) }
    /// ```
    pub async fn into_fd(mut self) -> io::Result<(OwnedFd, LinkBuffer)> {
        let fd = self.shared.as_fd().try_clone_to_owned()?;
        let uncommitted = lock(&self.shared.output_buffer).begin_detach();
        drop(uncommitted);
        self.shared.request_close(CloseRequest::Detach);
        let shared = &*self.shared;
        let mut wait = SentWait::default();
        poll_fn(|context| {
            let left = wait.register(shared, context, None, |output_buffer| {
                output_buffer.detach_result().ok_or(0)
            });
            left.map_or(Poll::Pending, Poll::Ready)
        })
        .await?;
        drop(wait);
        let mut unread = std::mem::take(&mut self.local.reader.buffer);
        if let Some(mut input_buffer) = self.shared.input_buffer_if_any() {
            unread.append(std::mem::take(&mut input_buffer.buffer));
        }
        Ok((fd, unread))
    }
}

impl<C: Dispatcher> Engine<C> {
    /// Releases the socket, if that was requested and all output is sent.
    pub(super) fn detach_if_requested(&mut self) {
        if self.shared.close_request() != CloseRequest::Detach || self.lifecycle.broken().is_some()
        {
            return;
        }
        let mut output_buffer = lock(&self.shared.output_buffer);
        // Checked under the lock: an abort that came before the request has reset the socket.
        if output_buffer.unsent() > 0 || self.shared.is_aborted() {
            return;
        }
        let owes_fin = output_buffer.is_shut_down() && self.lifecycle.output() == OutputState::Open;
        let waker = output_buffer.detach(CloseReason::Local);
        drop(output_buffer);
        if owes_fin {
            // If the peer has torn the connection down, it needs no FIN.
            let _sent = socket::shutdown(self.shared.as_fd(), Shutdown::Write).ok();
        }
        self.shared.release_socket();
        self.lifecycle.detach();
        self.shared.end_input(InputEnd::Closed(CloseReason::Local));
        waker.wake();
    }
}
