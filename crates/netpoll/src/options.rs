// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits: of a connection, of its time, and of the memory of a loop. Each has a default.
//!
//! ```
//! use std::time::Duration;
//! use netpoll::Dialer;
//! use netpoll::options::ConnOptions;
//!
//! let mut options = ConnOptions::default();
//! options.max_frame = 64 << 10;
//! options.timeouts.read = Some(Duration::from_secs(5));
//! let dialer = Dialer::new().options(options);
//! # drop(dialer);
//! ```

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use netpoll_sys::options;
use netpoll_sys::options::Keepalive;

pub use crate::budget::Budget;
use crate::error::InvalidConfig;
pub use crate::timeouts::{MinRate, Timeouts};

/// The default of [`ConnOptions::user_timeout`].
const DEFAULT_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// The limits and socket options of one connection. Every limit has a default; unlimited has to be
/// set explicitly.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnOptions {
    /// The most bytes one read may request. A longer length sent by the peer ends the connection
    /// before memory is allocated. 4 MiB.
    pub max_frame: usize,
    /// Reading stops when this many bytes wait for the handler, unless the handler waits for more.
    /// 64 KiB.
    pub read_high: usize,
    /// With this much unsent output or more, the handler is not called and nothing is read. 64 KiB.
    pub write_high: usize,
    /// Below this much unsent output, both resume. 32 KiB.
    pub write_low: usize,
    /// The most unsent output. Above it, writes are discarded and the connection ends. `None` is
    /// `write_high` plus twice `max_frame`, which leaves space for one call.
    pub max_output: Option<usize>,
    /// The timeouts of the connection.
    pub timeouts: Timeouts,
    /// Whether small writes are sent at once (`TCP_NODELAY`). On.
    pub nodelay: bool,
    /// When the kernel probes a silent peer; `None` is never. 60 s idle, 15 s interval, 4 probes: a
    /// vanished peer is detected after two minutes, and three lost probes end nothing.
    pub keepalive: Option<Keepalive>,
    /// How long sent bytes may stay unacknowledged, or unread by the peer (`TCP_USER_TIMEOUT`).
    /// `None` is the kernel's own limit, about 15 minutes. 60 s.
    ///
    /// On an idle connection the kernel uses it instead of the count of `keepalive`: the connection
    /// ends at the first due probe after a silence of this length. So the default of 60 s follows
    /// `keepalive` where that is set, and the socket gets `idle + count * interval`: 2 minutes by
    /// default, 3 s for 1 s, 1 s, 2, and none if the sum exceeds 15 minutes. Any other value is set
    /// unchanged. A value below `idle + 2 * interval` ends an idle connection after one lost probe.
    /// With a large value, or with `None` and unacknowledged bytes, a dead peer is detected later
    /// than `keepalive` specifies.
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
    /// Returns the defaults of dialed connections: [`Timeouts::for_dialing`], and otherwise the
    /// defaults of accepted ones.
    #[must_use]
    pub fn for_dialing() -> Self {
        Self {
            timeouts: Timeouts::for_dialing(),
            ..Self::default()
        }
    }

    /// Returns the user timeout of the socket: the default follows the keepalive.
    pub(crate) fn socket_user_timeout(&self) -> Option<Duration> {
        match (self.user_timeout, self.keepalive) {
            (Some(DEFAULT_USER_TIMEOUT), Some(keepalive)) => keepalive.user_timeout(),
            (timeout, _) => timeout,
        }
    }

    /// Sets the options of a TCP socket that differ from those `inherited` from its listener.
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

    /// Returns the limit of unsent output.
    pub(crate) fn output_bound(&self) -> usize {
        let one_call = self.max_frame.saturating_mul(2);
        self.max_output
            .unwrap_or(self.write_high.saturating_add(one_call))
    }

    /// Rejects values that cannot work, by the name of the field.
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
    use netpoll_buffer::BufStream;

    use super::*;
    use crate::error::{ErrorExt, ErrorKind};

    #[test]
    fn defaults_are_valid() {
        assert_eq!(ConnOptions::default().check(), Ok(()));
        assert_eq!(
            ConnOptions::default().output_bound(),
            (8 << 20) + (64 << 10)
        );
    }

    #[test]
    fn default_user_timeout_follows_keepalive_and_explicit_values_are_kept() {
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
    fn buf_stream_has_the_same_frame_limit_as_a_connection() {
        let bound = ConnOptions::default().max_frame;
        let mut stream = BufStream::new(io::repeat(7));
        stream.reader().wait(bound).unwrap();
        let error = stream.reader().wait(bound + 1).unwrap_err();
        let Some(ErrorKind::TooLarge { limit, size }) = error.netpoll_kind() else {
            panic!("{error:?}");
        };
        assert_eq!((limit, size), (bound, bound + 1));
    }

    #[test]
    fn invalid_options_are_rejected_by_field() {
        let named = |change: fn(&mut ConnOptions)| {
            let mut options = ConnOptions::default();
            change(&mut options);
            options.check().unwrap_err().option
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
