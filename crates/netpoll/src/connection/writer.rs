// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Writer`]: the output of a connection.
//!
//! Putting never waits and never fails. What is committed leaves by itself: after every poll of a
//! handler, ready or pending, unless the burst it answers goes on; for a connection that is held
//! off its poller, when its Reader waits, past the write mark, or with [`Writer::flush`].

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
/// Each method takes the outbox's lock once; [`with`](Self::with) makes many puts under one. On a
/// connection that has ended, what is put is discarded, and [`flush`](Self::flush) says why. More
/// than `max_output` unsent bytes end the connection with [`Limit::Output`](crate::Limit::Output).
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

    /// Has what was put sent soon, for whoever waits for something else than this connection.
    pub(crate) fn send_unless_running(&self) {
        self.shared.send_unless_running();
    }

    /// This writer with a deadline for its [`flush`](Self::flush) and [`writable`](Self::writable): a connection whose peer has not
    /// taken everything by then ends, as it does after
    /// [`Timeouts::write`](crate::Timeouts::write), which holds beside it.
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

    /// Copies `parts` to the end, one behind the other, as one put: no other comes between them. Takes
    /// the outbox's lock once: a header and its body cost less than by two calls.
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

    /// One byte to the end.
    pub fn put_u8(&mut self, byte: u8) {
        self.shared.put_array([byte]);
    }

    /// Adds `bytes` as they are, without a copy. Worth it from a few KiB on.
    pub fn push(&mut self, bytes: Bytes) {
        self.shared.append(LinkBuffer::from(bytes));
    }

    /// Adds everything that `buffer` can read, without a copy.
    pub fn append(&mut self, buffer: LinkBuffer) {
        self.shared.append(buffer);
    }

    /// Lets `fill` build a part of the output in a buffer, and appends it as a whole. Nothing is
    /// locked while `fill` runs. What it returns is returned.
    pub fn with<R>(&mut self, fill: impl FnOnce(&mut LinkBuffer) -> R) -> R {
        let mut part = LinkBuffer::new();
        let result = fill(&mut part);
        self.append(part);
        result
    }

    /// Leaves room for `n` zeroed bytes, to be filled in by [`fill`](Self::fill) before the
    /// [`commit`](Self::commit). What the owner of the connection puts from here to the commit waits for
    /// that, and leaves in one piece. What others send, through a
    /// [`ConnectionHandle`](crate::ConnectionHandle) or a [`WriteQueue`](crate::WriteQueue), goes before
    /// or after the whole of it, and does not wait. It stays open beyond this writer, for the next one of
    /// the connection. A [`finish`](Self::shutdown), the end of the connection, and the drop of an
    /// [`OwnedWriter`](crate::OwnedWriter) drop what is uncommitted, and nothing of others. Uncommitted
    /// bytes count towards [`max_output`](crate::ConnOptions::max_output).
    ///
    /// Two small allocations where nothing is open, of which the connection keeps one.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::TooLarge) above 1 GiB; the reason if the connection has ended.
    pub fn reserve(&mut self, n: usize) -> io::Result<Reservation> {
        self.shared.reserve(n)
    }

    /// Copies `bytes` to the front of what was reserved.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](crate::OutOfRange) if the reservation has ended or is shorter; the reason if the connection has
    /// ended.
    pub fn fill(&mut self, reserved: &Reservation, bytes: &[u8]) -> io::Result<()> {
        self.shared.fill(reserved, bytes)
    }

    /// Puts `bytes` in the middle of what is uncommitted, without a copy: before its `at`-th byte,
    /// counted from the first. With nothing uncommitted that is a [`push`](Self::push).
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](crate::OutOfRange) if `at` is past the end of what is uncommitted; the reason if the connection
    /// has ended.
    pub fn insert(&mut self, at: usize, bytes: Bytes) -> io::Result<()> {
        self.shared.insert(at, bytes)
    }

    /// Commits the first `k` of all uncommitted bytes, drops the rest, and ends every reservation. Takes
    /// the outbox's lock twice; memory that was pushed is dropped while it is not held.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](crate::OutOfRange) if there are fewer; the reason if the connection has ended.
    pub fn commit(&mut self, k: usize) -> io::Result<()> {
        self.shared.commit(Some(k))
    }

    /// Commits all uncommitted bytes and ends every reservation.
    pub fn commit_all(&mut self) {
        // A connection that has ended has nothing to commit.
        let _committed = self.shared.commit(None).is_ok();
    }

    /// How many bytes wait for a commit.
    #[must_use]
    pub fn uncommitted_len(&self) -> usize {
        lock(&self.shared.output_buffer).uncommitted_len()
    }

    /// How many committed bytes the kernel has not taken yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        lock(&self.shared.output_buffer).unsent()
    }

    /// Sends what is committed, and returns when the kernel has the last byte of it.
    ///
    /// # Errors
    ///
    /// Why the connection ended, if it did before that; among the reasons is that the peer did not
    /// take everything within [`Timeouts::write`](crate::Timeouts::write) or by the
    /// [deadline](Self::with_deadline). [`WriteAfterShutdown`](crate::WriteAfterShutdown) if something was put
    /// after a [`finish`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// What was put is sent all the same.
    ///
    /// There is one flush at a time; another beside it does not compile:
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

    /// Waits for room: returns at once if less than
    /// [`write_high`](crate::ConnOptions::write_high) bytes are unsent, else when no more than
    /// [`write_low`](crate::ConnOptions::write_low) are. What a call puts is bounded by the
    /// connection's [`max_output`](crate::ConnOptions::max_output); one that waits for room now and
    /// then may put as much as it likes.
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
    /// What was put is sent all the same.
    pub async fn writable(&mut self) -> io::Result<()> {
        let mut wait = SentWait::default();
        poll_fn(|context| self.poll_writable(context, &mut wait)).await
    }

    /// As [`writable`](Self::writable), which is waited for by `wait` between polls.
    pub(crate) fn poll_writable(
        &mut self,
        context: &mut Context<'_>,
        wait: &mut SentWait<'a>,
    ) -> Poll<io::Result<()>> {
        ready!(fairness::poll_proceed(context));
        // Once it waits, it waits for the lower mark.
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
        // Most of the time the kernel takes all of it, and there is nothing to wait for.
        self.shared.send_unless_running();
        let sent = wait.register(self.shared, context, self.deadline, |output_buffer| {
            output_buffer.flush_result(most).ok_or(most)
        });
        if let Some(result) = sent {
            wait.clear();
            if notifier::may_continue() {
                return Poll::Ready(result);
            }
            // Who puts without end into a socket that takes all of it lets others run, too.
            wake_by_ref(context.waker());
            return Poll::Pending;
        }
        if self.deadline.is_some() {
            self.shared.notifier.notify_unless_running(Notice::Deadline);
        }
        Poll::Pending
    }
}

/// Fixed-size numbers.
macro_rules! numbers {
    ($($name:ident, $number:ty, $to_bytes:ident, $order:literal;)*) => {
        impl Writer<'_> {
            $(
                #[doc = concat!("A `", stringify!($number), "` to the end, ", $order, ".")]
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
