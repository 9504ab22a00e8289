// SPDX-License-Identifier: MIT OR Apache-2.0
//! The texts of errors: what happened, how much, and which option.

use std::fmt::{self, Display as _};
use std::time::Duration;

use super::close_reason::Timeout;
use super::{ErrorKind, TakenBy};
use crate::addr::Addr;
use crate::codec::Need;

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { reason } => write!(f, "the connection has ended: {reason}"),
            Self::NegativeLength { .. } | Self::InvalidNeed { .. } | Self::Encode(_) => {
                self.fmt_codec(f)
            }
            Self::FrameTooLarge { .. }
            | Self::TooLarge { .. }
            | Self::UnexpectedEof { .. }
            | Self::NotEnoughData { .. }
            | Self::OutOfRange { .. }
            | Self::WriteOverrun { .. } => self.fmt_bytes(f),
            Self::TimedOut { .. }
            | Self::CallTimedOut { .. }
            | Self::Elapsed
            | Self::PoolTimedOut { .. } => self.fmt_timeout(f),
            Self::PoolFull {
                connections,
                waiting,
            } => write!(
                f,
                "all {connections} connections are in use, and {waiting} callers wait already"
            ),
            Self::PoolClosed => f.write_str("the pool is closed"),
            Self::WriteAfterShutdown => f.write_str("write after shutdown of this side's stream"),
            Self::BlockingOnPoller => {
                f.write_str("blocking call on a poller thread; await the future instead")
            }
            Self::NotOnPoller => f.write_str(
                "call outside of a poller thread; make it in a handler that runs on its poller",
            ),
            Self::NotRunning => f.write_str("the event loop of the connection is not running"),
            Self::NoAddress => f.write_str("the name has no address"),
            Self::ResolverStalled => {
                f.write_str("the system's resolver hangs: 64 abandoned lookups have not returned")
            }
            Self::InvalidConfig { option, expected } => write!(f, "{option}: {expected}"),
            Self::InvalidAddr(error) => error.fmt(f),
            Self::InvalidUnixName(error) => error.fmt(f),
            Self::PathTaken { path, by } => write!(f, "{} is taken by {by}", path.display()),
            Self::NotAttached { expected } => {
                write!(f, "no {expected} is attached to the connection")
            }
        }
    }
}

impl ErrorKind {
    fn fmt_timeout(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TimedOut {
                timeout: Timeout::Read,
                after: Some(after),
            } => write!(
                f,
                "the awaited bytes did not arrive within {}",
                Short(after)
            ),
            Self::TimedOut { timeout, .. } => timeout.fmt(f),
            Self::CallTimedOut { after: Some(after) } => {
                write!(f, "call timed out after {}", Short(after))
            }
            Self::CallTimedOut { after: None } => f.write_str("call timed out at its deadline"),
            Self::PoolTimedOut { after } => {
                write!(f, "no connection was returned within {}", Short(after))
            }
            _ => f.write_str("deadline has elapsed"),
        }
    }

    fn fmt_bytes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FrameTooLarge {
                size,
                limit,
                option,
                ref peer,
            } => {
                let (size, limit) = (Grouped(size), Size(limit));
                write!(f, "frame of {size} bytes exceeds {option} ({limit})")?;
                match peer.as_deref() {
                    Some(Addr::Unnamed) => f.write_str(" of an unnamed peer"),
                    Some(peer) => write!(f, " of {peer}"),
                    None => Ok(()),
                }
            }
            Self::UnexpectedEof { have, need } => {
                write!(f, "the stream ended after {have} of {need} bytes")
            }
            Self::NotEnoughData { have, need } => {
                netpoll_buffer::NotEnoughData::new(have, need).fmt(f)
            }
            Self::TooLarge { size, limit } => netpoll_buffer::TooLarge::new(limit, size).fmt(f),
            Self::OutOfRange {
                uncommitted,
                requested,
            } => netpoll_buffer::OutOfRange::new(uncommitted, requested).fmt(f),
            Self::WriteOverrun { given, claimed } => {
                netpoll_buffer::WriteOverrun::new(given, claimed).fmt(f)
            }
            _ => Ok(()),
        }
    }

    fn fmt_codec(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NegativeLength { value, adjustment } => write!(
                f,
                "the length {value} is negative after its adjustment by {adjustment}"
            ),
            Self::InvalidNeed {
                have,
                need: Need::Frame(n),
            } => write!(f, "the codec measured a frame of {n} bytes in {have} bytes"),
            Self::InvalidNeed {
                have,
                need: Need::More(n),
            } => write!(
                f,
                "the codec needs {n} bytes in total, but {have} have arrived"
            ),
            Self::Encode(error) => error.fmt(f),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for TakenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "a listening server",
            Self::NotASocket => "a file that is not a socket",
            Self::OtherUser => "a socket of another user",
        })
    }
}

/// A number with a comma between groups of three digits.
pub(super) struct Grouped(pub(super) usize);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A size in the largest binary unit that divides it.
pub(crate) struct Size(pub(crate) usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{} {unit}", Grouped(self.0 >> shift));
            }
        }
        write!(f, "{} bytes", Grouped(self.0))
    }
}

/// A duration in whole seconds, or else in milliseconds; below a millisecond with its fraction.
pub(super) struct Short(pub(super) Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_millis(), self.0.subsec_nanos()) {
            (0, _) => write!(f, "{:?}", self.0),
            (_, 0) => write!(f, "{} s", self.0.as_secs()),
            (millis, _) => write!(f, "{millis} ms"),
        }
    }
}
