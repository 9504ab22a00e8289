// SPDX-License-Identifier: MIT OR Apache-2.0
//! The buffers of netpoll: [`LinkBuffer`] and its parts.
//!
//! ```text
//!   LinkBuffer ── Segment ── Segment ── Segment          the readable bytes, in order
//!                    │          │          │
//!                    │ start..end          │             a window into a block
//!                    ▼          ▼          ▼
//!                ┌──Block──┐ ┌────Block────────┐
//!                │ ####    │ │ ####.####       │         counted memory
//!                └─────────┘ └─────────────────┘
//!                                       ▲ filled
//!                                       └ Tail           the only writer, behind `filled`
//! ```
//!
//! A **block** is zero-initialised memory with a count of its owners. A **segment** is one owner of
//! a block and shows one window of it; the bytes it shows never change. A block has at most one
//! **tail**, which writes where no segment looks yet. When the last owner is dropped, on any
//! thread, the block returns to the **pool** it came from: to that thread's cache, or to the
//! central list that all threads share. A **LinkBuffer** is a chain of segments with a length, and
//! a tail of its own for the bytes that are put.
//!
//! # Invariants
//!
//! Every `unsafe` block of this crate names the invariant that makes it sound.
//!
//! * **B1** Block memory is allocated zeroed, and so is always initialised.
//! * **B2** There is at most one [`Tail`] per block. It is not `Clone`; it alone writes, and only
//!   to `filled..capacity`.
//! * **B3** A segment lies in `0..filled` as of its creation, and `filled` only grows while there
//!   are segments. So the bytes that a segment shows are not written any more.
//! * **B4** `filled` returns to 0 only under `&mut Tail`, after `owners == 1` was read with
//!   Acquire, which pairs with the Release in the drop of every other owner.
//! * **B5** No reference to a whole block exists while it has owners, only references to a
//!   segment's window or to the tail's spare capacity, and these never overlap (B2, B3). A rewind
//!   that zeroes the filled bytes runs while there is neither (B4).
//! * **B6** A free block, in a central list of its pool or in a thread cache, holds no reference to
//!   the pool (that would be a cycle).
//! * **B7** A block's header lives until its last owner is dropped. An owner is counted before it
//!   exists and released once.
//!
//! B4 and B7 hold between threads, as do the counts of a pool: `tests/loom.rs` checks them with a
//! model checker.
//!
//! The owner of a user's [`Bytes`](bytes::Bytes) is dropped by foreign code, which may panic. The
//! panic is caught where it happens, in any call that frees the memory: no call of this crate fails
//! or stops half-way because of it.
//!
//! This crate knows two things of sockets: how to fill memory from one and how to drain memory to
//! one. Of other streams it knows the traits of [`std::io`]: [`BufStream`] reads and writes those.

mod block;
mod buf_stream;
mod error;
mod link_buffer;
mod pool;
mod segment;
mod sync;
mod tail;
mod write_tail;

pub use buf_stream::BufStream;
pub use buf_stream::reader::StreamReader;
pub use error::{NotEnoughData, OutOfRange, TooLarge, WriteOverrun};
pub use link_buffer::LinkBuffer;
pub use link_buffer::write::Reservation;
pub use pool::{Pool, PoolStats};
pub use segment::Segment;
pub use tail::Tail;
