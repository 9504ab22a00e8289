// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of codecs, for received bytes and for frames to send.

use std::error::Error;
use std::fmt;
use std::io;

use super::Need;

/// A received length is negative after its adjustment. `InvalidData`, because the peer sent it.
/// Nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NegativeLength {
    /// The value of the length field.
    pub value: u64,
    /// The adjustment that is added to it.
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
        write!(
            f,
            "the length {value} is negative after its adjustment by {adjustment}"
        )
    }
}

impl Error for NegativeLength {}

impl From<NegativeLength> for io::Error {
    #[cold]
    fn from(error: NegativeLength) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// A frame cannot be encoded so that it can be decoded again. `InvalidInput`. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The frame is shorter than the header before the length.
    TooShort {
        /// The bytes of the frame.
        have: usize,
        /// The bytes before the length.
        offset: usize,
    },
    /// The length does not fit into the length field.
    LengthOverflow {
        /// The value that the field would need.
        value: i128,
        /// The largest value of the field.
        largest: u64,
    },
    /// The frame is not of the codec's fixed size.
    WrongSize {
        /// The bytes of the frame.
        have: usize,
        /// The fixed size, in bytes.
        size: usize,
    },
    /// The frame contains the delimiter, or forms one together with the first bytes of the
    /// delimiter that ends it.
    ContainsDelimiter {
        /// The offset of that delimiter.
        at: usize,
    },
    /// The frame would take more bytes in the stream than the codec allows.
    TooLong {
        /// The bytes that it would take.
        whole: usize,
        /// The bytes that are allowed.
        maximum: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { have, offset } => {
                write!(
                    f,
                    "a frame of {have} bytes is shorter than the {offset} bytes before the length"
                )
            }
            Self::LengthOverflow { value, largest } => {
                write!(
                    f,
                    "the length {value} does not fit into a field with a maximum of {largest}"
                )
            }
            Self::WrongSize { have, size } => {
                write!(f, "a frame of {have} bytes, but every frame has {size}")
            }
            Self::ContainsDelimiter { at } => {
                write!(f, "the frame contains the delimiter at byte {at}")
            }
            Self::TooLong { whole, maximum } => {
                write!(
                    f,
                    "a frame of {whole} bytes exceeds the maximum of {maximum}"
                )
            }
        }
    }
}

impl Error for EncodeError {}

impl From<EncodeError> for io::Error {
    #[cold]
    fn from(error: EncodeError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// A codec returned a [`Need`] that is impossible or makes no progress. `InvalidData`. Nothing was
/// consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidNeed {
    /// The bytes that had arrived.
    pub have: usize,
    /// The need that the codec returned for them.
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
            Need::Frame(n) => write!(
                f,
                "the codec measured a frame of {n} bytes in {} bytes",
                self.have
            ),
            Need::More(n) => write!(
                f,
                "the codec needs {n} bytes in total, but {} have arrived",
                self.have
            ),
        }
    }
}

impl Error for InvalidNeed {}

impl From<InvalidNeed> for io::Error {
    #[cold]
    fn from(error: InvalidNeed) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
