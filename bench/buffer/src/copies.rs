// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts the bytes that forwarding copies, by their addresses: a byte at another address than
//! before was copied. The benchmark stops if there is one.

use netpoll_buffer::LinkBuffer;

use crate::forward::{LinkBuffers, Way, input};
use crate::landed::Landed;

/// Forwards in every way and prints the number of copied bytes.
///
/// # Panics
///
/// If a byte was copied.
pub(crate) fn check() {
    let mut copied = 0;
    for size in [64 << 10, 1 << 20] {
        let input = input(size);
        for landed in [Landed::in_one_block(&input), Landed::in_reads(&input)] {
            for way in [Way::Whole, Way::Body, Way::Reframed] {
                copied += copied_by(way, LinkBuffers::over(&landed));
            }
        }
    }
    assert_eq!(copied, 0, "forwarding copied bytes");
    println!("forwarding 64 KiB and 1 MiB: {copied} bytes copied");
}

/// Returns the number of bytes that are at other addresses in the output of `way` than in its
/// input.
fn copied_by(way: Way, mut buffers: LinkBuffers) -> usize {
    let before = addresses(&buffers.input);
    way.forward(&mut buffers);
    let left = addresses(&buffers.input).len();
    let after = addresses(&buffers.output);
    let (length, own) = match way {
        Way::Whole => (0, 0),
        Way::Body => (4, 0),
        Way::Reframed => (4, 4),
    };
    let (before, after) = (&before[length..before.len() - left], &after[own..]);
    assert_eq!(before.len(), after.len(), "all of the frame is forwarded");
    before
        .iter()
        .zip(after)
        .filter(|(from, to)| from != to)
        .count()
}

/// Returns the address of each byte.
fn addresses(buffer: &LinkBuffer) -> Vec<usize> {
    let of_segment =
        |bytes: &[u8]| bytes.as_ptr_range().start.addr()..bytes.as_ptr_range().end.addr();
    buffer
        .segments()
        .flat_map(|segment| of_segment(segment.as_slice()))
        .collect()
}
