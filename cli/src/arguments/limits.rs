// SPDX-License-Identifier: MIT OR Apache-2.0
//! The limits of a server's connections as flags. A flag that is not given keeps the framework's
//! default.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;
use netpoll::Builder;
use netpoll::event_loop::HandlerKind;
use netpoll::options::{Budget, ConnOptions};

use super::byte_size;
use super::duration::{self, OptionalDuration};
use super::keepalive::{self, KeepaliveSetting};

/// The default of `--drain`.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// The limits of each connection. Times are such as 500ms or 1m30s, sizes such as 64k or 4M.
#[derive(Args, Debug)]
#[command(
    next_help_heading = "Limits of each connection (times: 500ms, 10s, 1h; none disables; sizes: 64k, 4M)"
)]
pub(crate) struct LimitArgs {
    /// Time from the accept to the first byte [default: 10s]
    #[arg(long, value_name = "T", value_parser = duration::parse_optional)]
    first_byte_timeout: Option<OptionalDuration>,
    /// Time for one read to receive all the bytes that it waits for [default: none]
    #[arg(long, value_name = "T", value_parser = duration::parse_optional)]
    read_timeout: Option<OptionalDuration>,
    /// Time for the kernel to take unsent output [default: 60s]
    #[arg(long, value_name = "T", value_parser = duration::parse_optional)]
    write_timeout: Option<OptionalDuration>,
    /// Time without a byte in either direction [default: 75s]
    #[arg(long, value_name = "T", value_parser = duration::parse_optional)]
    idle_timeout: Option<OptionalDuration>,
    /// Maximum age of a connection before it is drained; each is up to a tenth shorter [default:
    /// none]
    #[arg(long, value_name = "T", value_parser = duration::parse_optional)]
    max_age: Option<OptionalDuration>,
    /// Maximum size of a frame [default: 4M]
    #[arg(long, value_name = "B", value_parser = frame)]
    max_frame: Option<NonZeroUsize>,
    /// Maximum memory of all connections, at least 1M and enough for a frame of --max-frame [default: a quarter of the memory available to the process]
    #[arg(long, value_name = "B", value_parser = budget)]
    budget: Option<usize>,
    /// Log a handler whose single poll takes longer than this [default: 10ms]
    #[arg(long, value_name = "T", value_parser = duration::parse_optional)]
    slow_handler: Option<OptionalDuration>,
    /// How long a close may flush unsent output and wait for the peer's FIN [default: 5s]
    #[arg(long, value_name = "T", value_parser = duration::parse)]
    linger: Option<Duration>,
    /// TCP keepalive: first probe after IDLE, then every INTERVAL, up to COUNT probes; a dead peer
    /// is detected after IDLE + COUNT * INTERVAL; none disables it [default: 60s,15s,4]
    #[arg(long, value_name = "IDLE,INTERVAL,COUNT", value_parser = keepalive::parse)]
    keepalive: Option<KeepaliveSetting>,
    /// Time for sent bytes to be acknowledged (TCP_USER_TIMEOUT); replaces the COUNT of --keepalive
    /// [default: derived from --keepalive, or 60s without keepalive]
    #[arg(long, value_name = "T", value_parser = duration::parse_optional)]
    user_timeout: Option<OptionalDuration>,
    /// How long connections may finish after SIGINT or SIGTERM [default: 30s]
    #[arg(long, value_name = "T", value_parser = duration::parse)]
    drain: Option<Duration>,
}

/// Returns the value of a setter for a flag that may be `off`.
fn time(given: OptionalDuration) -> Option<Duration> {
    match given {
        OptionalDuration::Off => None,
        OptionalDuration::Set(time) => Some(time),
    }
}

impl LimitArgs {
    /// Applies the given flags to `builder`.
    pub(crate) fn apply<K: HandlerKind>(&self, mut builder: Builder<K>) -> Builder<K> {
        // First, since it also sets the timeouts that follow.
        builder = builder.options(self.options());
        if let Some(given) = self.first_byte_timeout {
            builder = builder.first_byte_timeout(time(given));
        }
        if let Some(given) = self.read_timeout {
            builder = builder.read_timeout(time(given));
        }
        if let Some(given) = self.write_timeout {
            builder = builder.write_timeout(time(given));
        }
        if let Some(given) = self.idle_timeout {
            builder = builder.idle_timeout(time(given));
        }
        if let Some(given) = self.max_age {
            builder = builder.max_age(time(given));
        }
        if let Some(bytes) = self.max_frame {
            builder = builder.max_frame(bytes.get());
        }
        if let Some(bytes) = self.budget {
            builder = builder.budget(Budget::new(bytes));
        }
        if let Some(given) = self.slow_handler {
            builder = builder.slow_handler(time(given));
        }
        if let Some(time) = self.linger {
            builder = builder.linger(time);
        }
        builder
    }

    /// Returns the options of accepted connections.
    fn options(&self) -> ConnOptions {
        let mut options = ConnOptions::default();
        if let Some(given) = self.keepalive {
            options = options.keepalive(given.keepalive());
        }
        if let Some(given) = self.user_timeout {
            options = options.user_timeout(time(given));
        }
        options
    }

    /// Returns an error text if the budget is too small for a frame of the maximum size on this
    /// number of pollers.
    pub(crate) fn budget_error(&self, pollers: Option<NonZeroUsize>) -> Option<String> {
        let frame = match self.max_frame {
            Some(bytes) => bytes.get(),
            None => ConnOptions::default().get_max_frame(),
        };
        let pollers = pollers.or_else(|| available_parallelism().ok());
        let least = Budget::least(frame, pollers.map_or(1, NonZeroUsize::get));
        let budget = match self.budget {
            Some(bytes) => bytes,
            None => Budget::default().limit(),
        };
        (budget < least).then(|| {
            format!(
                "--budget {budget} does not hold a frame of --max-frame {frame}; give at least \
                 {least}, or a smaller --max-frame"
            )
        })
    }

    /// Returns the options of the connections that a proxy dials. The first-byte timeout is not
    /// among them: the client sends first.
    pub(crate) fn dialed_options(&self) -> ConnOptions {
        let mut options = ConnOptions::for_dialing();
        if let Some(given) = self.read_timeout {
            options = options.read_timeout(time(given));
        }
        if let Some(given) = self.write_timeout {
            options = options.write_timeout(time(given));
        }
        if let Some(given) = self.idle_timeout {
            options = options.idle_timeout(time(given));
        }
        if let Some(given) = self.max_age {
            options = options.max_age(time(given));
        }
        if let Some(time) = self.linger {
            options = options.linger(time);
        }
        if let Some(bytes) = self.max_frame {
            options = options.max_frame(bytes.get());
        }
        options
    }

    /// Returns the time that connections may take to finish after a signal.
    pub(crate) fn drain(&self) -> Duration {
        self.drain.unwrap_or(DEFAULT_DRAIN)
    }

    /// Returns the first given flag, for a server without limits.
    pub(crate) fn first_given(&self) -> Option<&'static str> {
        [
            (self.first_byte_timeout.is_some(), "--first-byte-timeout"),
            (self.read_timeout.is_some(), "--read-timeout"),
            (self.write_timeout.is_some(), "--write-timeout"),
            (self.idle_timeout.is_some(), "--idle-timeout"),
            (self.max_age.is_some(), "--max-age"),
            (self.max_frame.is_some(), "--max-frame"),
            (self.budget.is_some(), "--budget"),
            (self.slow_handler.is_some(), "--slow-handler"),
            (self.linger.is_some(), "--linger"),
            (self.keepalive.is_some(), "--keepalive"),
            (self.user_timeout.is_some(), "--user-timeout"),
            (self.drain.is_some(), "--drain"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }
}

fn frame(text: &str) -> Result<NonZeroUsize, String> {
    byte_size::parse(text)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| String::from("must be bytes, such as 65536, 64k or 4M, at least 1"))
}

/// The smallest budget that an event loop accepts, in bytes.
const MIN_BUDGET: usize = 1 << 20;

fn budget(text: &str) -> Result<usize, String> {
    byte_size::parse(text)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|&bytes| bytes >= MIN_BUDGET)
        .ok_or_else(|| format!("must be bytes, such as 512M or 2G, at least {MIN_BUDGET}"))
}
