// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames that carry the id of their call.

use std::io;

use netpoll_buffer::LinkBuffer;

use crate::codec::{Codec, Need, append_frame};

/// A codec whose frames carry the id of their call.
pub trait CallCodec: Codec {
    /// Returns the call id of `frame`.
    fn id(&self, frame: &Self::Frame) -> u64;

    /// Sets the call id of `frame`.
    fn set_id(&self, frame: &mut Self::Frame, id: u64);
}

/// A codec that puts a call id in front of another codec's frames: eight bytes, big-endian.
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
}
