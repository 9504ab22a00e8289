// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the poller receives the input of a connection.
//!
//! By default it is the block that all connections of a poller share. The rest of a large frame
//! goes into a block of the connection's own. A connection that wants no input gets no buffer.

use super::Engine;
use crate::connection::Connection;
use crate::connection::dispatcher::{Dispatcher, Owner};
use crate::connection::lifecycle::Phase;
use crate::connection::reader_state::ReaderState;
use crate::poll::source::{RecvBuffer, SourceContext};

/// The frame size from which on a connection receives its next frame into a block of its own from
/// the first byte.
const LARGE_FRAME: usize = 32 << 10;

/// How much larger than the frame such a block is, for the header.
const HEADER_SPACE: usize = 512;

/// Returns where to receive input for a connection that the engine owns.
#[inline]
pub(super) fn recv_buffer_for(connection: &mut Connection) -> RecvBuffer {
    let input = connection.reader_state();
    if input.expected() < LARGE_FRAME {
        return RecvBuffer::Shared;
    }
    own_block(input)
}

/// Returns a block for the whole of the next frame. Out of line: most connections need none.
#[inline(never)]
fn own_block(input: &mut ReaderState) -> RecvBuffer {
    let block = input.expected() + HEADER_SPACE;
    RecvBuffer::Owned(input.buffer.take_contiguous_tail(block, block))
}

impl<C: Dispatcher> Engine<C> {
    /// Returns where to receive input for a connection that is not quiescent. Out of line, so that
    /// the usual case saves no registers.
    #[inline(never)]
    pub(super) fn recv_buffer_active(&mut self, context: &SourceContext) -> RecvBuffer {
        if self.lifecycle.phase() == Phase::Lingering {
            return RecvBuffer::Shared;
        }
        if !self.wants_input(context) {
            return RecvBuffer::Unavailable;
        }
        let may_grow = !context.is_short_of_memory();
        match &mut self.owner {
            Owner::Engine(connection) if may_grow => recv_buffer_for(connection),
            Owner::Engine(_) => RecvBuffer::Shared,
            _ => match self.shared.input_buffer_if_any() {
                Some(input_buffer) if input_buffer.has_enough() => RecvBuffer::Unavailable,
                Some(mut input_buffer) if may_grow => input_buffer.recv_buffer(),
                _ => RecvBuffer::Shared,
            },
        }
    }
}
