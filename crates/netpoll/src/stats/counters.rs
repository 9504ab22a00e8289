// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters that one thread writes and any thread reads.
//!
//! Since nobody else writes, counting is a load, an addition and a store, none of which is more
//! than it would be of a plain number: there is no atomic read-modify-write, and no cache line that
//! two pollers write. A counter and its snapshot are declared once, side by side.

use crate::error::{CloseReason, Limit, Timeout};
use crate::event::Callback;
use crate::sync::{AtomicU64, Ordering};

/// A number that one thread writes.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts `count` more. Only on the thread that writes this counter.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    /// Only on the thread that writes this counter.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        // Relaxed: pairs with `get`; nothing else is published by it.
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number as of some moment not long ago.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // Relaxed: pairs with `set`.
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares a snapshot, and the counters that it is one of.
macro_rules! counted {
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
            /// Each count with its name, in the order of the fields.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }

            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }

        /// The counters of a snapshot.
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

counted! {
    /// What a poller has done so far.
    PollerStats of PollerCounters {
        /// Connections that began here, dialed ones among them.
        opened,
        /// Connections that ended here.
        closed,
        /// Waits for the kernel: turns of the poller.
        waits,
        /// Events that the waits brought.
        events,
        /// How often another thread rang, because the poller had lain down when it was asked for
        /// something, and had not looked since.
        wakeups,
        /// Waits that began awake and found nothing at the first look: see
        /// [`busy_poll`](crate::Builder::busy_poll), without which there are none.
        busy_polls,
        /// Those of them that found something before they would have slept. The others spent
        /// processor time for nothing.
        busy_poll_hits,
        /// Letters: what other threads asked.
        commands,
        /// Reads from sockets, those that found nothing among them.
        reads,
        /// Bytes that were read.
        received,
        /// Chains that were handed to the kernel to be sent. Those sent by other threads, for a
        /// connection whose handler runs or whose owner is there, count once the poller looks at
        /// that connection again; so it is of the two counts below.
        sends,
        /// Bytes that the kernel has taken.
        sent,
        /// How often a socket took no more, and output had to wait for it.
        blocked_sends,
        /// Requests that were handled: calls of a handler of
        /// [`on_request`](crate::Builder::on_request) that consumed input, or failed. They count
        /// when their burst is over. A handler of [`on_connection`](crate::Builder::on_connection)
        /// knows alone what its requests are; none of them counts.
        requests,
        /// Bursts: how often a connection was handed to its handler and came back.
        batches,
        /// How often reading paused because a handler had enough before it.
        pauses_for_handler,
        /// How often a connection paused because its peer did not take what was sent.
        pauses_for_peer,
        /// How often user code held the poller for longer than
        /// [`slow_handler`](crate::Builder::slow_handler) allows.
        slow_calls,
        /// How often a source was not watched for a while: see
        /// [`Event::SpuriousEvents`](crate::Event::SpuriousEvents).
        spurious_events,
        /// How often the poller failed: see
        /// [`Event::PollerFailed`](crate::Event::PollerFailed).
        failures,
    }
}

counted! {
    /// How many connections ended for which [`CloseReason`].
    ClosedStats of ClosedCounters {
        /// [`CloseReason::Local`].
        local,
        /// [`CloseReason::PeerFin`].
        peer_fin,
        /// [`CloseReason::Broken`], whatever the errno.
        broken,
        /// [`CloseReason::Handler`]: it returned an error.
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
    /// Connections that are here now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }
}

impl PollerCounters {
    /// Counts a wait, and the events that it brought.
    #[inline]
    pub(crate) fn record_wait(&self, events: usize) {
        self.waits.add(1);
        self.events.add(events as u64);
    }
}

impl ClosedStats {
    /// How many connections ended, for whatever reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }
}

impl ClosedCounters {
    /// Counts one that ended for `reason`.
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
            // Nothing ends for it: it is what is told of those that have.
            CloseReason::Forgotten => return,
        };
        counter.add(1);
    }
}

/// All that one poller counts, in cache lines of its own: processors fetch them by two.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) poller: PollerCounters,
    pub(crate) closed: ClosedCounters,
    /// Which callback runs, by [`Callback::code`]; a handler unless told otherwise.
    current_callback: Counter,
}

impl Counters {
    /// Makes `call`, a call of `callback`, and lets others see meanwhile which that is. Only on the
    /// poller's thread.
    #[inline]
    pub(crate) fn track_callback<R>(&self, callback: Callback, call: impl FnOnce() -> R) -> R {
        self.current_callback.set(callback.code());
        let result = call();
        self.current_callback.set(Callback::Handler.code());
        result
    }

    /// Which callback runs, if one does: of a poller that is held up, the one that does that.
    pub(crate) fn current_callback(&self) -> Callback {
        Callback::from_code(self.current_callback.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_count_is_seen_by_other_threads_and_none_is_lost() {
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
    fn every_reason_counts_as_itself_and_once() {
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
