// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading and writing by the frame: what a [`Codec`] says of the bytes, and the wait for them.
//!
//! The bytes of a frame stay where they are until all of them are there, so a call that is dropped
//! loses none, and the next one asks the codec again. A codec is foreign code: what it says is checked
//! before anything is done for it, and what it puts counts only when it has not failed.

use std::io;

use netpoll_buffer::{LinkBuffer, TooLarge};

use super::reader::{Began, Reader, is_end};
use super::writer::Writer;
use crate::codec::{Codec, Need};

impl Reader<'_> {
    /// The next frame, consumed; `None` if the stream has ended before its first byte. Waits until
    /// all of it is there. No copy of its bytes by this call, so one that is kept keeps the memory
    /// in which it came.
    ///
    /// ```no_run
    /// use netpoll::codec::LengthField;
    ///
    /// # async fn example(conn: &mut netpoll::Connection) -> std::io::Result<()> {
    /// let codec = LengthField::new();
    /// let (mut reader, mut writer) = conn.split();
    /// while let Some(frame) = reader.frame(&codec).await? {
    ///     writer.frame(&codec, frame)?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// What the codec fails with. [`Mismeasured`](crate::codec::Mismeasured) if it tells what cannot
    /// be. Else as all of [`Reader`]: [`TooLarge`] for a frame above the connection's `max_frame`,
    /// whatever the codec allows; [`Eof`](crate::Eof) in the middle of a frame. All of them have
    /// consumed nothing, except that a frame which does not [decode](Codec::decode) is gone.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn frame<C: Codec + ?Sized>(&mut self, codec: &C) -> io::Result<Option<C::Frame>> {
        let mut began = Began::default();
        let mut seen = 0;
        loop {
            let have = self.input.chain.len();
            let need = codec.measure_from(&self.input.chain, seen)?;
            match need.check(have)? {
                Need::Frame(n) if n > self.input.max_frame => {
                    return Err(TooLarge::new(self.input.max_frame, n).into());
                }
                Need::Frame(n) => {
                    let bytes = self.input.chain.split_to(n)?;
                    return codec.decode(bytes).map(Some);
                }
                Need::More(n) => {
                    if let Err(error) = self.wait_since(&mut began, n).await {
                        let between = is_end(&error) && self.input.chain.is_empty();
                        return if between { Ok(None) } else { Err(error) };
                    }
                    seen = have;
                }
            }
        }
    }
}

impl Writer<'_> {
    /// Puts a frame, as one put: no other comes between its parts. What a [`Codec::encode`] copies is
    /// copied, nothing else. On a connection that has ended the frame is discarded.
    ///
    /// # Errors
    ///
    /// What the codec fails with. Nothing was put then.
    pub fn frame<C: Codec + ?Sized>(&mut self, codec: &C, frame: C::Frame) -> io::Result<()> {
        let mut part = LinkBuffer::new();
        codec.encode(frame, &mut part)?;
        self.append(part);
        Ok(())
    }
}
