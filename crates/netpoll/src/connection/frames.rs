// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading and writing whole frames with a [`Codec`].
//!
//! The bytes of a frame stay in the reader until the frame is complete. So a dropped call loses
//! none of them, and the next call asks the codec again. A codec is foreign code: the length that
//! it returns is checked before it is used, and the bytes that it encodes are put only if it
//! succeeds.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use super::input_buffer::ReadTimeoutPolicy;
use super::reader::{ReadWait, Reader, SuspendedWait, is_unexpected_eof};
use super::shared::Shared;
use crate::codec::{Codec, Need};
use crate::error::ErrorKind;
use crate::fairness;
use crate::sync::Arc;

/// Reads the next frame: `Reader::frame`.
pub(super) async fn next_frame<C: Codec + ?Sized>(
    mut reader: Reader<'_>,
    codec: &C,
) -> io::Result<Option<C::Frame>> {
    let mut wait = FrameWait::default();
    poll_fn(|context| reader.poll_frame(codec, &mut wait, context)).await
}

impl<'a> Reader<'a> {
    /// Polls [`frame`](Self::frame). `wait` keeps its state between polls.
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
            let need = codec
                .measure_from(&self.state.buffer, wait.seen)
                .map_err(|error| ErrorKind::name_peer(error, self.shared.peer()))?;
            match need.check(have)? {
                Need::Frame(n) if n > self.state.max_frame => {
                    let max_frame = self.state.max_frame;
                    let error = self.shared.frame_too_large("max_frame", max_frame, n);
                    return Poll::Ready(Err(error));
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

/// The state of a wait for one frame, kept between polls. Dropping it loses no byte.
#[derive(Default)]
pub(crate) struct FrameWait<'a> {
    read_wait: ReadWait<'a>,
    timeout_policy: ReadTimeoutPolicy,
    /// The number of bytes that the codec has seen.
    seen: usize,
    /// The number of bytes that the codec needs next.
    need: Option<usize>,
}

/// A [`FrameWait`] between two polls, without its borrow of the connection.
#[derive(Debug, Default)]
pub(super) struct FrameProgress {
    read_wait: SuspendedWait,
    seen: usize,
    need: Option<usize>,
}

impl FrameProgress {
    /// Deregisters the wait from its connection. What the codec has seen is kept.
    pub(super) fn end_wait(&mut self, shared: &Arc<Shared>) {
        drop(ReadWait::resume(
            std::mem::take(&mut self.read_wait),
            shared,
        ));
    }
}

impl<'a> FrameWait<'a> {
    /// Continues a suspended wait for a frame of the connection `shared`.
    pub(super) fn resume(progress: FrameProgress, shared: &'a Arc<Shared>) -> Self {
        Self {
            read_wait: ReadWait::resume(progress.read_wait, shared),
            timeout_policy: ReadTimeoutPolicy::default(),
            seen: progress.seen,
            need: progress.need,
        }
    }

    /// Suspends the wait. It stays registered.
    pub(super) fn suspend(self) -> FrameProgress {
        FrameProgress {
            seen: self.seen,
            need: self.need,
            read_wait: self.read_wait.suspend(),
        }
    }
}

impl FrameWait<'_> {
    /// Makes the wait of a server: it waits for its next request without a time limit until the
    /// request begins.
    pub(crate) fn allow_idle() -> Self {
        Self {
            timeout_policy: ReadTimeoutPolicy::AllowIdle,
            ..Self::default()
        }
    }
}
