// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing with poll functions.
//!
//! A write puts into the output buffer below the high watermark, or sends straight from the
//! caller's memory: always off the connection's poller, where nothing else would send soon, and on
//! the poller from [`DIRECT_MIN`] bytes on, where the copy costs more than the system call.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use netpoll_buffer::LinkBuffer;

use super::FlushMode;
use super::ends::{broken_pipe, sent_before_end};
use crate::connection::Connection;
use crate::connection::halves::{OwnedWriter, half_methods};
use crate::connection::output_buffer::sent_wait::SentWait;
use crate::connection::shared::direct_send::total_len;
use crate::connection::writer::Writer;
use crate::fairness;
use crate::sync::lock;

/// From this many bytes on, a write on the poller is sent from the caller's memory.
const DIRECT_MIN: usize = 16 << 10;

/// From this many bytes on, `Bytes` are shared with the output and not copied.
const SHARE_MIN: usize = 4 << 10;

half_methods! {
    for Connection, OwnedWriter, as &mut writer:

    /// Polls for room, and returns how many bytes fit below
    /// [`write_high`](crate::options::ConnOptions::write_high), at least one. If there is no room,
    /// it is ready when at most [`write_low`](crate::options::ConnOptions::write_low) bytes are
    /// unsent, as [`Writer::writable`](crate::Writer::writable).
    ///
    /// # Errors
    ///
    /// Why nothing can be written: the kernel's error, with its errno;
    /// [`ErrorKind::WriteAfterShutdown`](crate::error::ErrorKind::WriteAfterShutdown) after a
    /// shutdown, which is a `BrokenPipe`; `TimedOut` if the peer did not take the output within
    /// [`Timeouts::write`](crate::options::Timeouts::write); else `BrokenPipe` with the reason.
    ///
    /// # Cancel safety
    ///
    /// Queued output is sent all the same.
    fn poll_write_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>>
        = |writer| writer.poll_room(context);

    /// Writes the first of `bytes`, and returns how many it took: at most what
    /// [`poll_write_ready`](Self::poll_write_ready) returns, and 0 only for no bytes.
    ///
    /// On the connection's poller the bytes are copied and leave when the poll of the handler ends.
    /// On another thread they are sent before this call returns, and what the kernel does not take
    /// is sent by the poller. From 16 KiB on, and on other threads always, they are sent from where
    /// they are if nothing is queued before them: one system call, and a copy of the rest.
    ///
    /// # Errors
    ///
    /// As [`poll_write_ready`](Self::poll_write_ready). No byte was taken then.
    ///
    /// # Cancel safety
    ///
    /// A call that returned `Pending` has taken nothing.
    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>
        = |writer| writer.poll_put(context, &[IoSlice::new(bytes)]);

    /// As [`poll_write`](Self::poll_write), for the bytes of `parts` one behind the other. At most
    /// 64 parts are sent with one system call.
    ///
    /// # Errors
    ///
    /// As [`poll_write_ready`](Self::poll_write_ready). No byte was taken then.
    ///
    /// # Cancel safety
    ///
    /// A call that returned `Pending` has taken nothing.
    fn poll_write_vectored(&mut self, context: &mut Context<'_>, parts: &[IoSlice<'_>])
        -> Poll<io::Result<usize>>
        = |writer| writer.poll_put(context, parts);

    /// As [`poll_write`](Self::poll_write), and takes what it writes from the front of `bytes`.
    /// From 4 KiB on the memory is shared with the output and not copied; fewer bytes are copied.
    ///
    /// # Errors
    ///
    /// As [`poll_write_ready`](Self::poll_write_ready). No byte was taken then.
    ///
    /// # Cancel safety
    ///
    /// A call that returned `Pending` has taken nothing.
    fn poll_write_bytes(&mut self, context: &mut Context<'_>, bytes: &mut Bytes)
        -> Poll<io::Result<usize>>
        = |writer| writer.poll_push(context, bytes);

    /// Sends all committed output, or has the poller send it: `mode` says when the call is ready.
    ///
    /// # Errors
    ///
    /// As [`poll_write_ready`](Self::poll_write_ready), if output is lost with the connection. A
    /// connection that has ended in order, with all its output sent, is flushed.
    ///
    /// # Cancel safety
    ///
    /// Queued output is sent all the same.
    fn poll_flush(&mut self, context: &mut Context<'_>, mode: FlushMode) -> Poll<io::Result<()>>
        = |writer| writer.poll_flush_in(context, mode);

    /// Ends the output, as [`Writer::shutdown`](crate::Writer::shutdown) does, and is ready when
    /// all committed output and FIN are sent. The input goes on. Ready at once if the connection
    /// has ended in order, which sends FIN, too.
    ///
    /// # Errors
    ///
    /// As [`poll_flush`](Self::poll_flush).
    ///
    /// # Cancel safety
    ///
    /// The first poll shuts down. Output and FIN are sent all the same.
    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>
        = |writer| writer.poll_shut_down(context);
}

impl Writer<'_> {
    /// See `poll_write_ready`.
    fn poll_room(mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let shared = self.shared();
        let closed = lock(&shared.output_buffer).closed_error();
        if let Some(error) = closed {
            return Poll::Ready(Err(broken_pipe(error)));
        }
        let (low, high) = (shared.options.write_low, shared.options.write_high);
        let mut wait = SentWait::registered(shared, low);
        let writable = self.poll_writable(context, &mut wait);
        wait.leave();
        ready!(writable).map_err(broken_pipe)?;
        let unsent = lock(&self.shared().output_buffer).unsent();
        Poll::Ready(Ok(high.saturating_sub(unsent).max(1)))
    }

    /// See `poll_write`.
    fn poll_put(
        mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A direct send takes the first parts only, which must not all be empty.
        let Some(first) = parts.iter().position(|part| !part.is_empty()) else {
            return Poll::Ready(Ok(0));
        };
        let parts = &parts[first..];
        let len = total_len(parts);
        ready!(fairness::poll_proceed(context));
        let on_poller = self.shared().notifier.is_on_poller_thread();
        if (len >= DIRECT_MIN || !on_poller)
            && let Some(sent) = self.shared().send_directly(parts)
        {
            return Poll::Ready(sent);
        }
        let count = match self.shared().put_below_high_watermark(parts) {
            Some(count) => count,
            None => {
                let room = ready!(self.reborrow().poll_room(context))?;
                self.shared().put_at_most(parts, room)
            }
        };
        if !on_poller {
            self.shared().send_now();
        }
        Poll::Ready(Ok(count))
    }

    /// See `poll_write_bytes`.
    fn poll_push(
        mut self,
        context: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<io::Result<usize>> {
        if bytes.len() < SHARE_MIN {
            let count = ready!(self.reborrow().poll_put(context, &[IoSlice::new(bytes)]))?;
            bytes.advance(count);
            return Poll::Ready(Ok(count));
        }
        let room = ready!(self.reborrow().poll_room(context))?;
        let part = bytes.split_to(room.min(bytes.len()));
        let count = part.len();
        self.shared().append(LinkBuffer::from(part));
        if !self.shared().notifier.is_on_poller_thread() {
            self.shared().send_now();
        }
        Poll::Ready(Ok(count))
    }

    /// See `poll_flush`.
    fn poll_flush_in(mut self, context: &mut Context<'_>, mode: FlushMode) -> Poll<io::Result<()>> {
        if mode == FlushMode::EndOfPoll && self.shared().notifier.is_on_poller_thread() {
            let sent = lock(&self.shared().output_buffer).flush_result(usize::MAX);
            return Poll::Ready(self.with_orderly_end(sent.unwrap_or(Ok(()))));
        }
        ready!(fairness::poll_proceed(context));
        let sent = ready!(self.poll_all_sent(context));
        Poll::Ready(self.with_orderly_end(sent))
    }

    /// See `poll_shutdown`.
    fn poll_shut_down(mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared().shut_down_output();
        let sent = ready!(self.poll_all_sent(context));
        if sent.is_ok() {
            self.shared().send_fin();
        }
        Poll::Ready(self.with_orderly_end(sent))
    }

    fn poll_all_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wait = SentWait::registered(self.shared(), 0);
        let sent = self.poll_sent(context, 0, &mut wait);
        wait.leave();
        sent
    }

    /// Returns the result of a flush. If nothing is unsent, an orderly end of the connection is no
    /// error.
    fn with_orderly_end(&self, sent: io::Result<()>) -> io::Result<()> {
        sent.or_else(|error| match lock(&self.shared().output_buffer).unsent() {
            0 => sent_before_end(error),
            _ => Err(broken_pipe(error)),
        })
    }
}
