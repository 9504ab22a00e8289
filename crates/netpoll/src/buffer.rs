// SPDX-License-Identifier: MIT OR Apache-2.0
//! The buffer behind readers, writers and frames: linked, reference-counted blocks.
//!
//! The types are those of the crate `netpoll-buffer`, which does no I/O and can be used alone.
//!
//! ```
//! use netpoll::buffer::LinkBuffer;
//!
//! # fn main() -> std::io::Result<()> {
//! let mut buffer = LinkBuffer::new();
//! buffer.put_u32(5);
//! buffer.put_str("hello");
//! let len = buffer.read_u32()?;
//! assert_eq!(buffer.next(len as usize)?, b"hello");
//! # Ok(()) }
//! ```

#[doc(inline)]
pub use netpoll_buffer::{BufStream, LinkBuffer, Pool, PoolStats, Reservation, StreamReader};
