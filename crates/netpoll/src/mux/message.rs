// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames that carry the id of their call.

use std::io;

use netpoll_buffer::LinkBuffer;

use crate::codec::{Codec, Need, append_frame};
use crate::error::BoxError;

/// A codec whose frames carry the id of their call.
///
/// A [`Client`](super::Client) numbers its calls from 2^32 upward and never uses a smaller id, so
/// the smaller ids are free for messages without a call.
///
/// ```
/// use std::io;
///
/// use netpoll::buffer::LinkBuffer;
/// use netpoll::codec::{Codec, LengthField, Need};
/// use netpoll::mux::{CallCodec, Message, Numbered};
/// use netpoll::BoxError;
///
/// /// Messages whose body starts with a status: 0 for an answer, 1 for the text of an error.
/// struct WithStatus(Numbered<LengthField>);
///
/// impl Codec for WithStatus {
///     type Frame = Message;
///
///     fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
///         self.0.measure(input)
///     }
///
///     fn decode(&self, bytes: LinkBuffer) -> io::Result<Message> {
///         self.0.decode(bytes)
///     }
///
///     fn encode(&self, message: Message, output: &mut LinkBuffer) -> io::Result<()> {
///         self.0.encode(message, output)
///     }
/// }
///
/// impl CallCodec for WithStatus {
///     fn id(&self, message: &Message) -> u64 {
///         message.id
///     }
///
///     fn set_id(&self, message: &mut Message, id: u64) {
///         message.id = id;
///     }
///
///     fn error_answer(&self, id: u64, error: &BoxError) -> Option<Message> {
///         let mut body = LinkBuffer::new();
///         body.put_u8(1);
///         body.put_slice(error.to_string().as_bytes());
///         Some(Message::of(id, body))
///     }
/// }
///
/// let codec = WithStatus(Numbered::new(LengthField::new()));
/// let answer = codec.error_answer(7, &"no such key".into()).unwrap();
/// assert_eq!((answer.id, answer.body.len()), (7, 12));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a codec whose frames carry the id of their call",
    label = "does not implement `netpoll::mux::CallCodec`",
    note = "`mux::Numbered::new(codec)` puts an id in front of the frames of any other codec"
)]
pub trait CallCodec: Codec {
    /// Returns the call id of `frame`.
    fn id(&self, frame: &Self::Frame) -> u64;

    /// Sets the call id of `frame`.
    fn set_id(&self, frame: &mut Self::Frame, id: u64);

    /// Returns the id of *pushes*: messages that a server sends without a call. `None`, the
    /// default, if the protocol has none.
    ///
    /// [`ServerConnection::push`](super::ServerConnection::push) sets this id, and a client passes
    /// frames with this id to [`on_push`](super::ClientBuilder::on_push). It has to be the same for
    /// the life of the codec, and below 2^32, where no client has a call.
    fn push_id(&self) -> Option<u64> {
        None
    }

    /// Returns the frame that answers the call `id` of a handler that failed with `error`. The call
    /// is answered and the connection stays open. `None`, the default, if the protocol has no such
    /// frame: then the error closes the connection.
    ///
    /// The servers of [`serve_with`](super::serve_with) and [`Server`](super::Server) call it. The
    /// peer reads the frame, so it should say no more of `error` than the peer may know.
    fn error_answer(&self, id: u64, error: &BoxError) -> Option<Self::Frame> {
        let _ = (id, error);
        None
    }
}

/// A codec that puts a call id in front of another codec's frames: eight bytes, big-endian. The id
/// of [pushes](CallCodec::push_id) is [`Message::PUSH_ID`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbered<C> {
    inner: C,
}

/// A frame of [`Numbered`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Message {
    /// The id of the call. A [`Client`](super::Client) sets it; a server answers with the request's
    /// id.
    pub id: u64,
    /// The bytes behind the id.
    pub body: LinkBuffer,
}

impl Message {
    /// The id of a message without a call, which a server pushes.
    pub const PUSH_ID: u64 = 0;

    /// Creates a message with a copy of `body`.
    #[must_use]
    pub fn new(body: &[u8]) -> Self {
        let mut copy = LinkBuffer::new();
        copy.put_slice(body);
        copy.into()
    }

    /// Creates a message of the call `id`: the answer of a server that took its request apart.
    #[must_use]
    pub const fn of(id: u64, body: LinkBuffer) -> Self {
        Self { id, body }
    }
}

impl From<LinkBuffer> for Message {
    fn from(body: LinkBuffer) -> Self {
        Self { id: 0, body }
    }
}

impl<C> Numbered<C> {
    /// Creates a codec that puts an id in front of the frames of `frames`.
    #[must_use]
    pub const fn new(frames: C) -> Self {
        Self { inner: frames }
    }
}

impl<C: Codec<Frame = LinkBuffer>> Codec for Numbered<C> {
    type Frame = Message;

    fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
        self.inner.measure(input)
    }

    fn measure_from(&self, input: &LinkBuffer, seen: usize) -> io::Result<Need> {
        self.inner.measure_from(input, seen)
    }

    fn decode(&self, bytes: LinkBuffer) -> io::Result<Message> {
        let mut body = self.inner.decode(bytes)?;
        let id = body.read_u64().map_err(|_short| {
            let text = "the frame is too short for a call id";
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        Ok(Message { id, body })
    }

    fn encode(&self, message: Message, output: &mut LinkBuffer) -> io::Result<()> {
        let mut frame = LinkBuffer::new();
        frame.put_u64(message.id);
        append_frame(message.body, &mut frame);
        self.inner.encode(frame, output)
    }
}

impl<C: Codec<Frame = LinkBuffer>> CallCodec for Numbered<C> {
    fn id(&self, message: &Message) -> u64 {
        message.id
    }

    fn set_id(&self, message: &mut Message, id: u64) {
        message.id = id;
    }

    fn push_id(&self) -> Option<u64> {
        Some(Message::PUSH_ID)
    }
}
