// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connection as hyper sees it. It reports input to the connection's [`Activity`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use netpoll::Connection;

use crate::activity::Activity;

/// A connection whose input is reported.
pub(crate) struct ObservedIo {
    pub(crate) conn: Connection,
    pub(crate) activity: Rc<Activity>,
}

impl Read for ObservedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut target: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if target.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let bytes = ready!(self.conn.poll_fill_buf(context))?;
        let count = bytes.len().min(target.remaining());
        target.put_slice(&bytes[..count]);
        if count > 0 {
            self.activity.on_input();
        }
        Poll::Ready(self.conn.consume(count))
    }
}

impl Write for ObservedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.conn).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_flush(Pin::new(&mut self.conn), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_shutdown(Pin::new(&mut self.conn), context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.conn.poll_write_vectored(context, parts)
    }
}
