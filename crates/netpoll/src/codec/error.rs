// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors for frames to send.

use std::error::Error;
use std::fmt;
use std::io;

use crate::error::ErrorKind;

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
        ErrorKind::Encode(error).into()
    }
}
