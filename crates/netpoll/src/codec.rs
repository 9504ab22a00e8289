// SPDX-License-Identifier: MIT OR Apache-2.0
//! Framing: a [`Codec`] defines how frames are laid out in a stream. Three codecs cover most
//! protocols.
//!
//! | codec | a frame is |
//! |---|---|
//! | [`LengthField`] | as many bytes as a number in its header gives |
//! | [`Delimiter`] | the bytes up to the next delimiter |
//! | [`FixedSize`] | a fixed number of bytes |
//!
//! A codec is a value that describes a format. It never waits and has no state of a connection.
//! [`Reader::frame`](crate::Reader::frame) asks the codec for the length of the next frame, waits
//! for these bytes, and has the codec decode them. [`Writer::frame`](crate::Writer::frame) has the
//! codec encode a frame. [`Connection::framed`](crate::Connection::framed) does both, as a stream
//! and a sink. One value serves all connections, accepted or dialed, and works on plain buffers too:
//!
//! ```
//! use netpoll::buffer::LinkBuffer;
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
//! A codec with invalid settings fails at each use with
//! [`ErrorKind::InvalidConfig`], which names the setting.
//! The codec's `check` returns the same error before there is a stream.

mod delimiter;
mod error;
mod fixed_size;
mod length_field;

use std::io;

use netpoll_buffer::LinkBuffer;

use crate::error::ErrorKind;

pub use delimiter::Delimiter;
pub use error::EncodeError;
pub use fixed_size::FixedSize;
pub use length_field::LengthField;

/// The default limit of one frame's bytes in the stream. It is that of a connection
/// ([`max_frame`](crate::options::ConnOptions::max_frame)).
const DEFAULT_MAX_FRAME: usize = 4 << 20;

/// The largest frame that is copied, in bytes: up to this size a copy costs less than two more
/// segments in a buffer.
const COPY_THRESHOLD: usize = 2 << 10;

/// Appends `bytes` to `output`. Up to [`COPY_THRESHOLD`] they are copied, so that small frames that
/// are sent together lie in one segment; longer ones are moved.
pub(crate) fn append_frame(bytes: LinkBuffer, output: &mut LinkBuffer) {
    if bytes.len() > COPY_THRESHOLD {
        return output.append(bytes);
    }
    for piece in bytes.segments() {
        output.put_slice(piece.as_slice());
    }
}

/// Defines how frames are laid out in a stream.
///
/// One value serves any number of streams, on both ends, so it keeps no state of any of them.
///
/// ```
/// use std::io;
///
/// use netpoll::buffer::LinkBuffer;
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
///
/// A parser that works on a slice gets one from [`LinkBuffer::first_bytes`], which copies only
/// across segments. Small pieces that arrive while a reader waits are received into one.
///
/// ```
/// use std::io;
///
/// use netpoll::buffer::LinkBuffer;
/// use netpoll::codec::{Codec, Need};
///
/// /// Heads of HTTP requests.
/// struct Heads;
///
/// impl Codec for Heads {
///     type Frame = LinkBuffer;
///
///     fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
///         let bytes = input.first_bytes(8 << 10);
///         let mut headers = [httparse::EMPTY_HEADER; 32];
///         let parsed = httparse::Request::new(&mut headers).parse(&bytes);
///         match parsed.map_err(io::Error::other)? {
///             httparse::Status::Complete(length) => Ok(Need::Frame(length)),
///             httparse::Status::Partial if input.len() < 8 << 10 => {
///                 Ok(Need::More(input.len() + 1))
///             }
///             httparse::Status::Partial => Err(io::Error::other("head above 8 KiB")),
///         }
///     }
///
///     fn decode(&self, bytes: LinkBuffer) -> io::Result<LinkBuffer> {
///         Ok(bytes)
///     }
///
///     fn encode(&self, head: LinkBuffer, output: &mut LinkBuffer) -> io::Result<()> {
///         output.append(head);
///         Ok(())
///     }
/// }
///
/// let codec = Heads;
/// let mut input = LinkBuffer::from(b"GET / HTTP/1.1\r\n".to_vec());
/// assert_eq!(codec.measure(&input)?, Need::More(17));
/// input.push("\r\nbody".into());
/// assert_eq!(codec.measure(&input)?, Need::Frame(18));
/// # Ok::<(), io::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a codec",
    label = "does not implement `netpoll::codec::Codec`",
    note = "`LengthField`, `Delimiter` and `FixedSize` are codecs; a format of your own implements \
            `Codec`, whose `Frame` is `Send`"
)]
pub trait Codec: Send + Sync + 'static {
    /// The type of a decoded frame.
    type Frame: Send + 'static;

    /// Returns whether `input`, which may be in several segments, starts with a whole frame, and
    /// how long it is. Consumes nothing, and copies at most a header: fixed fields with
    /// [`copy_to`](LinkBuffer::copy_to), a slice for a parser with
    /// [`first_bytes`](LinkBuffer::first_bytes).
    ///
    /// # Errors
    ///
    /// An error if the bytes cannot be the start of a frame.
    fn measure(&self, input: &LinkBuffer) -> io::Result<Need>;

    /// As [`measure`](Self::measure), for a caller that has measured before, when only the first
    /// `seen` bytes of `input` had arrived and no frame was whole. A codec that searches continues
    /// the search there, so that a frame that arrives in many small parts is not searched again for
    /// each of them. The result is that of `measure`, which the default implementation calls.
    ///
    /// # Errors
    ///
    /// As [`measure`](Self::measure).
    fn measure_from(&self, input: &LinkBuffer, seen: usize) -> io::Result<Need> {
        let _ = seen;
        self.measure(input)
    }

    /// Decodes a frame from exactly the bytes that [`measure`](Self::measure) counted. Copies
    /// nothing.
    ///
    /// # Errors
    ///
    /// An error if the frame is malformed. Its bytes are consumed, and the next frame starts behind
    /// them.
    fn decode(&self, bytes: LinkBuffer) -> io::Result<Self::Frame>;

    /// Appends `frame` to `output`. A failed call has appended nothing.
    ///
    /// # Errors
    ///
    /// An error if the frame cannot be encoded so that `decode` returns it again.
    fn encode(&self, frame: Self::Frame, output: &mut LinkBuffer) -> io::Result<()>;
}

/// The result of [`Codec::measure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a codec around another has to match all variants"
)]
pub enum Need {
    /// A whole frame has arrived: it is this many bytes long, at least one.
    Frame(usize),
    /// The frame is not complete: at least this many bytes are needed in total, which is more than
    /// have arrived.
    More(usize),
}

impl Need {
    /// Returns the need unchanged if it is valid for `have` bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidNeed`] for a frame of no bytes,
    /// for one longer than `have`, and for a need of no more than `have`: with any of these the
    /// reader would make no progress.
    #[inline]
    pub fn check(self, have: usize) -> io::Result<Self> {
        match self {
            Self::Frame(n) if n > 0 && n <= have => Ok(self),
            Self::More(n) if n > have => Ok(self),
            need => Err(ErrorKind::InvalidNeed { have, need }.into()),
        }
    }
}

/// Returns the reason why a codec does not encode a frame.
#[cfg(test)]
#[track_caller]
fn encode_error(error: &io::Error) -> EncodeError {
    match ErrorKind::payload(error) {
        Some(&ErrorKind::Encode(reason)) => reason,
        _ => panic!("{error:?}"),
    }
}

/// Returns the limit and the size that an error of a codec reports.
#[cfg(test)]
#[track_caller]
fn frame_too_large(error: &io::Error) -> (usize, usize) {
    match ErrorKind::payload(error) {
        Some(&ErrorKind::FrameTooLarge { limit, size, .. }) => (limit, size),
        _ => panic!("{error:?}"),
    }
}

/// Returns the field that `check` rejected, and asserts that every use of the codec rejects the
/// same one.
#[cfg(test)]
#[track_caller]
fn rejected_field(codec: &impl Codec<Frame = LinkBuffer>, checked: io::Result<()>) -> &'static str {
    let field = |result: io::Result<()>| {
        let error = result.expect_err("invalid settings");
        match ErrorKind::payload(&error) {
            Some(&ErrorKind::InvalidConfig { option, .. }) => option,
            _ => panic!("{error:?}"),
        }
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
    use crate::options::ConnOptions;

    #[test]
    fn default_codec_maximum_equals_max_frame() {
        assert_eq!(DEFAULT_MAX_FRAME, ConnOptions::default().max_frame);
    }

    #[test]
    fn need_without_progress_is_rejected() {
        let rejected = [
            (0, Need::Frame(0)),
            (5, Need::Frame(0)),
            (5, Need::Frame(6)),
            (0, Need::More(0)),
            (5, Need::More(5)),
        ];
        for (have, need) in rejected {
            let error = need.check(have).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let Some(&ErrorKind::InvalidNeed {
                have: there,
                need: returned,
            }) = ErrorKind::payload(&error)
            else {
                panic!("{error:?}");
            };
            assert_eq!((there, returned), (have, need));
        }
        for need in [Need::Frame(1), Need::Frame(5), Need::More(6)] {
            assert_eq!(need.check(5).unwrap(), need);
        }
    }
}
