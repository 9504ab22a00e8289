// SPDX-License-Identifier: MIT OR Apache-2.0
//! tokio's I/O traits: [`AsyncRead`], [`AsyncBufRead`] and [`AsyncWrite`] for connections and their
//! halves.
//!
//! They stand on the `poll_*` functions of the connection and have their ends: an idle timeout
//! reads as the end of the stream. A flush is that of
//! [`EndOfPoll`](FlushMode::EndOfPoll): written bytes leave without it, so on the connection's
//! poller there is nothing to wait for. They work on any executor, and need no tokio runtime.
//!
//! The methods of the types come before those of tokio's extension traits of the same name:
//! `OwnedWriter::{flush, shutdown}` and `OwnedReader::{read_exact, read_u32, …}`. A generic function
//! sees the traits alone.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::{Connection, FlushMode, OwnedReader, OwnedWriter};

/// From this much initialized room on, bytes are read straight into it: a connection may receive
/// there.
const DIRECT_MIN: usize = 16 << 10;

/// Implements the reading traits.
macro_rules! reading {
    ($($half:ty),*) => {
        $(
            impl AsyncRead for $half {
                /// Copies the first contiguous bytes, once. Within a bulk transfer a handler on its
                /// connection's poller receives straight into 16 KiB and more of initialized
                /// memory.
                fn poll_read(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                    target: &mut ReadBuf<'_>,
                ) -> Poll<io::Result<()>> {
                    let half = self.get_mut();
                    let initialized = target.initialized().len() - target.filled().len();
                    if initialized >= DIRECT_MIN {
                        let room = target.initialize_unfilled_to(initialized);
                        let count = ready!(half.poll_read(context, room))?;
                        target.advance(count);
                        return Poll::Ready(Ok(()));
                    }
                    if target.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let bytes = ready!(half.poll_fill_buf(context))?;
                    let count = bytes.len().min(target.remaining());
                    target.put_slice(&bytes[..count]);
                    Poll::Ready(half.consume(count))
                }
            }

            impl AsyncBufRead for $half {
                /// Returns the first contiguous bytes. No copy.
                fn poll_fill_buf(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                ) -> Poll<io::Result<&[u8]>> {
                    self.get_mut().poll_fill_buf(context)
                }

                /// # Panics
                ///
                /// If `count` is above what was read from the connection's poller.
                fn consume(self: Pin<&mut Self>, count: usize) {
                    let consumed = self.get_mut().consume(count);
                    consumed.expect("`consume` takes no more than `poll_fill_buf` has shown");
                }
            }
        )*
    };
}

/// Implements the writing trait.
macro_rules! writing {
    ($($half:ty),*) => {
        $(
            impl AsyncWrite for $half {
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

                fn poll_write_vectored(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                    parts: &[IoSlice<'_>],
                ) -> Poll<io::Result<usize>> {
                    self.get_mut().poll_write_vectored(context, parts)
                }

                fn is_write_vectored(&self) -> bool {
                    true
                }
            }
        )*
    };
}

reading!(Connection, OwnedReader);
writing!(Connection, OwnedWriter);
