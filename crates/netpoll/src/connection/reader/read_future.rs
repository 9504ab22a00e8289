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
use std::task::{Context, Poll, ready};

use netpoll_buffer::LinkBuffer;

use super::Reader;
use super::read_wait::ReadWaitState;

/// Waits until `need` bytes are there, and calls `read` to take them.
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub(super) struct ReadFuture<'a, R> {
    /// The reader and the read to do, until it is done.
    pending: Option<(Reader<'a>, R)>,
    need: usize,
    /// The wait, if there is one. Cleared when the call is done, so that the compiler omits the
    /// check when it drops a call that found its bytes there.
    wait: Option<ReadWaitState<'a>>,
}

impl<'a, R> ReadFuture<'a, R> {
    #[inline]
    pub(super) fn new<T>(reader: Reader<'a>, need: usize, read: R) -> Self
    where
        R: FnOnce(&'a mut LinkBuffer) -> io::Result<T>,
    {
        Self {
            pending: Some((reader, read)),
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
    R: FnOnce(&'a mut LinkBuffer) -> io::Result<T> + Unpin,
{
    type Output = io::Result<T>;

    /// # Panics
    ///
    /// If it is polled after completion, as every future of an `async fn`.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.get_mut();
        let need = call.need;
        let Some((reader, _)) = &mut call.pending else {
            panic!("`ReadFuture` polled after completion")
        };
        let input = &mut *reader.state;
        if !(input.has(need) && input.may_proceed()) {
            let slow = reader.poll_slow(context, &mut call.wait, need);
            if let Err(error) = ready!(slow) {
                call.pending = None;
                call.wait = None;
                return Poll::Ready(Err(error));
            }
        }
        let Some((reader, read)) = call.pending.take() else {
            unreachable!()
        };
        let result = read(&mut reader.state.buffer);
        // Last, so that its drop needs no check.
        call.wait = None;
        Poll::Ready(result)
    }
}
