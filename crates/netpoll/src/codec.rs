// SPDX-License-Identifier: MIT OR Apache-2.0
//! How frames lie in a stream: a [`Codec`], and three that most protocols need.
//!
//! | | a frame is |
//! |---|---|
//! | [`LengthField`] | so many bytes as a number before them says |
//! | [`Delimiter`] | what lies before the next delimiter |
//! | [`FixedSize`] | always as long |
//!
//! A codec is a value that knows a format. It never waits, and it knows of no connection:
//! [`Reader::frame`](crate::Reader::frame) asks it how much belongs to a frame, waits for that, and
//! lets it take the frame out; [`Writer::frame`](crate::Writer::frame) lets it put one in. So one
//! value serves all connections, accepted or dialed, and works on plain buffers too:
//!
//! ```
//! use netpoll::LinkBuffer;
//! use netpoll::codec::{Codec, LengthField, Need};
//!
//! # fn main() -> std::io::Result<()> {
//! let codec = LengthField::new().width(2);
//! let mut stream = LinkBuffer::new();
//! codec.encode(LinkBuffer::from(b"hello".to_vec()), &mut stream)?;
//! assert_eq!(stream.len(), 7);
//!
//! assert_eq!(codec.measure(&stream)?, Need::Frame(7));
//! let mut frame = codec.decode(stream.split_to(7)?)?;
//! assert_eq!(frame.next(5)?, b"hello");
//! # Ok(()) }
//! ```
//!
//! What is wrong with a codec's own values is refused at each use, by
//! [`InvalidConfig`](crate::InvalidConfig) with the name of the value, and by the codec's `check`
//! for who wants to know before there is a stream.

mod delimiter;
mod error;
mod fixed_size;
mod length_field;

use std::io;

use netpoll_buffer::LinkBuffer;

pub use delimiter::Delimiter;
pub use error::{EncodeError, InvalidNeed, NegativeLength};
pub use fixed_size::FixedSize;
pub use length_field::LengthField;

/// The most bytes of one frame in the stream, unless a codec is told otherwise: as many as a
/// connection allows by itself ([`max_frame`](crate::ConnOptions::max_frame)).
const DEFAULT_MAX_FRAME: usize = 4 << 20;

/// Up to so many bytes a copy costs less than the places of two pieces in a chain.
const COPY_THRESHOLD: usize = 2 << 10;

/// Puts `bytes` at the end of `output`: copied if they are few, so that small frames that are sent
/// together lie in one piece; else as they are.
pub(crate) fn append_frame(bytes: LinkBuffer, output: &mut LinkBuffer) {
    if bytes.len() > COPY_THRESHOLD {
        return output.append(bytes);
    }
    for piece in bytes.segments() {
        output.put_slice(piece.as_slice());
    }
}

/// How frames lie in a stream.
///
/// One value serves any number of streams, on both ends, so it remembers nothing of any of them.
///
/// ```
/// use std::io;
///
/// use netpoll::LinkBuffer;
/// use netpoll::codec::{Codec, FixedSize, Need};
///
/// /// Temperatures, each a big-endian number of two bytes.
/// struct Temperatures;
///
/// impl Codec for Temperatures {
///     type Frame = i16;
///
///     fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
///         FixedSize::new(2).measure(input)
///     }
///
///     fn decode(&self, mut bytes: LinkBuffer) -> io::Result<i16> {
///         bytes.read_u16().map(u16::cast_signed)
///     }
///
///     fn encode(&self, frame: i16, output: &mut LinkBuffer) -> io::Result<()> {
///         output.put_u16(frame.cast_unsigned());
///         Ok(())
///     }
/// }
///
/// # async fn example(conn: &mut netpoll::Connection) -> io::Result<()> {
/// while let Some(degrees) = conn.reader().frame(&Temperatures).await? {
///     println!("{degrees}");
/// }
/// # Ok(()) }
/// ```
pub trait Codec: Send + Sync + 'static {
    /// What a frame is to who reads and writes it.
    type Frame: Send + 'static;

    /// Whether a whole frame is at the front of `input`, which may be in pieces. Consumes nothing,
    /// copies nothing but a header.
    ///
    /// # Errors
    ///
    /// What lies there can be no frame, however it goes on.
    fn measure(&self, input: &LinkBuffer) -> io::Result<Need>;

    /// As [`measure`](Self::measure), for who has asked before, when only the first `seen` bytes of
    /// `input` were there, and no frame was whole. A codec that searches goes on from there, so that
    /// a frame that comes in drops is not searched anew for each of them. The answer is the same;
    /// unless a codec says otherwise, it is that of `measure`.
    ///
    /// # Errors
    ///
    /// As [`measure`](Self::measure).
    fn measure_from(&self, input: &LinkBuffer, seen: usize) -> io::Result<Need> {
        let _ = seen;
        self.measure(input)
    }

    /// The frame out of exactly the bytes that [`measure`](Self::measure) has counted. No copy.
    ///
    /// # Errors
    ///
    /// The frame is not well formed. Its bytes are gone, and what follows them is the next frame.
    fn decode(&self, bytes: LinkBuffer) -> io::Result<Self::Frame>;

    /// Appends `frame` to `output`. A failed call has added nothing.
    ///
    /// # Errors
    ///
    /// The frame cannot be written so that it comes out of the stream again.
    fn encode(&self, frame: Self::Frame, output: &mut LinkBuffer) -> io::Result<()>;
}

/// What [`Codec::measure`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a codec around another has to know all of it"
)]
pub enum Need {
    /// A whole frame is there: the first so many bytes, one at least.
    Frame(usize),
    /// At least so many bytes are needed in all, which are more than there are.
    More(usize),
}

impl Need {
    /// As it is, if it can be so where `have` bytes are there.
    ///
    /// # Errors
    ///
    /// [`InvalidNeed`] for a frame of no bytes, one that is longer than what is there, and a need of
    /// no more than that: who believed it would do the same for ever.
    #[inline]
    pub fn check(self, have: usize) -> io::Result<Self> {
        match self {
            Self::Frame(n) if n > 0 && n <= have => Ok(self),
            Self::More(n) if n > have => Ok(self),
            need => Err(InvalidNeed::new(have, need).into()),
        }
    }
}

/// The value of its own that `codec`, whose check says `checked`, is refused for at every use.
#[cfg(test)]
#[track_caller]
fn rejected_field(codec: &impl Codec<Frame = LinkBuffer>, checked: io::Result<()>) -> &'static str {
    let field = |refused: io::Result<()>| {
        let error = refused.expect_err("a codec that cannot work");
        let reason = error.get_ref().and_then(|why| why.downcast_ref());
        let reason: &crate::InvalidConfig = reason.expect("the name of a value");
        reason.field
    };
    let first = field(checked);
    let measured = codec.measure(&LinkBuffer::new());
    assert_eq!(field(measured.map(drop)), first);
    let encoded = codec.encode(LinkBuffer::new(), &mut LinkBuffer::new());
    assert_eq!(field(encoded), first);
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnOptions;

    #[test]
    fn a_codec_allows_by_itself_what_a_connection_allows() {
        assert_eq!(DEFAULT_MAX_FRAME, ConnOptions::default().max_frame);
    }

    #[test]
    fn a_need_that_leads_nowhere_is_refused() {
        let refused = [
            (0, Need::Frame(0)),
            (5, Need::Frame(0)),
            (5, Need::Frame(6)),
            (0, Need::More(0)),
            (5, Need::More(5)),
        ];
        for (have, told) in refused {
            let error = told.check(have).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let reason = error.get_ref().and_then(|why| why.downcast_ref());
            assert_eq!(reason, Some(&InvalidNeed::new(have, told)));
        }
        for told in [Need::Frame(1), Need::Frame(5), Need::More(6)] {
            assert_eq!(told.check(5).unwrap(), told);
        }
    }
}
