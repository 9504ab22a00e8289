// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames that say which call they are of.

use std::io;

use netpoll_buffer::LinkBuffer;

use crate::codec::{Codec, Need, append_frame};

/// A codec whose frames have the id of the call that they are of.
pub trait CallCodec: Codec {
    /// Which call `frame` is of.
    fn id(&self, frame: &Self::Frame) -> u64;

    /// Makes `frame` one of the call `id`.
    fn set_id(&self, frame: &mut Self::Frame, id: u64);
}

/// Frames of another codec that begin with a call's id: eight bytes, big-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbered<C> {
    inner: C,
}

/// A frame of [`Numbered`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Message {
    /// The call's id. A [`Client`](super::Client) sets it; a server answers with the request's.
    pub id: u64,
    /// What comes behind it.
    pub body: LinkBuffer,
}

impl Message {
    /// A message with a copy of `body`.
    #[must_use]
    pub fn new(body: &[u8]) -> Self {
        let mut copy = LinkBuffer::new();
        copy.put_slice(body);
        copy.into()
    }

    /// A message of the call `id`: what a server answers with, where it has taken the request apart.
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
    /// Frames of `frames` with an id in front.
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
            let why = "a frame that is too short for the id of a call";
            io::Error::new(io::ErrorKind::InvalidData, why)
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
