// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Timeouts`]: how long what may take, each with its default and the reason for it.
//!
//! Each times what its name says and nothing else: a peer that drips bytes extends no read, and a
//! connection for which somebody works is not idle. What is timed is the connection and the peer, and no
//! future: a wait that was dropped is over, and one that takes its place goes on counting.

use std::time::{Duration, Instant};

use crate::error::InvalidConfig;

/// How long what may take on one connection. `None` switches a timeout off; zero is refused, and
/// what is too long to be counted is for ever.
///
/// They cost no work per request: a connection has one entry in its poller's wheel, which is looked
/// at when the first of them may be over. A poller that a handler holds up looks later, and never
/// before it has read what has come meanwhile: a peer that kept its time is not ended for another's.
///
/// # What the peer has begun
///
/// When some of what is awaited has come and not all, [`read`](Self::read) and
/// [`min_rate`](Self::min_rate) count from its first byte until input is consumed, whatever calls come
/// and go. A server that waits anew every few milliseconds, or peeks and returns, is as patient as one that
/// waits once, and no more. Time does not count while the handler does something else than to wait for
/// input, nor while nothing is read: because reads are [paused](crate::Connection::pause_reads), output is
/// above its mark, or memory is short.
///
/// # What is at work
///
/// A connection is not idle while somebody works for it, however silent it is:
///
/// * its handler, or owner, does not wait for input;
/// * its handler waits for input and for something else at once, a `select` or a `join` with a sleep, a
///   query, a channel. A [`timeout`](crate::time::timeout), [`closed`](crate::Connection::closed) and a
///   reader's [deadline](crate::Reader::with_deadline) only bound a wait and are nothing else. Of an owner
///   that no loop polls this cannot be seen;
/// * a request that [`mux::serve`](crate::mux::serve) or [`mux::serve_on`](crate::mux::serve_on) has taken
///   is not answered, or a call of a [`mux::Client`](crate::mux::Client) waits for its answer;
/// * it is out of its [`ConnPool`](crate::ConnPool);
/// * an answer may be owed aside: it was [split](crate::Connection::into_split), or there is a
///   [`WriteQueue`](crate::mux::WriteQueue) of it, and nothing was put since input came. Both halves may
///   owe from the beginning, too: drop the writer, or reunite the halves, where that is not so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// From the accept to the peer's first byte, while one is awaited. 10 s: whoever connects and
    /// says nothing is no client. Off for dialed connections.
    pub first_byte: Option<Duration>,
    /// From when input is awaited (a call of the [`Reader`](crate::Reader) waits, or the handler
    /// returned and left input) until *all* that was asked for is there, or input is consumed. A
    /// call that waited so long in vain fails with [`TimedOut`](crate::TimedOut) and has consumed
    /// nothing; whoever calls again has decided to, and the time begins anew. Where calls that each
    /// waited less add up to it, from the first byte on, or input was left, the connection ends. A
    /// mux server waits for the first byte of a request for as long as it takes. Off, as in Go
    /// netpoll.
    pub read: Option<Duration>,
    /// The least rate at which what is awaited must come, once some of it has. The connection ends if
    /// it does not. 240 B/s, over 30 s.
    pub min_rate: Option<MinRate>,
    /// For all output that was unsent at a moment to be taken by the kernel: from the call of a
    /// `flush`, else from when the kernel took no more. It ends the connection, because the peer
    /// may have a part of a frame. 60 s.
    pub write: Option<Duration>,
    /// Without a byte in either direction, while nothing is unsent and nobody is [at
    /// work](Self#what-is-at-work). Of something that the peer has begun and not ended, less than
    /// `min_rate` says, or than 240 B/s if that is more or off, counts as nothing. From when a byte
    /// moved or work was done last; of work that is seen only now and then, up to as much later. 75 s.
    /// Off for dialed connections.
    pub idle: Option<Duration>,
    /// From the beginning to an orderly end: what the peer has sent by then is served first. Each
    /// connection ends up to a tenth earlier, so that those that came together do not go together.
    /// Off.
    pub max_age: Option<Duration>,
    /// How long a close waits: for the peer to take what is unsent, and then for its FIN. 5 s.
    pub linger: Duration,
}

/// The least rate at which what is awaited must come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MinRate {
    /// So many bytes a second.
    pub bytes_per_second: u32,
    /// On the average of so long a time.
    pub over: Duration,
}

impl MinRate {
    /// At least `bytes_per_second` on the average of each `over`.
    #[must_use]
    pub const fn new(bytes_per_second: u32, over: Duration) -> Self {
        Self {
            bytes_per_second,
            over,
        }
    }

    /// The bytes of one time.
    pub(crate) fn bytes_per_window(&self) -> u64 {
        let bytes = u128::from(self.bytes_per_second) * self.over.as_millis() / 1000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// How long a call has waited, and may.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// When the call began to wait.
    pub(crate) since: Instant,
    /// When it gives up, whatever the timeouts.
    pub(crate) deadline: Option<Instant>,
}

impl Wait {
    /// Whether it has waited for `time`, or its deadline has passed.
    pub(crate) fn is_over(&self, time: Option<Duration>, now: Instant) -> bool {
        has_elapsed(self.since, time, now) || self.deadline.is_some_and(|by| by <= now)
    }
}

/// Whether `time`, if it is bounded, has passed since.
pub(crate) fn has_elapsed(since: Instant, time: Option<Duration>, now: Instant) -> bool {
    time.is_some_and(|time| now.saturating_duration_since(since) >= time)
}

impl Default for Timeouts {
    /// Those of accepted connections.
    fn default() -> Self {
        Self {
            first_byte: Some(Duration::from_secs(10)),
            read: None,
            min_rate: Some(MinRate::new(240, Duration::from_secs(30))),
            write: Some(Duration::from_secs(60)),
            idle: Some(Duration::from_secs(75)),
            max_age: None,
            linger: Duration::from_secs(5),
        }
    }
}

impl Timeouts {
    /// Those of dialed connections: it is for the caller to say how long it waits, and a server may
    /// be silent for as long as it likes.
    #[must_use]
    pub fn for_dialing() -> Self {
        Self {
            first_byte: None,
            idle: None,
            ..Self::default()
        }
    }

    /// Refuses, by name, what cannot work.
    pub(crate) fn validate(&self) -> Result<(), InvalidConfig> {
        let expected = "must be above zero; None switches it off";
        let each = [
            ("first_byte", self.first_byte),
            ("read", self.read),
            ("min_rate", self.min_rate.map(|rate| rate.over)),
            ("write", self.write),
            ("idle", self.idle),
            ("max_age", self.max_age),
        ];
        match each.iter().find(|(_, time)| *time == Some(Duration::ZERO)) {
            Some((field, _)) => Err(InvalidConfig::new(field, expected)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_timeout_is_rejected_with_its_name_and_a_hint() {
        let zero = Some(Duration::ZERO);
        let refused = |change: fn(&mut Timeouts, Option<Duration>)| {
            let mut timeouts = Timeouts::default();
            change(&mut timeouts, zero);
            let error = timeouts.validate().unwrap_err();
            assert!(error.expected.contains("None"));
            error.field
        };
        assert_eq!(refused(|t, zero| t.first_byte = zero), "first_byte");
        assert_eq!(refused(|t, zero| t.read = zero), "read");
        assert_eq!(refused(|t, zero| t.write = zero), "write");
        assert_eq!(refused(|t, zero| t.idle = zero), "idle");
        assert_eq!(refused(|t, zero| t.max_age = zero), "max_age");
        let rate = |t: &mut Timeouts, zero: Option<Duration>| {
            t.min_rate = zero.map(|over| MinRate::new(1, over));
        };
        assert_eq!(refused(rate), "min_rate");
        assert_eq!(Timeouts::default().validate(), Ok(()));
        assert_eq!(Timeouts::for_dialing().validate(), Ok(()));
    }

    #[test]
    fn a_rate_is_bytes_over_a_time() {
        assert_eq!(
            MinRate::new(240, Duration::from_secs(30)).bytes_per_window(),
            7200
        );
        assert_eq!(
            MinRate::new(1000, Duration::from_millis(1500)).bytes_per_window(),
            1500
        );
        assert_eq!(
            MinRate::new(u32::MAX, Duration::MAX).bytes_per_window(),
            u64::MAX
        );
    }
}
