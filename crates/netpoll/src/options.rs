// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bounds of a connection, each with its default and the reason for it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use netpoll_sys::options;
use netpoll_sys::options::Keepalive;

use crate::error::InvalidConfig;
use crate::timeouts::Timeouts;

/// How long sent bytes may stay unacknowledged, unless told otherwise.
const DEFAULT_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// What bounds one connection. Every bound has a default; what is unlimited has to be asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnOptions {
    /// The most bytes one read may ask for; a peer's length above it ends the connection before
    /// anything is allocated. 4 MiB.
    pub max_frame: usize,
    /// Reading stops when this much waits for the handler, unless it waits for more. 64 KiB.
    pub read_high: usize,
    /// From this much unsent output on, no handler is called and nothing is read. 64 KiB.
    pub write_high: usize,
    /// Below this much unsent output it goes on. 32 KiB.
    pub write_low: usize,
    /// The most output that may be unsent at all; beyond it puts are discarded and the connection
    /// ends. `write_high`, and twice `max_frame` for one call above it, if `None`.
    pub max_output: Option<usize>,
    /// How long what may take.
    pub timeouts: Timeouts,
    /// Whether small writes go out at once (`TCP_NODELAY`). On.
    pub nodelay: bool,
    /// When the kernel asks a silent peer whether it is there; `None` is never. 60 s, 15 s, 4: a peer
    /// that vanished is known after two minutes, and three lost probes end nothing.
    pub keepalive: Option<Keepalive>,
    /// How long sent bytes may stay unacknowledged, or a peer take none (`TCP_USER_TIMEOUT`); `None` is
    /// as long as the kernel likes, about 15 minutes. 60 s.
    ///
    /// The kernel lets it take the place of the count of `keepalive`: a connection at rest ends at the
    /// first probe that is due when the silence is as long as this. So the default of 60 s is fitted
    /// to `keepalive` where there is one, and the socket gets `idle + count * interval`: 2 minutes by
    /// default, 3 s for 1 s, 1 s, 2, and none where that is more than 15 minutes. Any other value is
    /// set as it is given. One below `idle + 2 * interval` ends a connection at rest for one lost
    /// probe; with a large one, or with `None` and bytes unacknowledged, a dead peer is found later
    /// than `keepalive` says.
    pub user_timeout: Option<Duration>,
}

impl Default for ConnOptions {
    fn default() -> Self {
        Self {
            max_frame: 4 << 20,
            read_high: 64 << 10,
            write_high: 64 << 10,
            write_low: 32 << 10,
            max_output: None,
            timeouts: Timeouts::default(),
            nodelay: true,
            keepalive: Some(Keepalive::default()),
            user_timeout: Some(DEFAULT_USER_TIMEOUT),
        }
    }
}

impl ConnOptions {
    /// The default bounds of dialed connections: [`Timeouts::for_dialing`], and else those of
    /// accepted ones.
    #[must_use]
    pub fn for_dialing() -> Self {
        Self {
            timeouts: Timeouts::for_dialing(),
            ..Self::default()
        }
    }

    /// The user timeout that a socket gets: the default is fitted to its keepalive.
    pub(crate) fn socket_user_timeout(&self) -> Option<Duration> {
        match (self.user_timeout, self.keepalive) {
            (Some(DEFAULT_USER_TIMEOUT), Some(keepalive)) => keepalive.user_timeout(),
            (timeout, _) => timeout,
        }
    }

    /// Sets on a TCP socket what `self` has otherwise than the options `inherited` from its listener.
    pub(crate) fn set_differences(&self, fd: BorrowedFd<'_>, inherited: &Self) -> io::Result<()> {
        if self.nodelay != inherited.nodelay {
            options::set_nodelay(fd, self.nodelay)?;
        }
        if self.keepalive != inherited.keepalive {
            match self.keepalive {
                Some(keepalive) => options::set_keepalive(fd, keepalive)?,
                None => options::unset_keepalive(fd)?,
            }
        }
        if self.socket_user_timeout() != inherited.socket_user_timeout() {
            options::set_user_timeout(fd, self.socket_user_timeout())?;
        }
        Ok(())
    }

    /// The bound of unsent output.
    pub(crate) fn output_bound(&self) -> usize {
        let one_call = self.max_frame.saturating_mul(2);
        self.max_output
            .unwrap_or(self.write_high.saturating_add(one_call))
    }

    /// Refuses, by name, what cannot work.
    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        if self.max_frame == 0 {
            return Err(InvalidConfig::new("max_frame", "must be at least 1 byte"));
        }
        if self.read_high == 0 {
            return Err(InvalidConfig::new("read_high", "must be at least 1 byte"));
        }
        if self.write_low > self.write_high {
            return Err(InvalidConfig::new(
                "write_low",
                "must not be above write_high",
            ));
        }
        if self.write_high == 0 {
            return Err(InvalidConfig::new("write_high", "must be at least 1 byte"));
        }
        if self.output_bound() < self.write_high {
            return Err(InvalidConfig::new(
                "max_output",
                "must not be below write_high",
            ));
        }
        self.timeouts.validate()
    }
}

#[cfg(test)]
mod tests {
    use netpoll_buffer::{BufStream, TooLarge};

    use super::*;

    #[test]
    fn the_defaults_can_work() {
        assert_eq!(ConnOptions::default().check(), Ok(()));
        assert_eq!(
            ConnOptions::default().output_bound(),
            (8 << 20) + (64 << 10)
        );
    }

    #[test]
    fn the_default_user_timeout_is_fitted_to_the_keepalive_and_others_are_set_as_given() {
        let set = |keepalive, user_timeout| {
            let options = ConnOptions {
                keepalive,
                user_timeout,
                ..ConnOptions::default()
            };
            options.socket_user_timeout()
        };
        let seconds = Duration::from_secs;
        let every =
            |idle, interval, count| Some(Keepalive::new(seconds(idle), seconds(interval), count));
        let default = ConnOptions::default();
        assert_eq!(default.socket_user_timeout(), Some(seconds(120)));
        assert_eq!(set(every(1, 1, 2), default.user_timeout), Some(seconds(3)));
        assert_eq!(set(None, default.user_timeout), default.user_timeout);
        for given in [None, Some(seconds(2)), Some(seconds(500))] {
            assert_eq!(set(every(1, 1, 2), given), given);
            assert_eq!(set(None, given), given);
        }
    }

    #[test]
    fn a_foreign_stream_is_asked_for_as_much_as_a_connection() {
        let bound = ConnOptions::default().max_frame;
        let mut stream = BufStream::new(io::repeat(7));
        stream.reader().wait(bound).unwrap();
        let error = stream.reader().wait(bound + 1).unwrap_err();
        let large: Option<&TooLarge> = error.get_ref().and_then(|why| why.downcast_ref());
        assert_eq!(large, Some(&TooLarge::new(bound, bound + 1)));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let named = |change: fn(&mut ConnOptions)| {
            let mut options = ConnOptions::default();
            change(&mut options);
            options.check().unwrap_err().field
        };
        assert_eq!(named(|options| options.max_frame = 0), "max_frame");
        assert_eq!(named(|options| options.read_high = 0), "read_high");
        assert_eq!(named(|options| options.write_low = 1 << 20), "write_low");
        let both_zero = |options: &mut ConnOptions| {
            options.write_high = 0;
            options.write_low = 0;
        };
        assert_eq!(named(both_zero), "write_high");
        assert_eq!(named(|options| options.max_output = Some(1)), "max_output");
    }
}
