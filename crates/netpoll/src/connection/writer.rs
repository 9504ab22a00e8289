// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Writer`]: the output of a connection.
//!
//! A put never waits and never fails. Committed output is sent without a further call: after every
//! poll of a handler, ready or pending, unless its request batch goes on. A connection that is
//! owned off its poller sends when its `Reader` waits, at the high watermark, or with
//! [`Writer::flush`].

mod methods;

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use netpoll_buffer::LinkBuffer;

use super::output_buffer::sent_wait::SentWait;
use super::shared::Shared;
use crate::codec::Codec;
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

    /// Borrows this writer, for one call.
    #[inline]
    pub(super) fn reborrow(&mut self) -> Writer<'_> {
        Writer {
            shared: self.shared,
            deadline: self.deadline,
        }
    }

    #[inline]
    fn view(&self) -> &Shared {
        self.shared
    }

    /// See `with`.
    fn put_with<R>(self, fill: impl FnOnce(&mut LinkBuffer) -> R) -> R {
        let mut part = LinkBuffer::new();
        let result = fill(&mut part);
        self.shared.append(part);
        result
    }

    /// See `frame`.
    fn put_frame<C: Codec + ?Sized>(self, codec: &C, frame: C::Frame) -> io::Result<()> {
        let mut part = LinkBuffer::new();
        codec.encode(frame, &mut part)?;
        self.shared.append(part);
        Ok(())
    }

    /// See `flush`.
    async fn send_all(mut self) -> io::Result<()> {
        fairness::proceed().await;
        let mut wait = SentWait::default();
        poll_fn(|context| self.poll_sent(context, 0, &mut wait)).await
    }

    /// See `writable`.
    async fn wait_writable(mut self) -> io::Result<()> {
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

    pub(super) fn poll_sent(
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
        self.shared.send_now();
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
