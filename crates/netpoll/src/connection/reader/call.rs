// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Call`]: one call of a [`Reader`], as the future that its caller awaits.
//!
//! Nearly every call finds its bytes there. So this future is written by hand: its poll is a
//! comparison and the read itself, which the compiler puts into the handler that awaits it. The body
//! of an `async fn` is never put there once it has two callers, and costs more than small reads do.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use netpoll_buffer::LinkBuffer;

use super::Reader;
use super::waiting::BegunWait;

/// Waits until `need` bytes are there, and has `read` take them.
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub(super) struct Call<'r, 'a, R> {
    /// The reader and what to do, until it is done.
    pending: Option<(&'r mut Reader<'a>, R)>,
    need: usize,
    /// Since when it waits, if it does. Forgotten when it is done, so that the compiler need not look
    /// for it when it drops a call that found its bytes there.
    began: Option<BegunWait<'a>>,
}

impl<'r, 'a, R> Call<'r, 'a, R> {
    #[inline]
    pub(super) fn new<T>(reader: &'r mut Reader<'a>, need: usize, read: R) -> Self
    where
        R: FnOnce(&'r mut LinkBuffer) -> io::Result<T>,
    {
        Self {
            pending: Some((reader, read)),
            need,
            began: None,
        }
    }
}

impl<R> Drop for Call<'_, '_, R> {
    #[inline]
    fn drop(&mut self) {
        if let Some(wait) = self.began {
            wait.deregister();
        }
    }
}

impl<'r, R, T> Future for Call<'r, '_, R>
where
    R: FnOnce(&'r mut LinkBuffer) -> io::Result<T> + Unpin,
{
    type Output = io::Result<T>;

    /// # Panics
    ///
    /// If it is polled after it was done, as every future of an `async fn` is.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.get_mut();
        let need = call.need;
        let Some((reader, _)) = &mut call.pending else {
            panic!("a call of a reader was polled after it was done")
        };
        let input = &mut *reader.input;
        if !(input.has(need) && input.may_proceed()) {
            let slow = reader.poll_slow(context, &mut call.began, need);
            if let Err(error) = ready!(slow) {
                call.pending = None;
                call.began = None;
                return Poll::Ready(Err(error));
            }
        }
        let Some((reader, read)) = call.pending.take() else {
            unreachable!()
        };
        let result = read(&mut reader.input.chain);
        // Last, so that its drop finds nothing to do without a look.
        call.began = None;
        Poll::Ready(result)
    }
}
