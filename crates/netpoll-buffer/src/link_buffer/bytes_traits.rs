// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`LinkBuffer`] as [`Buf`] and [`BufMut`], for codecs written against the `bytes` crate.
//!
//! These traits demand a panic for a length that is too large. The methods of the same meaning on
//! [`LinkBuffer`] itself never panic, and take precedence in a call by method name.
//!
//! ```
//! use netpoll_buffer::LinkBuffer;
//! use prost::Message;
//!
//! #[derive(Message, PartialEq)]
//! struct Greeting {
//!     #[prost(string, tag = "1")]
//!     text: String,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let greeting = Greeting { text: "hello".into() };
//! let mut buffer = LinkBuffer::new();
//! greeting.encode_length_delimited(&mut buffer)?;
//! assert_eq!(Greeting::decode_length_delimited(&mut buffer)?, greeting);
//! assert!(buffer.is_empty());
//! # Ok(()) }
//! ```

use std::io::IoSlice;

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes};

use super::LinkBuffer;
use crate::write_tail;

impl Buf for LinkBuffer {
    #[inline]
    fn remaining(&self) -> usize {
        self.len()
    }

    /// Returns the first contiguous readable bytes; empty only if no bytes are readable. No copy.
    #[inline]
    fn chunk(&self) -> &[u8] {
        self.segments()
            .next()
            .map_or(&[][..], |first| first.as_slice())
    }

    /// Fills `slices` with the readable bytes, in order; returns how many slices it filled. No
    /// copy.
    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, slice) in slices.iter_mut().zip(self.io_slices()) {
            *slot = slice;
            count += 1;
        }
        count
    }

    /// As [`LinkBuffer::skip`].
    ///
    /// # Panics
    ///
    /// If fewer than `n` bytes are readable, as the trait demands.
    #[inline]
    fn advance(&mut self, n: usize) {
        if let Err(short) = self.skip(n) {
            panic_with(&short);
        }
    }

    /// As [`LinkBuffer::slice`], copying where that does.
    ///
    /// # Panics
    ///
    /// If fewer than `n` bytes are readable, as the trait demands.
    fn copy_to_bytes(&mut self, n: usize) -> Bytes {
        self.slice(n).unwrap_or_else(|short| panic_with(&short))
    }
}

impl LinkBuffer {
    /// Returns the spare capacity that the next small put would be written to; never empty.
    fn spare_capacity_mut(&mut self) -> &mut [u8] {
        if let Some(pending) = self.uncommitted.as_mut() {
            return pending.spare_capacity_mut();
        }
        let tail = match self.tail.take() {
            Some(tail) if tail.spare_capacity() > 0 => tail,
            spent => {
                spent.into_iter().for_each(write_tail::release);
                write_tail::borrow()
            }
        };
        self.tail.insert(tail).spare_capacity_mut()
    }

    /// Counts the first `n` bytes of [`spare_capacity_mut`](Self::spare_capacity_mut), which has at
    /// least so many, as put.
    fn advance_written(&mut self, n: usize) {
        if let Some(pending) = self.uncommitted.as_mut() {
            pending.advance_written(n);
        } else if let Some(mut tail) = self.tail.take() {
            tail.advance(n);
            self.append_tail(tail, n);
        }
    }
}

/// Panics, as these traits demand in place of an error.
#[cold]
fn panic_with(error: &std::io::Error) -> ! {
    panic!("{error}")
}

// SAFETY: B2: `chunk_mut` is the spare capacity of a tail that this buffer owns, so nothing else
// writes there between it and `advance_mut`; B1: all of it is initialised, whatever the caller did.
unsafe impl BufMut for LinkBuffer {
    /// Returns how many more bytes could be put, memory permitting.
    #[inline]
    fn remaining_mut(&self) -> usize {
        usize::MAX - self.len() - self.uncommitted_len()
    }

    /// Returns memory for the next bytes: the rest of the write block, never empty. May borrow the
    /// thread's write block, or allocate one.
    #[inline]
    fn chunk_mut(&mut self) -> &mut UninitSlice {
        UninitSlice::new(self.spare_capacity_mut())
    }

    /// Counts the first `n` bytes of [`chunk_mut`](Self::chunk_mut) as put. No copy.
    ///
    /// # Safety
    ///
    /// The trait's: the caller has written them. Here unwritten bytes would be stale ones of an
    /// earlier user of the memory.
    ///
    /// # Panics
    ///
    /// If `n` is more than that chunk is long.
    #[inline]
    unsafe fn advance_mut(&mut self, n: usize) {
        let room = self.spare_capacity_mut().len();
        assert!(n <= room, "{n} bytes were written where {room} fit");
        self.advance_written(n);
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        Self::put_slice(self, bytes);
    }

    #[inline]
    fn put_u8(&mut self, byte: u8) {
        Self::put_u8(self, byte);
    }
}
