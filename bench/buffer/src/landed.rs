// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes as the reads of a connection leave them: in blocks that are filled once. A benchmark can
//! create a buffer over them at any time without touching the bytes.

use netpoll_buffer::{LinkBuffer, Tail};

/// The maximum size of one read of a connection in bytes.
pub(crate) const READ: usize = 64 << 10;

/// Filled blocks.
pub(crate) struct Landed {
    blocks: Vec<Tail>,
}

impl Landed {
    /// Stores `bytes` in blocks of at most `each` bytes.
    pub(crate) fn in_blocks(bytes: &[u8], each: usize) -> Self {
        let land = |piece: &[u8]| {
            let mut block = Tail::with_capacity(piece.len());
            assert_eq!(
                block.put(piece),
                piece.len(),
                "a block has what was asked for"
            );
            block
        };
        Self {
            blocks: bytes.chunks(each).map(land).collect(),
        }
    }

    /// Stores `bytes` in one block, as a large frame is received.
    pub(crate) fn in_one_block(bytes: &[u8]) -> Self {
        Self::in_blocks(bytes, bytes.len())
    }

    /// Stores `bytes` in blocks as large as one read.
    pub(crate) fn in_reads(bytes: &[u8]) -> Self {
        Self::in_blocks(bytes, READ)
    }

    /// Returns a buffer with one segment for each block.
    pub(crate) fn buffer(&self) -> LinkBuffer {
        let mut buffer = LinkBuffer::new();
        for block in &self.blocks {
            buffer.push_segment(block.window(0..block.filled()));
        }
        buffer
    }
}

/// Returns `length` bytes that differ from their neighbours.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index as u8).wrapping_mul(31))
        .collect()
}
