// SPDX-License-Identifier: MIT OR Apache-2.0
//! A delimiter is found wherever it is, and not looked for where it may not be.

use crate::support::{contents, cut, pattern, segmented};

#[test]
fn a_delimiter_is_found_at_every_place_around_every_border() {
    for at in 0..40 {
        let mut bytes = vec![b'.'; 40];
        bytes[at] = b'\n';
        for each in 1..=40 {
            let mut buffer = cut(&bytes, each);
            assert_eq!(buffer.position_of(b'\n', 0, usize::MAX), Some(at));
            assert_eq!(buffer.until(b'\n', 40).unwrap(), &bytes[..=at]);
            assert_eq!(contents(&buffer), &bytes[at + 1..]);
        }
    }
}

#[test]
fn lines_come_one_after_the_other() {
    let mut buffer = segmented(&[b"one\ntw", b"o\n", b"\n", b"three"]);
    let mut lines = Vec::new();
    while let Ok(line) = buffer.until(b'\n', usize::MAX) {
        lines.push(line.to_vec());
    }
    assert_eq!(lines, [&b"one\n"[..], b"two\n", b"\n"]);
    buffer.put_slice(b"!\n");
    assert_eq!(buffer.until(b'\n', 7).unwrap(), b"three!\n");
}

#[test]
fn a_delimiter_may_be_the_last_of_the_allowed_bytes_but_not_the_next() {
    for each in 1..=5 {
        let mut buffer = cut(b"abcd\n", each);
        assert_eq!(buffer.position_of(b'\n', 0, 4), None);
        buffer.until(b'\n', 4).unwrap_err();
        assert_eq!(buffer.position_of(b'\n', 0, 5), Some(4));
        assert_eq!(buffer.until(b'\n', 5).unwrap(), b"abcd\n");
    }
}

#[test]
fn a_position_is_what_a_plain_search_between_the_two_bounds_finds() {
    let bytes = b"a.b..c...d";
    let bounds = [0, 1, 2, 3, 5, 9, 10, 11, usize::MAX];
    for each in 1..=10 {
        let buffer = cut(bytes, each);
        for from in bounds {
            for max in bounds {
                let plain = (from.min(10)..max.min(10)).find(|&at| bytes[at] == b'.');
                let found = buffer.position_of(b'.', from, max);
                assert_eq!(found, plain, "from {from} to {max} by {each}");
            }
        }
    }
}

#[test]
fn a_search_counts_from_what_has_not_been_read() {
    let mut buffer = cut(&pattern(100), 8);
    buffer.skip(13).unwrap();
    assert_eq!(buffer.position_of(12, 0, usize::MAX), None);
    assert_eq!(buffer.position_of(50, 0, usize::MAX), Some(37));
    assert_eq!(buffer.until(50, 38).unwrap(), &pattern(100)[13..=50]);
}

#[test]
fn a_search_moves_nothing() {
    let buffer = cut(&pattern(100), 8);
    let before = crate::support::places(&buffer);
    assert_eq!(buffer.position_of(99, 0, usize::MAX), Some(99));
    assert_eq!(crate::support::places(&buffer), before);
}
