// SPDX-License-Identifier: MIT OR Apache-2.0
//! A socket is taken out of its connection, and goes on without it.
//!
//! The owner asks, and the poller answers when all output has left: from then on it neither reads
//! nor sends, and what it has read is in the inbox. So every byte of the peer's is with the owner
//! or still with the kernel. The descriptor that he gets is a duplicate: the link's own is closed by
//! the drop of the last link, as ever, which ends nothing while there is another.

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
    /// Takes the socket out of the connection: what was put is sent, the poller lets go without
    /// ending either stream, and the descriptor is handed over with what has come and was not
    /// read. Every byte that the peer has sent is in the buffer or still to be read from the
    /// descriptor. What is not committed is dropped, and so is what is [attached](Self::attach).
    ///
    /// The descriptor is a duplicate, close-on-exec and non-blocking. To whoever waits for the end
    /// of the connection, this is one of the reason [`Local`](CloseReason::Local). Two system calls
    /// and a hop to the poller.
    ///
    /// # Errors
    ///
    /// Why the connection has ended, if it did before all output had left; `EMFILE`. It is closed
    /// then.
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
    /// Lets go of the socket, if that was asked for and all output has left.
    pub(super) fn detach_if_requested(&mut self) {
        if self.shared.close_request() != CloseRequest::Detach || self.lifecycle.broken().is_some()
        {
            return;
        }
        let mut output_buffer = lock(&self.shared.output_buffer);
        // Under the lock again: an abort that came before it has reset the socket.
        if output_buffer.unsent() > 0 || self.shared.is_aborted() {
            return;
        }
        let owes_fin = output_buffer.is_shut_down() && self.lifecycle.output() == OutputState::Open;
        let waker = output_buffer.detach(CloseReason::Local);
        drop(output_buffer);
        if owes_fin {
            // A peer that has torn the connection down needs no FIN.
            let _sent = socket::shutdown(self.shared.as_fd(), Shutdown::Write).ok();
        }
        self.shared.release_socket();
        self.lifecycle.detach();
        self.shared.end_input(InputEnd::Closed(CloseReason::Local));
        waker.wake();
    }
}
