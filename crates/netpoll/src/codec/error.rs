// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a codec refused what came, or what was to be sent.

use std::error::Error;
use std::fmt;
use std::io;

use super::Need;

/// A length that came is less than nothing when it is adjusted. `InvalidData`, because it is the
/// peer's. Nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NegativeLength {
    /// What the field says.
    pub value: u64,
    /// What is added to it.
    pub adjustment: i64,
}

impl NegativeLength {
    pub(super) const fn new(value: u64, adjustment: i64) -> Self {
        Self { value, adjustment }
    }
}

impl fmt::Display for NegativeLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, adjustment } = self;
        write!(f, "a length of {value}, which is adjusted by {adjustment}")
    }
}

impl Error for NegativeLength {}

impl From<NegativeLength> for io::Error {
    #[cold]
    fn from(negative: NegativeLength) -> Self {
        Self::new(io::ErrorKind::InvalidData, negative)
    }
}

/// A frame that would not come out of the stream as it went in. `InvalidInput`. Nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// It has fewer bytes than lie before the length.
    TooShort {
        /// How many it has.
        have: usize,
        /// How many lie there.
        offset: usize,
    },
    /// The field has no number for its length.
    LengthOverflow {
        /// The number that would have to be said.
        value: i128,
        /// The largest that the field can say.
        largest: u64,
    },
    /// It has not the one size that frames have.
    WrongSize {
        /// How many bytes it has.
        have: usize,
        /// How many all have.
        size: usize,
    },
    /// It has the delimiter, by itself or together with the one that ends it.
    ContainsDelimiter {
        /// At which byte.
        at: usize,
    },
    /// It would take more bytes in the stream than the codec allows.
    TooLong {
        /// How many it would take.
        whole: usize,
        /// What is allowed.
        maximum: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { have, offset } => {
                write!(f, "{have} bytes, where {offset} lie before the length")
            }
            Self::LengthOverflow { value, largest } => {
                write!(f, "a length of {value} in a field up to {largest}")
            }
            Self::WrongSize { have, size } => {
                write!(f, "{have} bytes, where every frame has {size}")
            }
            Self::ContainsDelimiter { at } => {
                write!(f, "the delimiter is in the frame, at byte {at}")
            }
            Self::TooLong { whole, maximum } => {
                write!(f, "a frame of {whole} bytes, where {maximum} are allowed")
            }
        }
    }
}

impl Error for EncodeError {}

impl From<EncodeError> for io::Error {
    #[cold]
    fn from(unencodable: EncodeError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, unencodable)
    }
}

/// A codec has told what cannot be, or would be told again for ever. `InvalidData`. Nothing was
/// consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidNeed {
    /// How many bytes were there.
    pub have: usize,
    /// What was told of them.
    pub need: Need,
}

impl InvalidNeed {
    pub(super) const fn new(have: usize, need: Need) -> Self {
        Self { have, need }
    }
}

impl fmt::Display for InvalidNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.need {
            Need::Frame(n) => write!(f, "a frame of {n} bytes in {}", self.have),
            Need::More(n) => write!(f, "{n} bytes are needed and {} are there", self.have),
        }
    }
}

impl Error for InvalidNeed {}

impl From<InvalidNeed> for io::Error {
    #[cold]
    fn from(invalid: InvalidNeed) -> Self {
        Self::new(io::ErrorKind::InvalidData, invalid)
    }
}
