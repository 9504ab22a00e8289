// SPDX-License-Identifier: MIT OR Apache-2.0
//! How output gets into the output buffer and to the socket, and when the poller is notified.
//!
//! A writer holds the lock of the output buffer for its put only. The output buffer decides whether
//! the poller is notified. A sender takes the whole buffer, and no lock is held during the system
//! call.

use std::io;
use std::os::fd::AsFd;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, OutOfRange, Reservation};

use super::{CloseRequest, EnqueueResult, PAST_HIGH_WATERMARK, Shared};
use crate::connection::output_buffer::{OutputBuffer, PutOutcome, Watermarks};
use crate::foreign::DeferredDrop;
use crate::poll::notifier::Notice;
use crate::poll::source_output::send;
use crate::sync::{MutexGuard, Ordering, lock};

impl Shared {
    pub(super) fn watermarks(&self) -> Watermarks {
        Watermarks {
            high: self.options.write_high,
            limit: self.options.output_bound(),
        }
    }

    /// Appends the readable bytes of `buffer` for the owner of the connection, and notifies the
    /// poller if needed. If the connection accepts no puts, `buffer` is dropped.
    #[inline]
    pub(crate) fn append(&self, mut buffer: LinkBuffer) {
        // Consumed segments are freed before the lock is taken.
        buffer.commit_all();
        buffer.trim();
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.accepts_put() {
            drop(output_buffer);
            return drop(DeferredDrop::new(buffer));
        }
        let outcome = output_buffer.append(buffer, || self.watermarks(), || self.notifier.role());
        self.unlock_and_notify(output_buffer, outcome, Notice::LocalSend);
    }

    /// Appends `bytes` for any caller, beside the owner's uncommitted bytes.
    ///
    /// # Errors
    ///
    /// Why the bytes will not be sent.
    pub(crate) fn push_committed(&self, bytes: Bytes) -> io::Result<()> {
        let buffer = LinkBuffer::from(bytes);
        let mut output_buffer = lock(&self.output_buffer);
        if let Some(error) = output_buffer.closed_error() {
            drop(output_buffer);
            drop(DeferredDrop::new(buffer));
            return Err(error);
        }
        let outcome =
            output_buffer.append_committed(buffer, || self.watermarks(), || self.notifier.role());
        self.unlock_and_notify(output_buffer, outcome, Notice::LocalSend);
        match outcome {
            PutOutcome::Overflow => Err(Self::reason_for(CloseRequest::Overflow).to_error()),
            PutOutcome::Unchanged | PutOutcome::FirstByte | PutOutcome::HighWatermark => Ok(()),
        }
    }

    /// Copies `bytes` to the end, as [`append`](Self::append).
    ///
    /// # Errors
    ///
    /// Why the connection accepts no puts.
    pub(crate) fn try_put(&self, bytes: &[u8]) -> io::Result<()> {
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.accepts_put() {
            return Err(closed_error(&output_buffer));
        }
        self.put_slow(output_buffer, &[bytes]);
        Ok(())
    }

    /// Reserves `n` zeroed bytes behind the owner's output. The owner's later puts wait for the
    /// commit.
    ///
    /// # Errors
    ///
    /// As [`LinkBuffer::reserve`]; why the connection accepts no puts.
    pub(crate) fn reserve(&self, n: usize) -> io::Result<Reservation> {
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.accepts_put() {
            return Err(closed_error(&output_buffer));
        }
        let (reserved, outcome) =
            output_buffer.reserve(n, || self.watermarks(), || self.notifier.role());
        self.unlock_and_notify(output_buffer, outcome, Notice::LocalSend);
        reserved
    }

    /// Copies `bytes` to the front of a reservation.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`]; why the connection accepts no puts.
    pub(crate) fn fill(&self, reserved: &Reservation, bytes: &[u8]) -> io::Result<()> {
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.accepts_put() {
            return Err(closed_error(&output_buffer));
        }
        let uncommitted = output_buffer.uncommitted_len();
        match output_buffer.reserved(reserved)?.get_mut(..bytes.len()) {
            Some(reserved) => reserved.copy_from_slice(bytes),
            None => return Err(OutOfRange::new(uncommitted, bytes.len()).into()),
        }
        Ok(())
    }

    /// Inserts `bytes` before uncommitted byte `at`.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`]; why the connection accepts no puts.
    pub(crate) fn insert(&self, at: usize, bytes: Bytes) -> io::Result<()> {
        let bytes = DeferredDrop::new(bytes);
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.accepts_put() {
            return Err(closed_error(&output_buffer));
        }
        let uncommitted = output_buffer.uncommitted_len();
        if at > uncommitted {
            return Err(OutOfRange::new(uncommitted, at).into());
        }
        match bytes.into_value() {
            Some(bytes) if !bytes.is_empty() => {
                let outcome =
                    output_buffer.insert(at, bytes, || self.watermarks(), || self.notifier.role());
                self.unlock_and_notify(output_buffer, outcome, Notice::LocalSend);
            }
            empty => {
                drop(output_buffer);
                drop(DeferredDrop::new(empty));
            }
        }
        Ok(())
    }

    /// Commits the first `k` uncommitted bytes, or all if `k` is `None`, and drops the rest. No
    /// lock is held while the bytes are committed; puts of other writers in between go first.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if there are fewer than `k`, and then nothing is changed; why the connection
    /// accepts no puts.
    pub(crate) fn commit(&self, k: Option<usize>) -> io::Result<()> {
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.accepts_put() {
            return Err(closed_error(&output_buffer));
        }
        let uncommitted = output_buffer.uncommitted_len();
        let k = k.unwrap_or(uncommitted);
        if k > uncommitted {
            return Err(OutOfRange::new(uncommitted, k).into());
        }
        let Some(mut buffer) = output_buffer.take_uncommitted() else {
            return Ok(());
        };
        drop(output_buffer);
        buffer.commit(k)?;
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.is_open() {
            let error = closed_error(&output_buffer);
            drop(output_buffer);
            drop(DeferredDrop::new(buffer));
            return Err(error);
        }
        let outcome = output_buffer.append(buffer, || self.watermarks(), || self.notifier.role());
        self.unlock_and_notify(output_buffer, outcome, Notice::LocalSend);
        // Senders that found no space beside the uncommitted bytes may find it now.
        self.notify_wait_queue();
        Ok(())
    }

    /// Drops the owner's uncommitted bytes.
    pub(crate) fn discard_uncommitted(&self) {
        let uncommitted = lock(&self.output_buffer).discard_uncommitted();
        if uncommitted.is_some() {
            drop(uncommitted);
            self.notify_wait_queue();
        }
    }

    /// Copies `bytes` to the end, for the owner of the connection.
    pub(crate) fn put_slice(&self, bytes: &[u8]) {
        self.put_slices(&[bytes]);
    }

    /// As [`put_slice`](Self::put_slice) for a few bytes whose number is known at compile time:
    /// both this call and the copy are inlined.
    #[inline(always)]
    pub(crate) fn put_array<const N: usize>(&self, bytes: [u8; N]) {
        self.put_slices(&[&bytes]);
    }

    /// Copies `parts` to the end, one behind the other, as one put. It is inlined, because the
    /// caller knows the number of parts and the length of a header.
    #[inline(always)]
    pub(crate) fn put_slices(&self, parts: &[&[u8]]) {
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.put_in_place(parts) {
            self.put_slow(output_buffer, parts);
        }
    }

    /// The slow path of a put.
    #[inline(never)]
    fn put_slow(&self, mut output_buffer: MutexGuard<'_, OutputBuffer>, parts: &[&[u8]]) {
        let outcome =
            output_buffer.put_slices(parts, || self.watermarks(), || self.notifier.role());
        if outcome != PutOutcome::Unchanged {
            self.unlock_and_notify(output_buffer, outcome, Notice::LocalSend);
        }
    }

    /// Appends a buffer for a sender other than the handler, and schedules a send. The poller sends
    /// it together with other output that is there by then.
    pub(crate) fn enqueue(&self, buffer: LinkBuffer) -> EnqueueResult {
        let mut output_buffer = lock(&self.output_buffer);
        let outcome = match output_buffer.enqueue(buffer, self.watermarks()) {
            Ok(outcome) => outcome,
            Err(buffer) => {
                return match output_buffer.closed_error() {
                    Some(error) => EnqueueResult::Closed(buffer, error),
                    None => EnqueueResult::Full(buffer),
                };
            }
        };
        self.unlock_and_notify(output_buffer, outcome, Notice::Send);
        EnqueueResult::Enqueued
    }

    /// Completes a put: sets the high-watermark flag under the lock, releases the lock, and
    /// notifies the poller.
    #[inline]
    pub(super) fn unlock_and_notify(
        &self,
        mut output_buffer: MutexGuard<'_, OutputBuffer>,
        outcome: PutOutcome,
        first: Notice,
    ) {
        if outcome == PutOutcome::Overflow {
            let discarded = output_buffer.take_overflowed();
            drop(output_buffer);
            drop(discarded);
            return self.notify_poller(outcome, first);
        }
        if outcome == PutOutcome::HighWatermark {
            // Relaxed: written under the lock only, and the next holder of the lock clears it. A
            // reader without the lock is on this thread, or learns of it later.
            self.flags.fetch_or(PAST_HIGH_WATERMARK, Ordering::Relaxed);
        }
        drop(output_buffer);
        if outcome != PutOutcome::Unchanged {
            self.notify_poller(outcome, first);
        }
    }

    /// Notifies the poller of `outcome`. A handler's own output is sent when its poll returns, so
    /// only other connections of the same poller are queued at the first byte, with the notice
    /// `first`. Puts on other threads notify at the high watermark.
    #[inline]
    fn notify_poller(&self, outcome: PutOutcome, first: Notice) {
        if self.notifier.is_current_source() && outcome != PutOutcome::Overflow {
            return;
        }
        match outcome {
            PutOutcome::Overflow => self.request_close(CloseRequest::Overflow),
            PutOutcome::FirstByte => self.notifier.notify(first),
            PutOutcome::HighWatermark => self.notifier.notify(Notice::Send),
            PutOutcome::Unchanged => {}
        }
    }

    /// Takes all output that can be sent, and counts the sends made outside the engine. Called on
    /// the poller's thread only.
    #[inline]
    pub(crate) fn take_output(&self) -> Option<LinkBuffer> {
        let mut output_buffer = lock(&self.output_buffer);
        if let Some(off_poller) = output_buffer.take_off_poller_counts() {
            self.count_off_poller_sends(off_poller);
        }
        let outgoing = output_buffer.take()?;
        // Relaxed: as in `unlock_and_notify`.
        self.clear_high_watermark();
        Some(outgoing)
    }

    /// Sends queued output, unless the connection's handler runs on this thread: then the engine
    /// sends when the handler has returned or waits.
    pub(crate) fn send_unless_running(&self) {
        if !self.notifier.is_current_source() {
            self.send_now();
        }
    }

    /// Has the poller send queued output.
    pub(crate) fn request_send(&self) {
        if lock(&self.output_buffer).unsent() > 0 {
            self.notifier.notify(Notice::Send);
        }
    }

    /// Sends queued output on the calling thread. The poller sends the bytes that the socket does
    /// not take.
    pub(crate) fn send_now(&self) {
        loop {
            let mut output_buffer = lock(&self.output_buffer);
            let Some(mut outgoing) = output_buffer.take_off_poller() else {
                let all_sent = output_buffer.unsent() == 0;
                drop(output_buffer);
                if all_sent && self.notifier.is_on_poller_thread() {
                    self.notifier.retract_local_send();
                }
                return;
            };
            // Relaxed: as in `unlock_and_notify`.
            self.clear_high_watermark();
            drop(output_buffer);
            let result = send(self.fd.as_fd(), &mut outgoing);
            let back = lock(&self.output_buffer).return_unsent_off_poller(&mut outgoing, result);
            let (flushed, poller_must_act) = back;
            drop(outgoing);
            flushed.wake();
            self.notify_wait_queue();
            if poller_must_act {
                return self.notifier.notify(Notice::Send);
            }
        }
    }
}

/// Returns why the output buffer accepts no puts.
fn closed_error(output_buffer: &OutputBuffer) -> io::Error {
    let refusal = output_buffer.put_error();
    refusal.unwrap_or_else(|| io::ErrorKind::NotConnected.into())
}
