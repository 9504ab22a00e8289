// SPDX-License-Identifier: MIT OR Apache-2.0
//! How output gets into a link's outbox and out of it, and who hears of it.
//!
//! Whoever puts holds the outbox's lock for that and no longer. Whether the poller has to hear of it is
//! for the outbox to say; whoever sends takes the whole chain, and nothing is locked while the kernel
//! has it.

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
    fn watermarks(&self) -> Watermarks {
        Watermarks {
            high: self.options.write_high,
            limit: self.options.output_bound(),
        }
    }

    /// Appends what `buffer` can read, for the owner of the connection, and tells the poller what it has
    /// to hear. On a connection that takes no more, it is dropped.
    #[inline]
    pub(crate) fn append(&self, mut buffer: LinkBuffer) {
        // What was read of it is let go before the lock is taken.
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

    /// Appends `bytes` for anybody, beside what the owner has not committed.
    ///
    /// # Errors
    ///
    /// Why they will not be sent.
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
    /// Why the connection takes no more.
    pub(crate) fn try_put(&self, bytes: &[u8]) -> io::Result<()> {
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.accepts_put() {
            return Err(closed_error(&output_buffer));
        }
        self.put_slow(output_buffer, &[bytes]);
        Ok(())
    }

    /// Leaves room for `n` zeroed bytes behind what the owner has put; what it puts from here to the
    /// commit waits for that.
    ///
    /// # Errors
    ///
    /// As [`LinkBuffer::reserve`]; why the connection takes no more.
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

    /// Copies `bytes` to the front of what was reserved.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`]; why the connection takes no more.
    pub(crate) fn fill(&self, reserved: &Reservation, bytes: &[u8]) -> io::Result<()> {
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.accepts_put() {
            return Err(closed_error(&output_buffer));
        }
        let uncommitted = output_buffer.uncommitted_len();
        match output_buffer.reserved(reserved)?.get_mut(..bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => return Err(OutOfRange::new(uncommitted, bytes.len()).into()),
        }
        Ok(())
    }

    /// Puts `bytes` before the `at`-th uncommitted byte.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`]; why the connection takes no more.
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

    /// Has the first `k` uncommitted bytes sent, all if that is `None`, and drops the rest. While that is
    /// done nothing is locked; what others put meanwhile goes before it.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if there are fewer, and then nothing is changed; why the connection takes no more.
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
        let Some(mut draft) = output_buffer.take_uncommitted() else {
            return Ok(());
        };
        drop(output_buffer);
        draft.commit(k)?;
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.is_open() {
            let error = closed_error(&output_buffer);
            drop(output_buffer);
            drop(DeferredDrop::new(draft));
            return Err(error);
        }
        let outcome = output_buffer.append(draft, || self.watermarks(), || self.notifier.role());
        self.unlock_and_notify(output_buffer, outcome, Notice::LocalSend);
        // Who found no room beside the draft may have it now.
        self.notify_wait_queue();
        Ok(())
    }

    /// Drops what the owner has not committed.
    pub(crate) fn discard_uncommitted(&self) {
        let draft = lock(&self.output_buffer).discard_uncommitted();
        if draft.is_some() {
            drop(draft);
            self.notify_wait_queue();
        }
    }

    /// Copies `bytes` to the end, for the owner of the connection.
    pub(crate) fn put_slice(&self, bytes: &[u8]) {
        self.put_slices(&[bytes]);
    }

    /// As [`put_slice`](Self::put_slice) for a few bytes whose number is known when this is compiled:
    /// then neither this nor the copy is a call.
    #[inline(always)]
    pub(crate) fn put_array<const N: usize>(&self, bytes: [u8; N]) {
        self.put_slices(&[&bytes]);
    }

    /// Copies `parts` to the end, one behind the other, as one put. Where it is called their number
    /// and the length of a header are known, and so it is put there.
    #[inline(always)]
    pub(crate) fn put_slices(&self, parts: &[&[u8]]) {
        let mut output_buffer = lock(&self.output_buffer);
        if !output_buffer.put_in_place(parts) {
            self.put_slow(output_buffer, parts);
        }
    }

    /// What does not simply go behind what was put last.
    #[inline(never)]
    fn put_slow(&self, mut output_buffer: MutexGuard<'_, OutputBuffer>, parts: &[&[u8]]) {
        let outcome =
            output_buffer.put_slices(parts, || self.watermarks(), || self.notifier.role());
        self.unlock_and_notify(output_buffer, outcome, Notice::LocalSend);
    }

    /// Appends a buffer for somebody who is not the handler, and has it sent with what else there
    /// is by then.
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

    /// After a put: notes its mark under the lock, lets go of that, and tells its news.
    #[inline]
    fn unlock_and_notify(
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
            // Relaxed: written under the lock alone, for whoever takes it next to clear it. Who
            // reads it without is on this thread, or learns of it later.
            self.flags.fetch_or(PAST_HIGH_WATERMARK, Ordering::Relaxed);
        }
        drop(output_buffer);
        if outcome != PutOutcome::Unchanged {
            self.notify_poller(outcome, first);
        }
    }

    /// A handler's own output is sent when its poll returns, so only other connections of the same
    /// poller are queued at the first byte, by the signal `first`; from other threads the write mark
    /// decides.
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

    /// Takes what can be sent. Only on the poller, which hears of what others have sent.
    #[inline]
    pub(crate) fn take_output(&self) -> Option<LinkBuffer> {
        let mut output_buffer = lock(&self.output_buffer);
        if let Some(off_poller) = output_buffer.take_off_poller_counts() {
            self.count_off_poller_sends(off_poller);
        }
        let outgoing = output_buffer.take()?;
        // Relaxed: as in `release`.
        self.clear_high_watermark();
        Some(outgoing)
    }

    /// Sends what was put, unless the handler of this connection runs here: then its session does,
    /// when the handler has returned or waits.
    pub(crate) fn send_unless_running(&self) {
        if !self.notifier.is_current_source() {
            self.send_now();
        }
    }

    /// Has the poller send what was put.
    pub(crate) fn request_send(&self) {
        if lock(&self.output_buffer).unsent() > 0 {
            self.notifier.notify(Notice::Send);
        }
    }

    /// Sends what was put, on the calling thread, for which the session does not send. What the
    /// socket does not take is the poller's.
    pub(crate) fn send_now(&self) {
        loop {
            let mut output_buffer = lock(&self.output_buffer);
            let Some(mut outgoing) = output_buffer.take_off_poller() else {
                let all_left = output_buffer.unsent() == 0;
                drop(output_buffer);
                if all_left && self.notifier.is_on_poller_thread() {
                    self.notifier.retract_local_send();
                }
                return;
            };
            // Relaxed: as in `release`.
            self.clear_high_watermark();
            drop(output_buffer);
            let result = send(self.fd.as_fd(), &mut outgoing);
            let back = lock(&self.output_buffer).return_unsent_off_poller(&mut outgoing, result);
            let (flushed, poller_looks) = back;
            drop(outgoing);
            flushed.wake();
            self.notify_wait_queue();
            if poller_looks {
                return self.notifier.notify(Notice::Send);
            }
        }
    }
}

/// Why nothing can be put any more.
fn closed_error(output_buffer: &OutputBuffer) -> io::Error {
    let refusal = output_buffer.put_error();
    refusal.unwrap_or_else(|| io::ErrorKind::NotConnected.into())
}
