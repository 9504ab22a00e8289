// SPDX-License-Identifier: MIT OR Apache-2.0
//! A delimiter is found at every position within the bounds, and not outside of them.

use crate::support::{contents, cut, pattern, segmented};

#[test]
fn a_delimiter_is_found_at_every_position_around_every_border() {
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
fn a_delimiter_may_be_the_last_byte_within_the_limit_and_not_the_next() {
    for each in 1..=5 {
        let mut buffer = cut(b"abcd\n", each);
        assert_eq!(buffer.position_of(b'\n', 0, 4), None);
        buffer.until(b'\n', 4).unwrap_err();
        assert_eq!(buffer.position_of(b'\n', 0, 5), Some(4));
        assert_eq!(buffer.until(b'\n', 5).unwrap(), b"abcd\n");
    }
}

#[test]
fn position_of_agrees_with_a_plain_search_between_the_bounds() {
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
fn a_sequence_is_found_at_every_position_around_every_border() {
    for wanted in [&b"\r"[..], b"\r\n", b"aab", b"aaaa", b"abcabd"] {
        for at in 0..30 {
            let mut bytes = vec![wanted[0]; at];
            bytes.extend(wanted);
            bytes.extend(b"after");
            let plain = bytes.windows(wanted.len()).position(|each| each == wanted);
            for each in 1..=bytes.len() {
                let buffer = cut(&bytes, each);
                let found = buffer.position_of_slice(wanted, 0, usize::MAX);
                assert_eq!(found, plain, "{bytes:?} by {each}");
            }
        }
    }
}

#[test]
fn a_sequence_is_found_only_entirely_between_the_bounds() {
    let bytes = b"ab.aab..aaab...";
    let bounds = [0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 15, 16, usize::MAX];
    for wanted in [&b""[..], b"a", b"ab", b"aab", b"...", b"....", bytes] {
        for each in 1..=15 {
            let buffer = cut(bytes, each);
            for from in bounds {
                for max in bounds {
                    let plain = (from..=max.min(15)).find(|&at| {
                        let (_, behind) = bytes.split_at(at);
                        behind.starts_with(wanted) && wanted.len() <= max - at
                    });
                    let found = buffer.position_of_slice(wanted, from, max);
                    assert_eq!(found, plain, "{wanted:?} from {from} to {max} by {each}");
                }
            }
        }
    }
}

#[test]
fn copy_to_copies_the_readable_bytes_from_any_position() {
    let bytes = pattern(25);
    for each in 1..=25 {
        let mut buffer = cut(&bytes, each);
        buffer.skip(1).unwrap();
        for from in [0, 1, 2, 7, 22, 23, 24, 25, usize::MAX] {
            for room in [0, 1, 2, 8, 24, 30] {
                let mut target = vec![0xee; room];
                let copied = buffer.copy_to(from, &mut target);
                let there = &bytes[1..][from.min(24)..];
                assert_eq!(copied, there.len().min(room));
                assert_eq!(target[..copied], there[..copied]);
                assert!(target[copied..].iter().all(|&byte| byte == 0xee));
                assert_eq!(buffer.len(), 24);
            }
        }
    }
    assert_eq!(segmented(&[]).copy_to(0, &mut [0]), 0);
}

#[test]
fn a_search_counts_from_the_first_unread_byte() {
    let mut buffer = cut(&pattern(100), 8);
    buffer.skip(13).unwrap();
    assert_eq!(buffer.position_of(12, 0, usize::MAX), None);
    assert_eq!(buffer.position_of(50, 0, usize::MAX), Some(37));
    assert_eq!(buffer.position_of_slice(&[50, 51], 0, usize::MAX), Some(37));
    assert_eq!(buffer.until(50, 38).unwrap(), &pattern(100)[13..=50]);
}

#[test]
fn a_search_moves_nothing() {
    let buffer = cut(&pattern(100), 8);
    let before = crate::support::places(&buffer);
    assert_eq!(buffer.position_of(99, 0, usize::MAX), Some(99));
    let last = [97, 98, 99];
    assert_eq!(buffer.position_of_slice(&last, 0, usize::MAX), Some(97));
    assert_eq!(buffer.copy_to(97, &mut [0; 3]), 3);
    assert_eq!(crate::support::places(&buffer), before);
}
