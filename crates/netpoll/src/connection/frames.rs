// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading and writing by the frame: what a [`Codec`] says of the bytes, and the wait for them.
//!
//! The bytes of a frame stay where they are until all of them are there, so a call that is dropped
//! loses none, and the next one asks the codec again. A codec is foreign code: what it says is checked
//! before anything is done for it, and what it puts counts only when it has not failed.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use netpoll_buffer::{LinkBuffer, TooLarge};

use super::input_buffer::ReadTimeoutPolicy;
use super::reader::{ReadWait, Reader, is_unexpected_eof};
use super::writer::Writer;
use crate::codec::{Codec, Need};
use crate::fairness;

impl<'a> Reader<'a> {
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
    /// What the codec fails with. [`InvalidNeed`](crate::codec::InvalidNeed) if it tells what cannot
    /// be. Else as all of [`Reader`]: [`TooLarge`] for a frame above the connection's `max_frame`,
    /// whatever the codec allows; [`UnexpectedEof`](crate::UnexpectedEof) in the middle of a frame. All of them have
    /// consumed nothing, except that a frame which does not [decode](Codec::decode) is gone.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn frame<C: Codec + ?Sized>(&mut self, codec: &C) -> io::Result<Option<C::Frame>> {
        let mut wait = FrameWait::default();
        poll_fn(|context| self.poll_frame(codec, &mut wait, context)).await
    }

    /// As [`frame`](Self::frame), which is waited for by `wait` between polls.
    pub(crate) fn poll_frame<C: Codec + ?Sized>(
        &mut self,
        codec: &C,
        wait: &mut FrameWait<'a>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<C::Frame>>> {
        if !fairness::may_proceed() {
            return self.yield_now(context);
        }
        loop {
            if let Some(need) = wait.need {
                let waited = ready!(self.poll_wait_in(
                    context,
                    &mut wait.read_wait,
                    wait.timeout_policy,
                    need
                ));
                wait.need = None;
                if let Err(error) = waited {
                    let between = is_unexpected_eof(&error) && self.state.buffer.is_empty();
                    return Poll::Ready(if between { Ok(None) } else { Err(error) });
                }
            }
            let have = self.state.buffer.len();
            let need = codec.measure_from(&self.state.buffer, wait.seen)?;
            match need.check(have)? {
                Need::Frame(n) if n > self.state.max_frame => {
                    return Poll::Ready(Err(TooLarge::new(self.state.max_frame, n).into()));
                }
                Need::Frame(n) => {
                    let bytes = self.state.buffer.split_to(n)?;
                    return Poll::Ready(codec.decode(bytes).map(Some));
                }
                Need::More(n) => {
                    wait.seen = have;
                    wait.need = Some(n);
                }
            }
        }
    }
}

/// A wait for one frame, between polls. Dropping it loses no byte.
#[derive(Default)]
pub(crate) struct FrameWait<'a> {
    read_wait: ReadWait<'a>,
    timeout_policy: ReadTimeoutPolicy,
    /// Bytes that the codec has seen.
    seen: usize,
    /// Bytes that it waits for, once it has seen those.
    need: Option<usize>,
}

impl FrameWait<'_> {
    /// Of a server, which waits for its next request for as long as that takes to begin.
    pub(crate) fn allow_idle() -> Self {
        Self {
            timeout_policy: ReadTimeoutPolicy::AllowIdle,
            ..Self::default()
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
