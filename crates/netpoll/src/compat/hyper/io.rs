// SPDX-License-Identifier: MIT OR Apache-2.0
//! hyper's I/O traits: [`Read`] and [`Write`] for connections and their halves.
//!
//! They stand on the `poll_*` functions of the connection and have their ends: an idle timeout
//! reads as the end of the stream, so hyper reports no error. A flush is that of
//! [`EndOfPoll`](FlushMode::EndOfPoll): the answers to pipelined requests leave with one system
//! call when the poll of the handler ends.
//!
//! hyper always waits for input, also while a service works. So a handler that serves with hyper
//! calls [`Connection::draining`]: else a shutdown takes it for idle, and ends its input.
//!
//! The safe part of hyper's cursor is a copy, so bytes are copied once out of the received block.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::connection::{Connection, FlushMode, OwnedReader, OwnedWriter};

/// Implements the reading trait.
macro_rules! reading {
    ($($half:ty),*) => {
        $(
            impl Read for $half {
                /// Copies the first contiguous bytes, once.
                fn poll_read(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                    mut target: ReadBufCursor<'_>,
                ) -> Poll<io::Result<()>> {
                    let half = self.get_mut();
                    if target.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let bytes = ready!(half.poll_fill_buf(context))?;
                    let count = bytes.len().min(target.remaining());
                    target.put_slice(&bytes[..count]);
                    Poll::Ready(half.consume(count))
                }
            }
        )*
    };
}

/// Implements the writing trait.
macro_rules! writing {
    ($($half:ty),*) => {
        $(
            impl Write for $half {
                fn poll_write(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                    bytes: &[u8],
                ) -> Poll<io::Result<usize>> {
                    self.get_mut().poll_write(context, bytes)
                }

                fn poll_flush(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                ) -> Poll<io::Result<()>> {
                    self.get_mut().poll_flush(context, FlushMode::EndOfPoll)
                }

                fn poll_shutdown(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                ) -> Poll<io::Result<()>> {
                    self.get_mut().poll_shutdown(context)
                }

                fn is_write_vectored(&self) -> bool {
                    true
                }

                fn poll_write_vectored(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                    parts: &[IoSlice<'_>],
                ) -> Poll<io::Result<usize>> {
                    self.get_mut().poll_write_vectored(context, parts)
                }
            }
        )*
    };
}

reading!(Connection, OwnedReader);
writing!(Connection, OwnedWriter);
