// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of netpoll: [`LinkBuffer`] and what it is made of.
//!
//! ```text
//!   LinkBuffer ── Segment ── Segment ── Segment          what is readable, in order
//!                    │          │          │
//!                    │ start..end          │             a window into a block
//!                    ▼          ▼          ▼
//!                ┌──Block──┐ ┌────Block────────┐
//!                │ ####    │ │ ####.####       │         counted memory
//!                └─────────┘ └─────────────────┘
//!                                       ▲ filled
//!                                       └ Tail           the one right to write behind `filled`
//! ```
//!
//! A **block** is zero-initialised memory with a count of its owners. A **segment** owns a block
//! together with every other segment of it and shows one window of it; it never changes what it
//! shows. A block has at most one **tail**, which writes where no segment looks yet. When the last
//! owner lets go, on whichever thread that is, the block goes back to the **pool** it came from: to
//! that thread's own front of it, or to what all threads share.
//! A **LinkBuffer** is a chain of segments with a length, and a tail of its own for what is put in.
//!
//! # Invariants
//!
//! Every `unsafe` block of this crate names the one that makes it true.
//!
//! * **B1** Block memory is allocated zeroed, and so is initialised for ever.
//! * **B2** There is at most one [`Tail`] per block; it is not `Clone`, and it alone writes, and
//!   only `filled..capacity`.
//! * **B3** A segment lies in `0..filled` as of its making, and `filled` only grows while there are
//!   segments; so what a segment shows is written no more.
//! * **B4** `filled` returns to 0 only under `&mut Tail` after `owners == 1` was read with Acquire,
//!   which pairs with the Release in the drop of every other owner.
//! * **B5** No reference to a whole block is made while it has owners, only to a segment's window
//!   or to the room of the tail, and these never overlap (B2, B3). A rewind that zeroes what
//!   was filled does so while there is neither (B4).
//! * **B6** A block at home, on a shelf of its pool or in a thread's front of it, holds no reference
//!   to the pool (that would be a cycle).
//! * **B7** A block's header lives until its last owner has let go; an owner is counted before it
//!   exists and let go once.
//!
//! B4 and B7 are promises between threads, as is what a pool counts: `tests/loom.rs` runs them
//! through a model checker.
//!
//! What a user's [`Bytes`](bytes::Bytes) own is dropped by foreign code, which may panic. A panic there
//! ends there, whichever call lets the memory go: no call of this crate fails or stops half-way for it.
//!
//! Of sockets this crate knows two things: how to fill memory from one and how to drain memory to
//! one. Of other streams it knows what [`std::io`] says: [`BufStream`] reads and writes those.

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
