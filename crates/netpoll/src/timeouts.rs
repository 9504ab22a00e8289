// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Timeouts`]: the time limits of a connection, each with its default and the reason for it.
//!
//! Each timeout measures what its name says and nothing else: a peer that drips bytes extends no
//! read, and an active connection is not idle. Timeouts measure the connection and the peer, not a
//! future: a dropped wait is over, and the next wait continues its count.

use std::time::{Duration, Instant};

use crate::error::InvalidConfig;

/// The time limits of one connection. `None` switches a timeout off. Zero is rejected. A duration
/// too long to represent means no limit.
///
/// They cost no work per request: a connection has one entry in its poller's timer wheel, which the
/// poller checks when the first timeout may be due. A poller that a handler blocks checks later,
/// and always reads the input that has arrived before it applies a timeout: a peer that was in time
/// does not pay for the delay.
///
/// # Partial input
///
/// When a part of the awaited input has arrived, [`read`](Self::read) and
/// [`min_rate`](Self::min_rate) count from its first byte until input is consumed, across all calls
/// in between. A server that waits anew every few milliseconds, or peeks and returns, has the same
/// limit as one that waits once. Time does not count while the handler does something other than
/// wait for input, nor while nothing is read: because reads are
/// [paused](crate::Connection::pause_reads), output is above its high watermark, or memory is
/// short.
///
/// # Active connections
///
/// A silent connection is not idle while it is in use:
///
/// * its handler, or owner, does not wait for input;
/// * its handler waits for input and for something else at once: a `select` or a `join` with a
///   sleep, a query, a channel. A [`timeout`](crate::time::timeout),
///   [`closed`](crate::Connection::closed) and a reader's [deadline](crate::Reader::with_deadline)
///   only limit a wait and do not count. For an owner that no loop polls, this cannot be detected;
/// * a request that [`mux::serve`](crate::mux::serve) or [`mux::serve_on`](crate::mux::serve_on)
///   has taken is not answered, or a call of a [`mux::Client`](crate::mux::Client) waits for its
///   answer;
/// * it is checked out of its [`ConnPool`](crate::pool::ConnPool);
/// * another task may owe an answer: the connection was [split](crate::Connection::into_split), or
///   has a [`WriteQueue`](crate::mux::WriteQueue), and no output was put since input came. Split
///   halves may owe an answer from the beginning, too: drop the writer, or reunite the halves, if
///   they do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub(crate) first_byte: Option<Duration>,
    pub(crate) read: Option<Duration>,
    pub(crate) min_rate: Option<MinRate>,
    pub(crate) write: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) linger: Duration,
}

/// The lowest rate at which awaited input must arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    pub(crate) bytes_per_second: u32,
    /// The time over which the average is taken.
    pub(crate) over: Duration,
}

impl MinRate {
    /// Creates a rate of at least `bytes_per_second` on the average of each `over`.
    #[must_use]
    pub const fn new(bytes_per_second: u32, over: Duration) -> Self {
        Self {
            bytes_per_second,
            over,
        }
    }

    /// Returns the bytes of one `over`.
    pub(crate) fn bytes_per_window(&self) -> u64 {
        let bytes = u128::from(self.bytes_per_second) * self.over.as_millis() / 1000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// How long a call has waited, and when it must end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// When the call began to wait.
    pub(crate) since: Instant,
    /// When it fails regardless of the timeouts.
    pub(crate) deadline: Option<Instant>,
}

impl Wait {
    /// Returns whether it has waited for `time`, or its deadline has passed.
    pub(crate) fn is_over(&self, time: Option<Duration>, now: Instant) -> bool {
        has_elapsed(self.since, time, now) || self.deadline.is_some_and(|by| by <= now)
    }
}

/// Returns whether `time`, if there is one, has passed since `since`.
pub(crate) fn has_elapsed(since: Instant, time: Option<Duration>, now: Instant) -> bool {
    time.is_some_and(|time| now.saturating_duration_since(since) >= time)
}

impl Default for Timeouts {
    /// Returns the timeouts of accepted connections.
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
    /// Returns the timeouts of dialed connections: the caller decides how long it waits, and a
    /// server may be silent for as long as it likes.
    #[must_use]
    pub fn for_dialing() -> Self {
        Self {
            first_byte: None,
            idle: None,
            ..Self::default()
        }
    }

    /// Sets the time from the accept to the peer's first byte, while one is awaited. Default: 10 s,
    /// because a peer that connects and sends nothing is no client. Off for dialed connections.
    #[must_use]
    pub fn first_byte(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.first_byte = time.into();
        self
    }

    /// Sets the time from when input is awaited (a call of the [`Reader`](crate::Reader) waits, or
    /// the handler returned and left input) until *all* of it has arrived, or input is consumed. A
    /// call that waited this long fails with
    /// [`ErrorKind::TimedOut`](crate::error::ErrorKind::TimedOut) and has consumed nothing; a retry
    /// gets the full time again. If several calls that each waited less reach the limit together,
    /// counted from the first byte, or if input was left, the connection is closed. A mux server
    /// waits without limit for the first byte of a request. Default: off, as in Go netpoll.
    #[must_use]
    pub fn read(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.read = time.into();
        self
    }

    /// Sets the lowest rate at which awaited input must arrive once a part of it has. A slower
    /// connection is closed. Default: 240 B/s over 30 s.
    #[must_use]
    pub fn min_rate(mut self, rate: impl Into<Option<MinRate>>) -> Self {
        self.min_rate = rate.into();
        self
    }

    /// Sets the time until the kernel has taken all output that was unsent at a moment: from the
    /// call of a `flush`, else from when the kernel took no more. It closes the connection, because
    /// the peer may have a part of a frame. Default: 60 s.
    #[must_use]
    pub fn write(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.write = time.into();
        self
    }

    /// Sets the longest time without a byte in either direction while no output is unsent and the
    /// connection is not [active](Self#active-connections). While the peer has sent only a part of
    /// a message, its bytes count only if they arrive at `min_rate`, or at 240 B/s if `min_rate` is
    /// higher or off. Counted from the last byte or the last activity. Activity that the poller
    /// sees only at intervals may delay it by up to the same time again. Default: 75 s. Off for
    /// dialed connections.
    #[must_use]
    pub fn idle(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.idle = time.into();
        self
    }

    /// Sets the longest life of a connection. It then shuts down gracefully: requests that the peer
    /// has sent by then are served first. Each connection ends up to a tenth earlier, so that those
    /// opened together do not end together. Default: off.
    #[must_use]
    pub fn max_age(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.max_age = time.into();
        self
    }

    /// Sets how long a close waits: for the peer to take the unsent output, and then for its FIN.
    /// Default: 5 s.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// Rejects a timeout of zero.
    pub(crate) fn validate(&self) -> Result<(), InvalidConfig> {
        let expected = "must be greater than zero; use None to disable it";
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
        let rejected = |change: fn(&mut Timeouts, Option<Duration>)| {
            let mut timeouts = Timeouts::default();
            change(&mut timeouts, zero);
            let error = timeouts.validate().unwrap_err();
            assert!(error.expected.contains("None"));
            error.option
        };
        assert_eq!(rejected(|t, zero| t.first_byte = zero), "first_byte");
        assert_eq!(rejected(|t, zero| t.read = zero), "read");
        assert_eq!(rejected(|t, zero| t.write = zero), "write");
        assert_eq!(rejected(|t, zero| t.idle = zero), "idle");
        assert_eq!(rejected(|t, zero| t.max_age = zero), "max_age");
        let rate = |t: &mut Timeouts, zero: Option<Duration>| {
            t.min_rate = zero.map(|over| MinRate::new(1, over));
        };
        assert_eq!(rejected(rate), "min_rate");
        assert_eq!(Timeouts::default().validate(), Ok(()));
        assert_eq!(Timeouts::for_dialing().validate(), Ok(()));
    }

    #[test]
    fn a_rate_is_bytes_per_window() {
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
