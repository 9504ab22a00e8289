// SPDX-License-Identifier: MIT OR Apache-2.0
//! A receive straight into the caller's memory, which saves the copy out of a block.
//!
//! A handler on its connection's poller may receive for itself while the poller waits for its poll
//! to end. It does so within a bulk transfer only: the caller has room for [`DIRECT_MIN`] bytes,
//! the last receive brought as many, and all of them are read. A receive that finds less ends the
//! bulk transfer, so at most its last system call is in vain.
//!
//! Ends are left to the poller. The end of the stream is read again, and an error, which the kernel
//! reports once, is passed on. A connection that drains, is closing or has paused its reads is the
//! poller's alone.

use std::io;
use std::os::fd::AsFd;

use netpoll_sys::transfer;

use crate::connection::reader::Reader;
use crate::connection::shared::Shared;
use crate::poll::notifier::Notice;
use crate::timestamp::Timestamp;

/// The least room of the caller, and the least size of the last receive.
const DIRECT_MIN: usize = 16 << 10;

impl Reader<'_> {
    /// Receives into `target` if that saves a copy, and returns how many bytes came. `None` if the
    /// poller has to receive.
    pub(super) fn receive_directly(&mut self, target: &mut [u8]) -> Option<usize> {
        if target.len() < DIRECT_MIN || !self.state.buffer.is_empty() {
            return None;
        }
        let may = self.shared().may_receive_directly() && self.state.may_proceed();
        let count = may.then(|| self.shared().receive_directly(target))??;
        self.state.count(count);
        Some(count)
    }
}

impl Shared {
    fn may_receive_directly(&self) -> bool {
        self.notifier.is_current_source()
            && self.is_untouched()
            && self.input_buffer_if_any().is_some_and(|input_buffer| {
                input_buffer.last_received >= DIRECT_MIN && input_buffer.is_drained()
            })
    }

    /// Receives into `target`, and counts the bytes as the engine does. `None` if there is nothing
    /// but an end.
    fn receive_directly(&self, target: &mut [u8]) -> Option<usize> {
        let received = transfer::receive(self.as_fd(), target);
        let counters = &self.notifier.counters().poller;
        counters.reads.add(1);
        let count = *received.as_ref().unwrap_or(&0);
        let mut input_buffer = self.input_buffer();
        input_buffer.last_received = count;
        input_buffer.reader_held = 0;
        if let Err(error) = received
            && error.kind() != io::ErrorKind::WouldBlock
        {
            input_buffer.receive_error = Some(error);
            drop(input_buffer);
            self.notifier.notify(Notice::Resume);
            return None;
        }
        if count == 0 {
            return None;
        }
        // A poll may have left its wait registered.
        let waker = input_buffer.clear_waiter();
        drop(input_buffer);
        drop(waker);
        counters.received.add(count as u64);
        self.metrics.received.add(count as u64);
        self.metrics.record_activity(Timestamp::now());
        self.track_reply(count);
        Some(count)
    }
}
