// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts the bytes that forwarding copies, by where they lie: a byte at another address than
//! before is a copy. There must be none, or nothing is measured.

use netpoll_buffer::LinkBuffer;

use crate::forward::{LinkBuffers, Way, input};
use crate::landed::Landed;

/// Forwards in all ways, and prints how many bytes were copied.
///
/// # Panics
///
/// If there was one.
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

/// How many bytes `way` shows at the output elsewhere than they were at the input.
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

/// Where each byte lies.
fn addresses(buffer: &LinkBuffer) -> Vec<usize> {
    let of_segment =
        |bytes: &[u8]| bytes.as_ptr_range().start.addr()..bytes.as_ptr_range().end.addr();
    buffer
        .segments()
        .flat_map(|segment| of_segment(segment.as_slice()))
        .collect()
}
