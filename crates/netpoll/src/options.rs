// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits: of a connection, of its time, and of the memory of a loop. Each has a default.
//!
//! ```
//! use std::time::Duration;
//! use netpoll::Dialer;
//! use netpoll::options::ConnOptions;
//!
//! let options = ConnOptions::for_dialing()
//!     .max_frame(64 << 10)
//!     .read_timeout(Duration::from_secs(5))
//!     .keepalive(None);
//! let dialer = Dialer::new().options(options);
//! # drop(dialer);
//! ```
//!
//! All options are set in this way. A setter has the name of its option, takes the options by value
//! and returns them changed. An option with the same meaning has the same name everywhere:
//! [`Builder`](crate::Builder) and [`Dialer`](crate::Dialer) have each setter of [`ConnOptions`]. A
//! setter whose option can be off takes a value or `None`.

mod setters;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use netpoll_sys::options;
use netpoll_sys::options::Keepalive;

pub use crate::budget::Budget;
use crate::error::InvalidConfig;
pub use crate::timeouts::{MinRate, Timeouts};
pub(crate) use setters::conn_option_setters;

/// The default of [`ConnOptions::user_timeout`].
const DEFAULT_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// The limits and socket options of one connection. Every limit has a default; unlimited has to be
/// set explicitly.
#[derive(Clone, Debug)]
pub struct ConnOptions {
    pub(crate) max_frame: usize,
    pub(crate) read_high: usize,
    pub(crate) write_high: usize,
    pub(crate) write_low: usize,
    /// `None` follows from `write_high` and `max_frame`.
    pub(crate) max_output: Option<usize>,
    pub(crate) timeouts: Timeouts,
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Option<Duration>,
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

    conn_option_setters!();

    /// Returns the most bytes that one read may request.
    #[must_use]
    pub fn get_max_frame(&self) -> usize {
        self.max_frame
    }

    /// Returns the timeouts.
    #[must_use]
    pub fn get_timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Returns the options that the setters change.
    fn conn_options(&mut self) -> &mut Self {
        self
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

    /// Rejects values that cannot work, by the name of the option.
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
    fn invalid_options_are_rejected_by_name() {
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
