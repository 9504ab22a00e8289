// SPDX-License-Identifier: MIT OR Apache-2.0
//! The size classes of blocks.
//!
//! Sizes are powers of two from 256 B. From 64 KiB on a class has one page more, so that a frame of
//! a round size and its header fit in one block. Larger requests than the largest class have no
//! class: they are allocated and freed each time.

/// The smallest class.
pub(crate) const MIN_BLOCK_SIZE: usize = 256;
/// The largest class, without its page.
pub(super) const MAX_POOLED_SIZE: usize = 8 << 20;
/// 256 B, 512 B, … 8 MiB.
pub(super) const CLASS_COUNT: usize =
    (MAX_POOLED_SIZE / MIN_BLOCK_SIZE).trailing_zeros() as usize + 1;
/// From this size on a class has a page for a header beside a round frame.
const WITH_PAGE: usize = 64 << 10;
/// The extra page of such a class.
const PAGE: usize = 4 << 10;

/// Returns the smallest class that fits `capacity`, or `None` above the largest. The class of a
/// class's own size is that class.
pub(super) const fn class_of(capacity: usize) -> Option<usize> {
    let bare = if capacity > WITH_PAGE {
        capacity.saturating_sub(PAGE)
    } else {
        capacity
    };
    if bare > MAX_POOLED_SIZE {
        return None;
    }
    let least = if bare > MIN_BLOCK_SIZE {
        bare
    } else {
        MIN_BLOCK_SIZE
    };
    Some((least.next_power_of_two() / MIN_BLOCK_SIZE).trailing_zeros() as usize)
}

/// Returns the size of the blocks of a class, in bytes.
pub(super) const fn size_of_class(class: usize) -> usize {
    let size = MIN_BLOCK_SIZE << class;
    if size >= WITH_PAGE { size + PAGE } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_class_fits_the_requested_capacity() {
        for capacity in [
            0,
            1,
            255,
            256,
            257,
            4096,
            65_535,
            65_536,
            65_540,
            69_632,
            69_633,
            1 << 20,
        ] {
            let class = class_of(capacity).unwrap();
            assert!(size_of_class(class) >= capacity, "{capacity}");
            let below = class.checked_sub(1).map_or(0, size_of_class);
            assert!(
                below < capacity.max(1),
                "{capacity} would fit in the class below"
            );
        }
        assert_eq!(class_of(usize::MAX), None);
        assert_eq!(class_of(MAX_POOLED_SIZE + PAGE), Some(CLASS_COUNT - 1));
        assert_eq!(class_of(MAX_POOLED_SIZE + PAGE + 1), None);
    }

    #[test]
    fn the_class_of_a_class_size_is_that_class() {
        for class in 0..CLASS_COUNT {
            assert_eq!(class_of(size_of_class(class)), Some(class));
        }
    }

    #[test]
    fn a_round_frame_and_its_header_fit_one_block() {
        assert_eq!(
            size_of_class(class_of((64 << 10) + 4).unwrap()),
            (64 << 10) + PAGE
        );
        assert_eq!(
            size_of_class(class_of((1 << 20) + 4).unwrap()),
            (1 << 20) + PAGE
        );
    }
}
