// SPDX-License-Identifier: MIT OR Apache-2.0
//! The I/O traits of the futures crates: [`AsyncRead`], [`AsyncBufRead`] and [`AsyncWrite`] for
//! connections and their halves.
//!
//! They stand on the `poll_*` functions of the connection and have their ends: an idle timeout
//! reads as the end of the stream. A flush is that of
//! [`EndOfPoll`](FlushMode::EndOfPoll): written bytes leave without it, so on the connection's
//! poller there is nothing to wait for. `poll_close` shuts the output down; the drop of a
//! connection closes it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};

use crate::connection::{Connection, FlushMode, OwnedReader, OwnedWriter};

/// Implements the reading traits.
macro_rules! reading {
    ($($half:ty),*) => {
        $(
            impl AsyncRead for $half {
                /// Copies what is there, once. Within a bulk transfer a handler on its connection's
                /// poller receives 16 KiB and more straight into `target`.
                fn poll_read(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                    target: &mut [u8],
                ) -> Poll<io::Result<usize>> {
                    self.get_mut().poll_read(context, target)
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

                fn poll_write_vectored(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                    parts: &[IoSlice<'_>],
                ) -> Poll<io::Result<usize>> {
                    self.get_mut().poll_write_vectored(context, parts)
                }

                fn poll_flush(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                ) -> Poll<io::Result<()>> {
                    self.get_mut().poll_flush(context, FlushMode::EndOfPoll)
                }

                fn poll_close(
                    self: Pin<&mut Self>,
                    context: &mut Context<'_>,
                ) -> Poll<io::Result<()>> {
                    self.get_mut().poll_shutdown(context)
                }
            }
        )*
    };
}

reading!(Connection, OwnedReader);
writing!(Connection, OwnedWriter);
