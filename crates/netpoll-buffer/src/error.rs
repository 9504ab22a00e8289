// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a call on a buffer was refused. Each is found by `downcast_ref` on
//! [`std::io::Error::get_ref`]; a refused call has changed nothing.

use std::error::Error;
use std::fmt;
use std::io;

/// Fewer bytes are readable than were asked for. [`io::ErrorKind::UnexpectedEof`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotEnoughData {
    /// How many bytes are readable.
    pub have: usize,
    /// How many were asked for.
    pub need: usize,
}

impl NotEnoughData {
    /// The refusal of `need` where only `have` are there.
    #[must_use]
    pub const fn new(have: usize, need: usize) -> Self {
        Self { have, need }
    }
}

impl fmt::Display for NotEnoughData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes were asked for and {} are there",
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

/// More was asked for than a limit allows. [`io::ErrorKind::InvalidData`], because it is usually
/// the peer who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooLarge {
    /// What is allowed.
    pub limit: usize,
    /// What was asked for.
    pub asked: usize,
}

impl TooLarge {
    /// The refusal of `asked` where `limit` is allowed.
    #[must_use]
    pub const fn new(limit: usize, asked: usize) -> Self {
        Self { limit, asked }
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes were asked for and the limit is {}",
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

/// A position or count of uncommitted bytes that is past their end, or a reservation that has
/// already ended. [`io::ErrorKind::InvalidInput`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutOfRange {
    /// How many uncommitted bytes there are.
    pub uncommitted: usize,
    /// What was asked for.
    pub asked: usize,
}

impl OutOfRange {
    /// The refusal of `asked` where `uncommitted` bytes are uncommitted.
    #[must_use]
    pub const fn new(uncommitted: usize, asked: usize) -> Self {
        Self { uncommitted, asked }
    }
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} was asked for and {} bytes are uncommitted",
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

/// A foreign sink claimed to have taken more than it was given, so nobody knows what it has.
/// [`io::ErrorKind::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOverrun {
    /// What it was given.
    pub given: usize,
    /// What it claimed.
    pub claimed: usize,
}

impl WriteOverrun {
    /// The refusal of a claim of `claimed` where `given` were given.
    #[must_use]
    pub const fn new(given: usize, claimed: usize) -> Self {
        Self { given, claimed }
    }
}

impl fmt::Display for WriteOverrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes were said to be taken where {} were given",
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
