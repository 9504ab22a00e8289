// SPDX-License-Identifier: MIT OR Apache-2.0
//! The formats of the codecs over a flat slice: their documentation, with numbers that cannot
//! overflow and the simplest searches.

use arbitrary::{Arbitrary, Unstructured};
use netpoll::codec::Need;

#[derive(Clone, Debug)]
pub(crate) enum Format {
    Length {
        width: usize,
        little: bool,
        offset: usize,
        adjustment: i64,
        maximum: usize,
    },
    Delimited {
        delimiter: Vec<u8>,
        maximum: usize,
    },
    Fixed(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum FlatMeasurement {
    Need(Need),
    Rejected(RejectReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RejectReason {
    TooLarge,
    Negative,
}

impl<'a> Arbitrary<'a> for Format {
    fn arbitrary(data: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match data.int_in_range(0..=4)? {
            0 => Self::Fixed(data.int_in_range(0..=40)?),
            1 => {
                let length = data.int_in_range(0..=6)?.min(data.len());
                Self::Delimited {
                    delimiter: data.bytes(length)?.to_vec(),
                    maximum: maximum(data)?,
                }
            }
            _ => Self::Length {
                width: data.int_in_range(0..=9)?,
                little: data.arbitrary()?,
                offset: match data.int_in_range(0..=15)? {
                    0 => data.arbitrary()?,
                    1..=7 => 0,
                    _ => data.int_in_range(0..=20)?,
                },
                adjustment: match data.int_in_range(0..=15)? {
                    0 => data.arbitrary()?,
                    1..=7 => 0,
                    _ => data.int_in_range(-30..=30)?,
                },
                maximum: maximum(data)?,
            },
        })
    }
}

fn maximum(data: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
    Ok(match data.int_in_range(0..=7)? {
        0 => data.arbitrary()?,
        1 => usize::MAX,
        2 | 3 => data.int_in_range(0..=100)?,
        _ => 4 << 20,
    })
}

impl Format {
    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::Fixed(size) => *size > 0,
            Self::Delimited { delimiter, maximum } => {
                !delimiter.is_empty() && delimiter.len() <= *maximum
            }
            &Self::Length {
                width,
                offset,
                adjustment,
                maximum,
                ..
            } => {
                let shortest = offset as i128 + width as i128 + i128::from(adjustment).max(0);
                (1..=8).contains(&width)
                    && shortest <= maximum as i128
                    && 256i128.pow(width as u32) + i128::from(adjustment) > 0
            }
        }
    }

    /// Measures the front of `bytes`.
    pub(crate) fn measure(&self, bytes: &[u8]) -> FlatMeasurement {
        let have = bytes.len() as i128;
        let (whole, maximum) = match self {
            Self::Fixed(size) => (*size as i128, *size),
            Self::Delimited { delimiter, maximum } => {
                let mut places = bytes.windows(delimiter.len());
                match places.position(|place| place == delimiter) {
                    Some(at) => ((at + delimiter.len()) as i128, *maximum),
                    None => ((have + 1).max(delimiter.len() as i128), *maximum),
                }
            }
            Self::Length {
                width,
                little,
                offset,
                adjustment,
                maximum,
            } => {
                let head = offset + width;
                if bytes.len() < head {
                    return FlatMeasurement::Need(Need::More(head));
                }
                let mut field = bytes[*offset..head].to_vec();
                if *little {
                    field.reverse();
                }
                let number = field.iter().fold(0, |n, byte| n * 256 + i128::from(*byte));
                let body = number + i128::from(*adjustment);
                if body < 0 {
                    return FlatMeasurement::Rejected(RejectReason::Negative);
                }
                (head as i128 + body, *maximum)
            }
        };
        if whole > maximum as i128 {
            return FlatMeasurement::Rejected(RejectReason::TooLarge);
        }
        let need = if whole <= have {
            Need::Frame
        } else {
            Need::More
        };
        FlatMeasurement::Need(need(whole as usize))
    }

    /// Returns the frame that the whole `wire` encodes.
    pub(crate) fn frame(&self, wire: &[u8]) -> Vec<u8> {
        let mut frame = wire.to_vec();
        match self {
            Self::Fixed(_) => {}
            Self::Delimited { delimiter, .. } => frame.truncate(wire.len() - delimiter.len()),
            Self::Length { width, offset, .. } => {
                frame.drain(*offset..offset + width);
            }
        }
        frame
    }

    /// Encodes `frame`, if the format can.
    pub(crate) fn wire(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut wire = frame.to_vec();
        match self {
            Self::Fixed(_) => {}
            Self::Delimited { delimiter, .. } => wire.extend(delimiter),
            Self::Length {
                width,
                little,
                offset,
                adjustment,
                ..
            } => {
                let body = frame.len().checked_sub(*offset)?;
                let mut number = body as i128 - i128::from(*adjustment);
                let mut field = Vec::new();
                for _ in 0..*width {
                    field.push(number.rem_euclid(256) as u8);
                    number = number.div_euclid(256);
                }
                if number != 0 {
                    return None;
                }
                if !little {
                    field.reverse();
                }
                wire.splice(offset..offset, field);
            }
        }
        // The format can if measuring finds the frame again.
        match self.measure(&wire) {
            FlatMeasurement::Need(Need::Frame(whole)) if whole == wire.len() => Some(wire),
            _ => None,
        }
    }
}
