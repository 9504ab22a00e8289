// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters with one writing thread and any number of readers.
//!
//! With a single writer, an increment is a load, an addition and a store, as cheap as for a plain
//! number: there is no atomic read-modify-write, and two pollers never write the same cache line.
//! Each counter and its snapshot are declared once, side by side.

use crate::error::{CloseReason, Limit, Timeout};
use crate::event::Callback;
use crate::sync::{AtomicU64, Ordering};

/// A number that one thread writes.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only on the thread that writes this counter.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    /// Sets the value. Only on the thread that writes this counter.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        // Relaxed: pairs with `get`; the store publishes nothing else.
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns a recent value.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // Relaxed: pairs with `set`.
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares a snapshot type and its counters.
macro_rules! counters {
    (
        $(#[$about:meta])*
        $snapshot:ident of $counters:ident {
            $($(#[$doc:meta])* $name:ident,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $snapshot {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl $snapshot {
            /// Returns the name and the value of each counter, in the order of the fields.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }

            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }

        /// The counters behind a snapshot.
        #[derive(Debug, Default)]
        pub(crate) struct $counters {
            $(pub(crate) $name: Counter,)+
        }

        impl $counters {
            pub(crate) fn snapshot(&self) -> $snapshot {
                $snapshot { $($name: self.$name.get(),)+ }
            }
        }
    };
}

counters! {
    /// The counters of one poller.
    PollerStats of PollerCounters {
        /// Connections opened on this poller, including dialed ones.
        opened,
        /// Connections that ended on this poller.
        closed,
        /// Waits for events: iterations of the poller.
        waits,
        /// Events that the waits returned.
        events,
        /// How often another thread woke the poller from its sleep to deliver a command.
        wakeups,
        /// Waits that began with busy polling because the first check found no event; see
        /// [`busy_poll`](crate::Builder::busy_poll). 0 while that is off.
        busy_polls,
        /// Busy polls that found an event before the poller would have slept. The others used
        /// processor time for nothing.
        busy_poll_hits,
        /// Commands received from other threads.
        commands,
        /// Reads from sockets, including those that found no bytes.
        reads,
        /// Bytes received.
        received,
        /// Calls that send a buffer. While a handler runs or an owner holds its connection, other
        /// threads send too: the poller adds their calls when it next processes that connection.
        /// The same holds for `sent` and `blocked_sends`.
        sends,
        /// Bytes that the kernel accepted for sending.
        sent,
        /// How often a socket was not writable, and output had to wait.
        blocked_sends,
        /// Requests handled: calls of an [`on_request`](crate::Builder::on_request) handler that
        /// consumed input, or failed. They are added when their batch completes. Connections of
        /// [`on_connection`](crate::Builder::on_connection) count no requests, since the framework
        /// cannot recognize them.
        requests,
        /// Request batches: how often a connection was handed to its handler and came back.
        batches,
        /// How often reading paused because the handler had enough input waiting.
        pauses_for_handler,
        /// How often a connection paused because its peer did not read the output.
        pauses_for_peer,
        /// How often user code blocked the poller for longer than
        /// [`slow_handler`](crate::Builder::slow_handler) allows.
        slow_calls,
        /// How often polling of a descriptor was suspended for a while; see
        /// [`Event::SpuriousEvents`](crate::event::Event::SpuriousEvents).
        spurious_events,
        /// How often the poller failed; see
        /// [`Event::PollerFailed`](crate::event::Event::PollerFailed).
        failures,
    }
}

counters! {
    /// How many connections ended, by [`CloseReason`].
    ClosedStats of ClosedCounters {
        /// [`CloseReason::Local`].
        local,
        /// [`CloseReason::PeerFin`].
        peer_fin,
        /// [`CloseReason::Broken`], whatever the errno.
        broken,
        /// [`CloseReason::Handler`]: the handler returned an error.
        handler_error,
        /// [`CloseReason::HandlerPanic`].
        handler_panic,
        /// [`CloseReason::Shutdown`].
        shutdown,
        /// [`CloseReason::PollerFailed`].
        poller_failed,
        /// [`Limit::Frame`].
        frame_limit,
        /// [`Limit::Output`].
        output_limit,
        /// [`Limit::Memory`].
        memory_limit,
        /// [`Timeout::FirstByte`].
        first_byte_timeout,
        /// [`Timeout::Read`].
        read_timeout,
        /// [`Timeout::MinRate`].
        min_rate_timeout,
        /// [`Timeout::Write`].
        write_timeout,
        /// [`Timeout::Idle`].
        idle_timeout,
        /// [`Timeout::MaxAge`].
        max_age,
    }
}

impl PollerStats {
    /// Returns how many connections this poller has now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }
}

impl PollerCounters {
    /// Counts a wait, and the events it returned.
    #[inline]
    pub(crate) fn record_wait(&self, events: usize) {
        self.waits.add(1);
        self.events.add(events as u64);
    }
}

impl ClosedStats {
    /// Returns how many connections ended, over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }
}

impl ClosedCounters {
    /// Counts a connection that ended for `reason`.
    pub(crate) fn count(&self, reason: &CloseReason) {
        let counter = match reason {
            CloseReason::Local => &self.local,
            CloseReason::PeerFin => &self.peer_fin,
            CloseReason::Broken(_) => &self.broken,
            CloseReason::Handler(_) => &self.handler_error,
            CloseReason::HandlerPanic => &self.handler_panic,
            CloseReason::Shutdown => &self.shutdown,
            CloseReason::PollerFailed => &self.poller_failed,
            CloseReason::Limit(Limit::Frame) => &self.frame_limit,
            CloseReason::Limit(Limit::Output) => &self.output_limit,
            CloseReason::Limit(Limit::Memory) => &self.memory_limit,
            CloseReason::Timeout(which) => match which {
                Timeout::FirstByte => &self.first_byte_timeout,
                Timeout::Read => &self.read_timeout,
                Timeout::MinRate => &self.min_rate_timeout,
                Timeout::Write => &self.write_timeout,
                Timeout::Idle => &self.idle_timeout,
                Timeout::MaxAge => &self.max_age,
            },
            // No connection ends for this reason: handles report it for connections that ended long
            // before.
            CloseReason::Forgotten => return,
        };
        counter.add(1);
    }
}

/// All counters of one poller, in cache lines of their own: processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) poller: PollerCounters,
    pub(crate) closed: ClosedCounters,
    /// The running callback, as [`Callback::code`]; `Handler` by default.
    current_callback: Counter,
}

impl Counters {
    /// Runs `call` as `callback`, which other threads can read meanwhile. Only on the poller's
    /// thread.
    #[inline]
    pub(crate) fn track_callback<R>(&self, callback: Callback, call: impl FnOnce() -> R) -> R {
        self.current_callback.set(callback.code());
        let result = call();
        self.current_callback.set(Callback::Handler.code());
        result
    }

    /// Returns the running callback. For a blocked poller, that is the callback that blocks it.
    pub(crate) fn current_callback(&self) -> Callback {
        Callback::from_code(self.current_callback.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn counts_are_visible_to_other_threads_and_none_is_lost() {
        let counters = Arc::new(Counters::default());
        let writer = {
            let counters = Arc::clone(&counters);
            std::thread::spawn(move || (0..1000).for_each(|_| counters.poller.reads.add(2)))
        };
        let mut last = 0;
        while !writer.is_finished() {
            let now = counters.poller.snapshot().reads;
            assert!(now >= last);
            last = now;
        }
        writer.join().unwrap();
        assert_eq!(counters.poller.snapshot().reads, 2000);
    }

    #[test]
    fn every_close_reason_increments_its_own_counter_once() {
        let reasons = [
            CloseReason::Local,
            CloseReason::PeerFin,
            CloseReason::Broken(Arc::new(std::io::Error::from_raw_os_error(104))),
            CloseReason::Handler(Arc::new("no".into())),
            CloseReason::HandlerPanic,
            CloseReason::Shutdown,
            CloseReason::PollerFailed,
            CloseReason::Limit(Limit::Frame),
            CloseReason::Limit(Limit::Output),
            CloseReason::Limit(Limit::Memory),
            CloseReason::Timeout(Timeout::FirstByte),
            CloseReason::Timeout(Timeout::Read),
            CloseReason::Timeout(Timeout::MinRate),
            CloseReason::Timeout(Timeout::Write),
            CloseReason::Timeout(Timeout::Idle),
            CloseReason::Timeout(Timeout::MaxAge),
        ];
        let counters = ClosedCounters::default();
        for (index, reason) in reasons.iter().enumerate() {
            (0..=index).for_each(|_| counters.count(reason));
        }
        let counts: Vec<u64> = counters.snapshot().iter().map(|(_, count)| count).collect();
        assert_eq!(counts, (1..=reasons.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn two_pollers_share_no_cache_line() {
        assert_eq!(align_of::<Counters>(), 128);
        assert_eq!(size_of::<Counters>() % 128, 0);
    }
}
