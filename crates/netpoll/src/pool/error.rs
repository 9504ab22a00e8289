// SPDX-License-Identifier: MIT OR Apache-2.0
//! The errors of a pool that are not errors of a dial.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// All connections to the address are in use, and the maximum number of callers waits.
/// `ResourceBusy`, returned at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolFull {
    /// The connections in use or being dialed.
    pub connections: usize,
    /// The callers that wait.
    pub waiting: usize,
}

/// A caller waited for as long as it may. `TimedOut`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolTimedOut {
    /// The limit of the wait.
    pub after: Duration,
}

/// The pool is closed. `NotConnected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolClosed;

impl fmt::Display for PoolFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connections,
            waiting,
        } = self;
        write!(
            f,
            "all {connections} connections are in use, and {waiting} callers wait already"
        )
    }
}

impl fmt::Display for PoolTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection was returned within {:?}", self.after)
    }
}

impl fmt::Display for PoolClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool is closed")
    }
}

impl Error for PoolFull {}
impl Error for PoolTimedOut {}
impl Error for PoolClosed {}

impl From<PoolFull> for io::Error {
    #[cold]
    fn from(full: PoolFull) -> Self {
        Self::new(io::ErrorKind::ResourceBusy, full)
    }
}

impl From<PoolTimedOut> for io::Error {
    #[cold]
    fn from(timed_out: PoolTimedOut) -> Self {
        Self::new(io::ErrorKind::TimedOut, timed_out)
    }
}

impl From<PoolClosed> for io::Error {
    #[cold]
    fn from(closed: PoolClosed) -> Self {
        Self::new(io::ErrorKind::NotConnected, closed)
    }
}
