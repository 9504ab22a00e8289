// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes as a connection's reads leave them: in blocks that were filled once. A buffer over them
//! is made as often as a measure needs one, without touching the bytes.

use netpoll_buffer::{LinkBuffer, Tail};

/// How much one read of a connection brings at most.
pub(crate) const READ: usize = 64 << 10;

/// Filled blocks.
pub(crate) struct Landed {
    blocks: Vec<Tail>,
}

impl Landed {
    /// `bytes` in blocks with at most `each` of them.
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

    /// `bytes` in one block, as a large frame lands.
    pub(crate) fn in_one_block(bytes: &[u8]) -> Self {
        Self::in_blocks(bytes, bytes.len())
    }

    /// `bytes` as one read after another brings them.
    pub(crate) fn in_reads(bytes: &[u8]) -> Self {
        Self::in_blocks(bytes, READ)
    }

    /// A chain of one window a block.
    pub(crate) fn buffer(&self) -> LinkBuffer {
        let mut buffer = LinkBuffer::new();
        for block in &self.blocks {
            buffer.push_segment(block.window(0..block.filled()));
        }
        buffer
    }
}

/// `length` bytes that differ from their neighbours.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index as u8).wrapping_mul(31))
        .collect()
}
