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

use super::{Began, Reader};
use crate::fairness;

/// Waits until `need` bytes are there, and has `read` take them.
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub(super) struct Call<'r, 'a, R> {
    /// The reader and what to do, until it is done.
    pending: Option<(&'r mut Reader<'a>, R)>,
    need: usize,
    began: Began<'a>,
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
            began: Began::default(),
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
        match &mut call.pending {
            Some((reader, _)) if !fairness::may_proceed() => return reader.yield_now(context),
            Some((reader, _)) if reader.has(call.need) => {}
            Some((reader, _)) => {
                let ready = ready!(reader.poll_for(context, &mut call.began, call.need));
                if let Err(error) = ready {
                    call.pending = None;
                    return Poll::Ready(Err(error));
                }
            }
            None => panic!("a call of a reader was polled after it was done"),
        }
        let Some((reader, read)) = call.pending.take() else {
            unreachable!()
        };
        Poll::Ready(read(&mut reader.input.chain))
    }
}
