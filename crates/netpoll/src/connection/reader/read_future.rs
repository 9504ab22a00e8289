// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`ReadFuture`]: one call of a [`Reader`], as the future that its caller awaits.
//!
//! Nearly every call finds its bytes there. So this future is written by hand: its poll is a
//! comparison and the read itself, which the compiler inlines into the handler that awaits it. The
//! body of an `async fn` is not inlined once it has two callers, and costs more than small reads
//! do.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use netpoll_buffer::LinkBuffer;

use super::Reader;
use super::read_wait::ReadWaitState;
use crate::connection::reader_state::ReaderState;
use crate::connection::shared::Shared;
use crate::sync::Arc;

/// Waits until `need` bytes are there, and calls `read` to take them.
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub(super) struct ReadFuture<'a, R> {
    shared: &'a Arc<Shared>,
    deadline: Option<Instant>,
    /// The input and the read to do, until it is done.
    pending: Option<(&'a mut ReaderState, R)>,
    need: usize,
    /// The wait, if there is one. Cleared when the call is done, so that the compiler omits the
    /// check when it drops a call that found its bytes there.
    wait: Option<ReadWaitState<'a>>,
}

impl<'a, R> ReadFuture<'a, R> {
    /// Creates a call of `read`, which gets the input buffer and `need`.
    #[inline]
    pub(super) fn new<T>(reader: Reader<'a>, need: usize, read: R) -> Self
    where
        R: FnOnce(&'a mut LinkBuffer, usize) -> io::Result<T>,
    {
        Self {
            shared: reader.shared,
            deadline: reader.deadline,
            pending: Some((reader.state, read)),
            need,
            wait: None,
        }
    }
}

impl<R> Drop for ReadFuture<'_, R> {
    #[inline]
    fn drop(&mut self) {
        if let Some(wait) = self.wait {
            wait.deregister();
        }
    }
}

impl<'a, R, T> Future for ReadFuture<'a, R>
where
    R: FnOnce(&'a mut LinkBuffer, usize) -> io::Result<T> + Unpin,
{
    type Output = io::Result<T>;

    /// # Panics
    ///
    /// If it is polled after completion, as every future of an `async fn`.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.get_mut();
        let need = call.need;
        // Taken out first, so that a read that finds its bytes checks it once.
        let Some((mut state, read)) = call.pending.take() else {
            panic!("`ReadFuture` polled after completion")
        };
        if !(state.has_contiguous(need) && state.may_proceed()) {
            let mut reader = Reader {
                shared: call.shared,
                state,
                deadline: call.deadline,
            };
            let waited = reader.poll_slow(context, &mut call.wait, need);
            state = reader.state;
            match waited {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    call.wait = None;
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    call.pending = Some((state, read));
                    return Poll::Pending;
                }
            }
        }
        let result = read(&mut state.buffer, need);
        // Last, so that its drop needs no check.
        call.wait = None;
        Poll::Ready(result)
    }
}
