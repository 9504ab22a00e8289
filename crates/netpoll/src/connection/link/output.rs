// SPDX-License-Identifier: MIT OR Apache-2.0
//! How output gets into a link's outbox and out of it, and who hears of it.
//!
//! Whoever puts holds the outbox's lock for that and no longer. Whether the poller has to hear of it is
//! for the outbox to say; whoever sends takes the whole chain, and nothing is locked while the kernel
//! has it.

use std::os::fd::AsFd;

use netpoll_buffer::LinkBuffer;

use super::{Ending, Link, PAST_MARK, Queued};
use crate::connection::outbox::{Marks, Outbox, Put};
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

    /// Puts through `put`, and tells the poller what it has to hear. `None`, and nothing put, if
    /// the connection takes no more.
    #[inline]
    pub(crate) fn put<R>(&self, put: impl FnOnce(&mut LinkBuffer) -> R) -> Option<R> {
        let mut outbox = lock(&self.outbox);
        let (result, news) = outbox.put(|| self.marks(), || self.bell.role(), put);
        self.release(outbox, news, Signal::Put);
        result
    }

    /// Copies `bytes` to the end, as by [`put`](Self::put).
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
    fn release(&self, outbox: MutexGuard<'_, Outbox>, news: Put, first: Signal) {
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
            let (flushed, poller_looks) = lock(&self.outbox).give_back_elsewhere(outgoing, result);
            flushed.wake();
            self.tell_line();
            if poller_looks {
                return self.bell.ring(Signal::Send);
            }
        }
    }
}
