// SPDX-License-Identifier: MIT OR Apache-2.0
//! How output gets into a link's outbox and out of it, and who hears of it.
//!
//! Whoever puts holds the outbox's lock for that and no longer. Whether the poller has to hear of it is
//! for the outbox to say; whoever sends takes the whole chain, and nothing is locked while the kernel
//! has it.

use std::io;
use std::os::fd::AsFd;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, OutOfRange, Reserved};

use super::{Ending, Link, PAST_MARK, Queued};
use crate::connection::outbox::{Marks, Outbox, Put};
use crate::foreign::Deferred;
use crate::poll::bell::Signal;
use crate::poll::sending::send;
use crate::sync::{MutexGuard, Ordering, lock};

impl Link {
    fn marks(&self) -> Marks {
        Marks {
            high: self.options.write_high,
            bound: self.options.output_bound(),
        }
    }

    /// Appends what `buffer` can read, for the owner of the connection, and tells the poller what it has
    /// to hear. On a connection that takes no more, it is dropped.
    #[inline]
    pub(crate) fn append(&self, mut buffer: LinkBuffer) {
        // What was read of it is let go before the lock is taken.
        buffer.commit_all();
        buffer.trim();
        let mut outbox = lock(&self.outbox);
        if !outbox.admits() {
            drop(outbox);
            return drop(Deferred::new(buffer));
        }
        let news = outbox.append(buffer, || self.marks(), || self.bell.role());
        self.release(outbox, news, Signal::Put);
    }

    /// Appends `bytes` for anybody, beside what the owner has not committed.
    ///
    /// # Errors
    ///
    /// Why they will not be sent.
    pub(crate) fn push_beside(&self, bytes: Bytes) -> io::Result<()> {
        let buffer = LinkBuffer::from(bytes);
        let mut outbox = lock(&self.outbox);
        if let Some(error) = outbox.why_not_open() {
            drop(outbox);
            drop(Deferred::new(buffer));
            return Err(error);
        }
        let news = outbox.append_beside(buffer, || self.marks(), || self.bell.role());
        self.release(outbox, news, Signal::Put);
        match news {
            Put::Overflow => Err(Self::reason_of(Ending::Overflow).to_error()),
            Put::Quiet | Put::First | Put::High => Ok(()),
        }
    }

    /// Copies `bytes` to the end, as [`append`](Self::append).
    ///
    /// # Errors
    ///
    /// Why the connection takes no more.
    pub(crate) fn try_put(&self, bytes: &[u8]) -> io::Result<()> {
        let mut outbox = lock(&self.outbox);
        if !outbox.admits() {
            return Err(end(&outbox));
        }
        self.put_elsewhere(outbox, &[bytes]);
        Ok(())
    }

    /// Leaves room for `n` zeroed bytes behind what the owner has put; what it puts from here to the
    /// commit waits for that.
    ///
    /// # Errors
    ///
    /// As [`LinkBuffer::reserve`]; why the connection takes no more.
    pub(crate) fn reserve(&self, n: usize) -> io::Result<Reserved> {
        let mut outbox = lock(&self.outbox);
        if !outbox.admits() {
            return Err(end(&outbox));
        }
        let (reserved, news) = outbox.reserve(n, || self.marks(), || self.bell.role());
        self.release(outbox, news, Signal::Put);
        reserved
    }

    /// Copies `bytes` to the front of what was reserved.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`]; why the connection takes no more.
    pub(crate) fn fill(&self, reserved: &Reserved, bytes: &[u8]) -> io::Result<()> {
        let mut outbox = lock(&self.outbox);
        if !outbox.admits() {
            return Err(end(&outbox));
        }
        let uncommitted = outbox.uncommitted_len();
        match outbox.reserved(reserved)?.get_mut(..bytes.len()) {
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
        let bytes = Deferred::new(bytes);
        let mut outbox = lock(&self.outbox);
        if !outbox.admits() {
            return Err(end(&outbox));
        }
        let uncommitted = outbox.uncommitted_len();
        if at > uncommitted {
            return Err(OutOfRange::new(uncommitted, at).into());
        }
        match bytes.into_value() {
            Some(bytes) if !bytes.is_empty() => {
                let news = outbox.insert(at, bytes, || self.marks(), || self.bell.role());
                self.release(outbox, news, Signal::Put);
            }
            empty => {
                drop(outbox);
                drop(Deferred::new(empty));
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
        let mut outbox = lock(&self.outbox);
        if !outbox.admits() {
            return Err(end(&outbox));
        }
        let uncommitted = outbox.uncommitted_len();
        let k = k.unwrap_or(uncommitted);
        if k > uncommitted {
            return Err(OutOfRange::new(uncommitted, k).into());
        }
        let Some(mut draft) = outbox.take_draft() else {
            return Ok(());
        };
        drop(outbox);
        draft.commit(k)?;
        let mut outbox = lock(&self.outbox);
        if !outbox.is_open() {
            let error = end(&outbox);
            drop(outbox);
            drop(Deferred::new(draft));
            return Err(error);
        }
        let news = outbox.append(draft, || self.marks(), || self.bell.role());
        self.release(outbox, news, Signal::Put);
        // Who found no room beside the draft may have it now.
        self.tell_line();
        Ok(())
    }

    /// Drops what the owner has not committed.
    pub(crate) fn discard_draft(&self) {
        let draft = lock(&self.outbox).discard_draft();
        if draft.is_some() {
            drop(draft);
            self.tell_line();
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
        let mut outbox = lock(&self.outbox);
        if !outbox.put_in_place(parts) {
            self.put_elsewhere(outbox, parts);
        }
    }

    /// What does not simply go behind what was put last.
    #[inline(never)]
    fn put_elsewhere(&self, mut outbox: MutexGuard<'_, Outbox>, parts: &[&[u8]]) {
        let news = outbox.put_slices(parts, || self.marks(), || self.bell.role());
        self.release(outbox, news, Signal::Put);
    }

    /// Appends a buffer for somebody who is not the handler, and has it sent with what else there
    /// is by then.
    pub(crate) fn queue(&self, buffer: LinkBuffer) -> Queued {
        let mut outbox = lock(&self.outbox);
        let news = match outbox.queue(buffer, self.marks()) {
            Ok(news) => news,
            Err(buffer) => {
                return match outbox.why_not_open() {
                    Some(error) => Queued::Refused(buffer, error),
                    None => Queued::Full(buffer),
                };
            }
        };
        self.release(outbox, news, Signal::Send);
        Queued::Taken
    }

    /// After a put: notes its mark under the lock, lets go of that, and tells its news.
    #[inline]
    fn release(&self, mut outbox: MutexGuard<'_, Outbox>, news: Put, first: Signal) {
        if news == Put::Overflow {
            let discarded = outbox.take_overflown();
            drop(outbox);
            drop(discarded);
            return self.announce(news, first);
        }
        if news == Put::High {
            // Relaxed: written under the lock alone, for whoever takes it next to clear it. Who
            // reads it without is on this thread, or learns of it later.
            self.holds.fetch_or(PAST_MARK, Ordering::Relaxed);
        }
        drop(outbox);
        if news != Put::Quiet {
            self.announce(news, first);
        }
    }

    /// A handler's own output is sent when its poll returns, so only other connections of the same
    /// poller are queued at the first byte, by the signal `first`; from other threads the write mark
    /// decides.
    #[inline]
    fn announce(&self, news: Put, first: Signal) {
        if self.bell.is_running_here() && news != Put::Overflow {
            return;
        }
        match news {
            Put::Overflow => self.ask_end(Ending::Overflow),
            Put::First => self.bell.ring(first),
            Put::High => self.bell.ring(Signal::Send),
            Put::Quiet => {}
        }
    }

    /// Takes what can be sent. Only on the poller, which hears of what others have sent.
    #[inline]
    pub(crate) fn take_output(&self) -> Option<LinkBuffer> {
        let mut outbox = lock(&self.outbox);
        if let Some(elsewhere) = outbox.take_elsewhere_sent() {
            self.count_elsewhere(elsewhere);
        }
        let outgoing = outbox.take()?;
        // Relaxed: as in `release`.
        self.clear_mark();
        Some(outgoing)
    }

    /// Sends what was put, unless the handler of this connection runs here: then its session does,
    /// when the handler has returned or waits.
    pub(crate) fn push_out(&self) {
        if !self.bell.is_running_here() {
            self.send_now();
        }
    }

    /// Has the poller send what was put.
    pub(crate) fn have_sent(&self) {
        if lock(&self.outbox).unsent() > 0 {
            self.bell.ring(Signal::Send);
        }
    }

    /// Sends what was put, on the calling thread, for which the session does not send. What the
    /// socket does not take is the poller's.
    pub(crate) fn send_now(&self) {
        loop {
            let mut outbox = lock(&self.outbox);
            let Some(mut outgoing) = outbox.take_elsewhere() else {
                let all_left = outbox.unsent() == 0;
                drop(outbox);
                if all_left && self.bell.is_here() {
                    self.bell.take_back_put();
                }
                return;
            };
            // Relaxed: as in `release`.
            self.clear_mark();
            drop(outbox);
            let result = send(self.fd.as_fd(), &mut outgoing);
            let back = lock(&self.outbox).give_back_elsewhere(&mut outgoing, result);
            let (flushed, poller_looks) = back;
            drop(outgoing);
            flushed.wake();
            self.tell_line();
            if poller_looks {
                return self.bell.ring(Signal::Send);
            }
        }
    }
}

/// Why nothing can be put any more.
fn end(outbox: &Outbox) -> io::Error {
    let refusal = outbox.refusal();
    refusal.unwrap_or_else(|| io::ErrorKind::NotConnected.into())
}
