// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Writer`]: the output of a connection.
//!
//! A put never waits and never fails. Committed output is sent without a further call: after every
//! poll of a handler, ready or pending, unless its request batch goes on. A connection that is
//! owned off its poller sends when its `Reader` waits, at the high watermark, or with
//! [`Writer::flush`].

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Reservation};

use super::output_buffer::sent_wait::SentWait;
use super::shared::Shared;
use crate::fairness;
use crate::foreign::wake_by_ref;
use crate::poll::notifier::{self, Notice};
use crate::sync::{Arc, lock};

/// The writing side of a [`Connection`](crate::Connection).
///
/// Each method takes the lock of the output buffer once; [`with`](Self::with) makes many puts under
/// one. On a connection that has ended, puts are discarded, and [`flush`](Self::flush) returns the
/// reason. More than `max_output` unsent bytes end the connection with
/// [`Limit::Output`](crate::error::Limit::Output).
#[derive(Debug)]
pub struct Writer<'a> {
    shared: &'a Arc<Shared>,
    deadline: Option<Instant>,
}

impl<'a> Writer<'a> {
    #[inline]
    pub(crate) fn new(shared: &'a Arc<Shared>) -> Self {
        Self {
            shared,
            deadline: None,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.shared
    }

    /// Sends queued output, for a task that is about to wait for something other than this
    /// connection.
    pub(crate) fn send_unless_running(&self) {
        self.shared.send_unless_running();
    }

    /// Sets a deadline for [`flush`](Self::flush) and [`writable`](Self::writable): a connection
    /// whose peer has not taken all output by then ends, as it does after
    /// [`Timeouts::write`](crate::options::Timeouts::write), which applies as well.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Copies `bytes` to the end.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.shared.put_slice(bytes);
    }

    /// Copies `parts` to the end, one behind the other, as one put: no other put comes between
    /// them. Takes the lock of the output buffer once: a header and its body cost less than with
    /// two calls.
    ///
    /// ```no_run
    /// # async fn example(conn: &mut netpoll::Connection, body: &[u8]) {
    /// let length = body.len() as u32;
    /// conn.writer().put_slices(&[&length.to_be_bytes(), body]);
    /// # }
    /// ```
    #[inline(always)]
    pub fn put_slices(&mut self, parts: &[&[u8]]) {
        self.shared.put_slices(parts);
    }

    /// Copies `text` to the end.
    pub fn put_str(&mut self, text: &str) {
        self.put_slice(text.as_bytes());
    }

    /// Appends one byte.
    pub fn put_u8(&mut self, byte: u8) {
        self.shared.put_array([byte]);
    }

    /// Appends `bytes` without a copy. Worth it from a few KiB on.
    pub fn push(&mut self, bytes: Bytes) {
        self.shared.append(LinkBuffer::from(bytes));
    }

    /// Appends all readable bytes of `buffer`, without a copy.
    pub fn append(&mut self, buffer: LinkBuffer) {
        self.shared.append(buffer);
    }

    /// Lets `fill` build a part of the output in a buffer, appends it as a whole, and returns the
    /// result of `fill`. No lock is held while `fill` runs.
    pub fn with<R>(&mut self, fill: impl FnOnce(&mut LinkBuffer) -> R) -> R {
        let mut part = LinkBuffer::new();
        let result = fill(&mut part);
        self.append(part);
        result
    }

    /// Reserves `n` zeroed bytes, to be filled in by [`fill`](Self::fill) before the
    /// [`commit`](Self::commit). The owner's later puts wait for the commit, and leave with it in
    /// one piece. Output that others send, through a
    /// [`ConnectionHandle`](crate::connection::ConnectionHandle) or a
    /// [`WriteQueue`](crate::connection::WriteQueue), goes before or after the whole of it, and
    /// does not wait.
    ///
    /// The reservation stays open beyond this writer, for the next one of the connection. A
    /// [`shutdown`](Self::shutdown), the end of the connection, and the drop of an
    /// [`OwnedWriter`](crate::connection::OwnedWriter) drop the uncommitted bytes, and no output of
    /// others. Uncommitted bytes count toward
    /// [`max_output`](crate::options::ConnOptions::max_output).
    ///
    /// Makes two small allocations if no reservation is open; the connection keeps one of them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::FrameTooLarge`](crate::error::ErrorKind::FrameTooLarge) above 1 GiB; the reason
    /// if the connection has ended.
    pub fn reserve(&mut self, n: usize) -> io::Result<Reservation> {
        self.shared.reserve(n)
    }

    /// Copies `bytes` to the front of a reservation.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](crate::error::OutOfRange) if the reservation has ended or is shorter; the
    /// reason if the connection has ended.
    pub fn fill(&mut self, reserved: &Reservation, bytes: &[u8]) -> io::Result<()> {
        self.shared.fill(reserved, bytes)
    }

    /// Inserts `bytes` into the uncommitted output, without a copy: before its byte `at`, counted
    /// from the first. With nothing uncommitted that is a [`push`](Self::push).
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](crate::error::OutOfRange) if `at` is past the end of the uncommitted output;
    /// the reason if the connection has ended.
    pub fn insert(&mut self, at: usize, bytes: Bytes) -> io::Result<()> {
        self.shared.insert(at, bytes)
    }

    /// Commits the first `k` uncommitted bytes, drops the rest, and ends every reservation. Takes
    /// the lock of the output buffer twice; pushed memory is dropped while the lock is not held.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](crate::error::OutOfRange) if there are fewer than `k`; the reason if the
    /// connection has ended.
    pub fn commit(&mut self, k: usize) -> io::Result<()> {
        self.shared.commit(Some(k))
    }

    /// Commits all uncommitted bytes and ends every reservation.
    pub fn commit_all(&mut self) {
        // A connection that has ended has nothing to commit.
        let _committed = self.shared.commit(None).is_ok();
    }

    /// Returns the number of uncommitted bytes.
    #[must_use]
    pub fn uncommitted_len(&self) -> usize {
        lock(&self.shared.output_buffer).uncommitted_len()
    }

    /// Returns the number of committed bytes that the kernel has not taken yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        lock(&self.shared.output_buffer).unsent()
    }

    /// Sends all committed output, and returns when the kernel has the last byte of it.
    ///
    /// # Errors
    ///
    /// Why the connection ended, if it ended before that. One reason is that the peer did not take
    /// all output within [`Timeouts::write`](crate::options::Timeouts::write) or by the
    /// [deadline](Self::with_deadline).
    /// [`ErrorKind::WriteAfterShutdown`](crate::error::ErrorKind::WriteAfterShutdown) if something
    /// was put after a [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// Queued output is sent all the same.
    ///
    /// There is one flush at a time; a second one beside it does not compile:
    ///
    /// ```compile_fail,E0499
    /// # async fn example(conn: &mut netpoll::Connection) -> std::io::Result<()> {
    /// let mut writer = conn.writer();
    /// let one = writer.flush();
    /// let other = writer.flush(); // a second borrow of `writer`
    /// one.await?;
    /// other.await
    /// # }
    /// ```
    pub async fn flush(&mut self) -> io::Result<()> {
        fairness::proceed().await;
        let mut wait = SentWait::default();
        poll_fn(|context| self.poll_sent(context, 0, &mut wait)).await
    }

    /// Waits for room: returns at once if fewer than
    /// [`write_high`](crate::options::ConnOptions::write_high) bytes are unsent, else when at most
    /// [`write_low`](crate::options::ConnOptions::write_low) bytes are. The output of one call is
    /// limited by the connection's [`max_output`](crate::options::ConnOptions::max_output); a call
    /// that waits for room now and then may put as much as it likes.
    ///
    /// ```no_run
    /// # async fn example(conn: &mut netpoll::Connection, rows: Vec<String>) -> std::io::Result<()> {
    /// let mut writer = conn.writer();
    /// for row in rows {
    ///     writer.writable().await?;
    ///     writer.put_str(&row);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    ///
    /// # Cancel safety
    ///
    /// Queued output is sent all the same.
    pub async fn writable(&mut self) -> io::Result<()> {
        let mut wait = SentWait::default();
        poll_fn(|context| self.poll_writable(context, &mut wait)).await
    }

    /// Polls [`writable`](Self::writable). `wait` keeps its state between polls.
    pub(crate) fn poll_writable(
        &mut self,
        context: &mut Context<'_>,
        wait: &mut SentWait<'a>,
    ) -> Poll<io::Result<()>> {
        ready!(fairness::poll_proceed(context));
        // Once it waits, it waits for the low watermark.
        if !wait.has_begun() && self.is_writable()? {
            return Poll::Ready(Ok(()));
        }
        self.poll_sent(context, self.shared.options.write_low, wait)
    }

    fn is_writable(&self) -> io::Result<bool> {
        let output_buffer = lock(&self.shared.output_buffer);
        match output_buffer.close_reason() {
            Some(reason) => Err(reason.to_error()),
            None => Ok(output_buffer.unsent() < self.shared.options.write_high),
        }
    }

    fn poll_sent(
        &mut self,
        context: &mut Context<'_>,
        most: usize,
        wait: &mut SentWait<'a>,
    ) -> Poll<io::Result<()>> {
        let sent = lock(&self.shared.output_buffer).flush_result(most);
        if let Some(result) = sent {
            wait.clear();
            return Poll::Ready(result);
        }
        // Most of the time the kernel takes all output, and no wait is needed.
        self.shared.send_unless_running();
        let sent = wait.register(self.shared, context, self.deadline, |output_buffer| {
            output_buffer.flush_result(most).ok_or(most)
        });
        if let Some(result) = sent {
            wait.clear();
            if notifier::may_continue() {
                return Poll::Ready(result);
            }
            // A task that puts without end into a socket that takes it all lets others run, too.
            wake_by_ref(context.waker());
            return Poll::Pending;
        }
        if self.deadline.is_some() {
            self.shared.notifier.notify_unless_running(Notice::Deadline);
        }
        Poll::Pending
    }
}

/// Puts of fixed-size numbers.
macro_rules! numbers {
    ($($name:ident, $number:ty, $to_bytes:ident, $order:literal;)*) => {
        impl Writer<'_> {
            $(
                #[doc = concat!("Appends a `", stringify!($number), "`, ", $order, ".")]
                #[inline]
                pub fn $name(&mut self, number: $number) {
                    self.shared.put_array(number.$to_bytes());
                }
            )*
        }
    };
}

numbers! {
    put_u16, u16, to_be_bytes, "big-endian";
    put_u16_le, u16, to_le_bytes, "little-endian";
    put_u32, u32, to_be_bytes, "big-endian";
    put_u32_le, u32, to_le_bytes, "little-endian";
    put_u64, u64, to_be_bytes, "big-endian";
    put_u64_le, u64, to_le_bytes, "little-endian";
}
