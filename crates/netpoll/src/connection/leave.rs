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
use super::calling::Caller;
use super::inbox::InputEnd;
use super::link::Ending;
use super::outbox::waiting::SentWait;
use super::session::Session;
use super::state::Output;
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
        let fd = self.link.as_fd().try_clone_to_owned()?;
        let uncommitted = lock(&self.link.outbox).leave();
        drop(uncommitted);
        self.link.ask_end(Ending::Leave);
        let link = &*self.link;
        let mut wait = SentWait::default();
        poll_fn(|context| {
            let left = wait.register(link, context, None, |outbox| outbox.has_left().ok_or(0));
            left.map_or(Poll::Pending, Poll::Ready)
        })
        .await?;
        drop(wait);
        let mut unread = std::mem::take(&mut self.held.input.chain);
        if let Some(mut inbox) = self.link.inbox_if_any() {
            unread.append(std::mem::take(&mut inbox.chain));
        }
        Ok((fd, unread))
    }
}

impl<C: Caller> Session<C> {
    /// Lets go of the socket, if that was asked for and all output has left.
    pub(super) fn leave_if_asked(&mut self) {
        if self.link.ending() != Ending::Leave || self.life.broken().is_some() {
            return;
        }
        let mut outbox = lock(&self.link.outbox);
        // Under the lock again: an abort that came before it has reset the socket.
        if outbox.unsent() > 0 || self.link.is_aborted() {
            return;
        }
        let owes_fin = outbox.is_finished() && self.life.output() == Output::Open;
        let waker = outbox.let_go(CloseReason::Local);
        drop(outbox);
        if owes_fin {
            // A peer that has torn the connection down needs no FIN.
            let _sent = socket::shutdown(self.link.as_fd(), Shutdown::Write).ok();
        }
        self.link.let_go_of_socket();
        self.life.leave();
        self.link.finish_input(InputEnd::Closed(CloseReason::Local));
        waker.wake();
    }
}
