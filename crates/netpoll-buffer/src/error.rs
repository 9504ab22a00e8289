// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reasons for which a call on a buffer is rejected. Use `downcast_ref` on
//! [`std::io::Error::get_ref`] to find one. A rejected call has changed nothing.

use std::error::Error;
use std::fmt;
use std::io;

/// Fewer bytes are readable than were requested. [`io::ErrorKind::UnexpectedEof`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotEnoughData {
    /// Number of readable bytes.
    pub have: usize,
    /// Number of requested bytes.
    pub need: usize,
}

impl NotEnoughData {
    /// Creates the error for a request of `need` bytes where `have` are readable.
    #[must_use]
    pub const fn new(have: usize, need: usize) -> Self {
        Self { have, need }
    }
}

impl fmt::Display for NotEnoughData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes were requested and {} are readable",
            self.need, self.have
        )
    }
}

impl Error for NotEnoughData {}

impl From<NotEnoughData> for io::Error {
    #[cold]
    fn from(short: NotEnoughData) -> Self {
        Self::new(io::ErrorKind::UnexpectedEof, short)
    }
}

/// A request exceeds a limit. [`io::ErrorKind::InvalidData`], because the requested length usually
/// comes from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooLarge {
    /// The limit, in bytes.
    pub limit: usize,
    /// The request.
    pub asked: usize,
}

impl TooLarge {
    /// Creates the error for a request of `asked` bytes where `limit` are allowed.
    #[must_use]
    pub const fn new(limit: usize, asked: usize) -> Self {
        Self { limit, asked }
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes were requested and the limit is {}",
            self.asked, self.limit
        )
    }
}

impl Error for TooLarge {}

impl From<TooLarge> for io::Error {
    #[cold]
    fn from(large: TooLarge) -> Self {
        Self::new(io::ErrorKind::InvalidData, large)
    }
}

/// A position or count of uncommitted bytes is past their end, or a reservation has already ended.
/// [`io::ErrorKind::InvalidInput`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutOfRange {
    /// Number of uncommitted bytes.
    pub uncommitted: usize,
    /// The request.
    pub asked: usize,
}

impl OutOfRange {
    /// Creates the error for a request of `asked` where `uncommitted` bytes are uncommitted.
    #[must_use]
    pub const fn new(uncommitted: usize, asked: usize) -> Self {
        Self { uncommitted, asked }
    }
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} was requested and {} bytes are uncommitted",
            self.asked, self.uncommitted
        )
    }
}

impl Error for OutOfRange {}

impl From<OutOfRange> for io::Error {
    #[cold]
    fn from(range: OutOfRange) -> Self {
        Self::new(io::ErrorKind::InvalidInput, range)
    }
}

/// A foreign sink claims to have written more bytes than it was given, so its contents are unknown.
/// [`io::ErrorKind::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOverrun {
    /// Number of bytes it was given.
    pub given: usize,
    /// Number of bytes it claims to have written.
    pub claimed: usize,
}

impl WriteOverrun {
    /// Creates the error for a claim of `claimed` bytes where `given` were given.
    #[must_use]
    pub const fn new(given: usize, claimed: usize) -> Self {
        Self { given, claimed }
    }
}

impl fmt::Display for WriteOverrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the sink claims to have written {} bytes where {} were given",
            self.claimed, self.given
        )
    }
}

impl Error for WriteOverrun {}

impl From<WriteOverrun> for io::Error {
    #[cold]
    fn from(claim: WriteOverrun) -> Self {
        Self::other(claim)
    }
}
