// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reservation stays open, hidden and at its address until the commit, and no longer.

use std::io;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, OutOfRange, Pool, Reservation};

use crate::support::{
    BLOCK, SIZES, contents, in_own_pool, pattern, put, reason, segmented, slices,
};

fn fill(buffer: &mut LinkBuffer, hole: &Reservation, bytes: &[u8]) {
    let room = buffer.get_mut(hole).expect("an open reservation");
    room.copy_from_slice(bytes);
}

#[test]
fn added_bytes_stay_hidden_until_the_commit() {
    let mut buffer = put(b"abc");
    let hole = buffer.reserve(3).unwrap();
    buffer.put_slice(b"ghi");
    buffer.push(Bytes::from_static(b"jkl"));
    buffer.append(segmented(&[b"mn", b"o"]));
    fill(&mut buffer, &hole, b"def");
    assert_eq!(contents(&buffer), b"abc");
    assert_eq!(buffer.uncommitted_len(), 12);
    buffer.next(4).unwrap_err();
    assert_eq!(
        buffer.next(3).unwrap(),
        b"abc",
        "readable bytes stay readable"
    );
    buffer.commit_all();
    assert_eq!(buffer.uncommitted_len(), 0);
    assert_eq!(contents(&buffer), b"defghijklmno");
}

#[test]
fn a_reservation_of_every_size_is_in_one_piece_and_zeroed() {
    for before in SIZES {
        for size in SIZES {
            let mut buffer = put(&pattern(before));
            let hole = buffer.reserve(size).unwrap();
            assert_eq!(buffer.get_mut(&hole).unwrap(), vec![0; size]);
            fill(&mut buffer, &hole, &pattern(size));
            buffer.put_u8(9);
            buffer.commit_all();
            let expected = [pattern(before), pattern(size), vec![9]].concat();
            assert_eq!(contents(&buffer), expected);
        }
    }
}

#[test]
fn a_reservation_over_used_memory_is_zeroed() {
    for size in [1, 300, 40_000, BLOCK] {
        in_own_pool(|pool| {
            let mut used = pool.take(size.max(40_000));
            used.put(&[0xAA; BLOCK]);
            drop(used);
            assert_ne!(pool.stats().cached, 0, "used memory is cached");
            let mut buffer = LinkBuffer::new();
            let hole = buffer.reserve(size).unwrap();
            assert_eq!(pool.stats().cached, 0, "the used memory is reused");
            assert_eq!(buffer.get_mut(&hole).unwrap(), vec![0; size]);
        });
    }
}

#[test]
fn a_reservation_over_bytes_dropped_by_a_commit_is_zeroed() {
    let mut buffer = LinkBuffer::new();
    let hole = buffer.reserve(8).unwrap();
    fill(&mut buffer, &hole, &[7; 8]);
    buffer.commit(2).unwrap();
    buffer.reserve(6).unwrap();
    buffer.commit_all();
    assert_eq!(contents(&buffer), [7, 7, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn reservations_in_reservations_are_filled_in_any_order() {
    let mut buffer = LinkBuffer::new();
    let outer = buffer.reserve(4).unwrap();
    buffer.put_slice(b"..");
    let inner = buffer.reserve(2).unwrap();
    let large = buffer.reserve(2 * BLOCK).unwrap();
    let last = buffer.reserve(1).unwrap();
    fill(&mut buffer, &last, b"z");
    fill(&mut buffer, &inner, b"in");
    fill(&mut buffer, &large, &pattern(2 * BLOCK));
    fill(&mut buffer, &outer, b"out:");
    fill(&mut buffer, &inner, b"IN");
    buffer.commit_all();
    let expected = [b"out:..IN".to_vec(), pattern(2 * BLOCK), b"z".to_vec()].concat();
    assert_eq!(contents(&buffer), expected);
}

#[test]
fn adjacent_reservations_and_puts_are_one_slice() {
    let mut buffer = put(b"abc");
    buffer.reserve(4).unwrap();
    buffer.put_slice(b"def");
    buffer.reserve(4).unwrap();
    buffer.commit_all();
    buffer.put_slice(b"ghi");
    assert_eq!(slices(&buffer), 1);
}

#[test]
fn a_commit_of_every_count_keeps_that_many() {
    let all = b"aabbccddeeff";
    for k in 0..=all.len() {
        let mut buffer = put(b"+");
        let hole = buffer.reserve(2).unwrap();
        buffer.put_slice(b"bb");
        buffer.push(Bytes::from_static(b"cc"));
        buffer.append(segmented(&[b"d", b"d"]));
        buffer.put_slice(b"ff");
        buffer.insert(8, Bytes::from_static(b"ee")).unwrap();
        fill(&mut buffer, &hole, b"aa");
        assert_eq!(buffer.uncommitted_len(), all.len());
        buffer.commit(k).unwrap();
        assert_eq!(buffer.uncommitted_len(), 0);
        assert_eq!(buffer.len(), 1 + k);
        buffer.put_slice(b"!");
        assert_eq!(contents(&buffer), [b"+", &all[..k], b"!"].concat());
    }
}

#[test]
fn bytes_dropped_by_a_commit_leave_no_gap() {
    for k in [0, 3] {
        let mut buffer = put(b"abc");
        buffer.reserve(1000).unwrap();
        buffer.commit(k).unwrap();
        buffer.put_slice(b"def");
        assert_eq!(slices(&buffer), 1);
        assert_eq!(buffer.len(), 6 + k);
    }
}

#[test]
fn an_insert_is_possible_at_every_position() {
    for at in 0..=9 {
        for behind in 0..=11 {
            let mut buffer = put(b"+");
            let hole = buffer.reserve(3).unwrap();
            buffer.put_slice(b"def");
            buffer.push(Bytes::from_static(b"ghi"));
            let mut model = b"abcdefghi".to_vec();
            buffer.insert(at, Bytes::from_static(b"12")).unwrap();
            model.splice(at..at, *b"12");
            buffer.insert(behind, Bytes::from_static(b"3")).unwrap();
            model.splice(behind..behind, *b"3");
            buffer.put_slice(b"j");
            fill(&mut buffer, &hole, b"abc");
            buffer.commit_all();
            assert_eq!(contents(&buffer), [b"+", &model[..], b"j"].concat());
        }
    }
}

#[test]
fn an_insert_copies_nothing_and_an_empty_one_adds_nothing() {
    let mut buffer = LinkBuffer::new();
    buffer.reserve(4).unwrap();
    let bytes = Bytes::from(pattern(10));
    buffer.insert(2, bytes.clone()).unwrap();
    buffer.insert(3, Bytes::new()).unwrap();
    buffer.commit_all();
    assert_eq!(buffer.len(), 14);
    let inserted = buffer.segments().nth(1).unwrap().as_slice();
    assert_eq!((inserted.as_ptr(), inserted.len()), (bytes.as_ptr(), 10));
}

#[test]
fn an_insert_without_a_reservation_is_a_push() {
    let mut buffer = put(b"abc");
    buffer.insert(0, Bytes::from_static(b"def")).unwrap();
    assert_eq!(contents(&buffer), b"abcdef");
}

#[test]
fn a_reservation_ends_with_its_commit() {
    let mut buffer = LinkBuffer::new();
    for commit in [
        LinkBuffer::commit_all,
        |buffer| buffer.commit(0).unwrap(),
        |buffer| buffer.commit(2).unwrap(),
    ] as [fn(&mut LinkBuffer); 3]
    {
        let stale = buffer.reserve(4).unwrap();
        commit(&mut buffer);
        let kind = io::ErrorKind::InvalidInput;
        let range: OutOfRange = reason(buffer.get_mut(&stale), kind);
        assert_eq!((range.uncommitted, range.asked), (0, 4));
        let fresh = buffer.reserve(4).unwrap();
        let range: OutOfRange = reason(buffer.get_mut(&stale), kind);
        assert_eq!((range.uncommitted, range.asked), (4, 4));
        assert_ne!(stale, fresh);
        buffer.get_mut(&fresh).unwrap();
        buffer.commit(0).unwrap();
    }
}

#[test]
fn a_reservation_of_another_buffer_is_rejected() {
    let (mut one, mut two) = (LinkBuffer::new(), LinkBuffer::new());
    let of_one = one.reserve(4).unwrap();
    two.reserve(4).unwrap();
    let _refused: OutOfRange = reason(two.get_mut(&of_one), io::ErrorKind::InvalidInput);
    one.append(two);
    one.get_mut(&of_one).unwrap();
}

#[test]
fn a_reservation_of_zero_bytes_hides_later_puts() {
    let mut buffer = LinkBuffer::new();
    let nothing = buffer.reserve(0).unwrap();
    buffer.put_slice(b"abc");
    assert!(buffer.is_empty());
    assert_eq!(buffer.get_mut(&nothing).unwrap(), b"");
    buffer.insert(0, Bytes::from_static(b"+")).unwrap();
    buffer.commit_all();
    assert_eq!(contents(&buffer), b"+abc");
}

#[test]
fn a_commit_without_a_reservation_changes_nothing() {
    let mut buffer = put(b"abc");
    buffer.commit(0).unwrap();
    buffer.commit_all();
    buffer.put_u8(b'd');
    assert_eq!((contents(&buffer), slices(&buffer)), (b"abcd".to_vec(), 1));
}

#[test]
fn take_readable_and_prepend_keep_an_open_reservation() {
    let mut buffer = segmented(&[b"abc", b"def"]);
    let hole = buffer.reserve(3).unwrap();
    let mut taken = buffer.take_readable();
    assert_eq!((buffer.len(), buffer.uncommitted_len()), (0, 3));
    taken.skip(2).unwrap();
    buffer.prepend(taken);
    buffer.release();
    buffer.compact();
    fill(&mut buffer, &hole, b"ghi");
    buffer.commit_all();
    assert_eq!(contents(&buffer), b"cdefghi");
}

#[test]
fn compact_keeps_an_open_reservation() {
    let mut buffer = put(b"abc");
    let hole = buffer.reserve(3).unwrap();
    buffer.compact();
    buffer.put_slice(b"ghi");
    assert_eq!(
        (contents(&buffer), buffer.uncommitted_len()),
        (b"abc".to_vec(), 6)
    );
    fill(&mut buffer, &hole, b"def");
    buffer.commit_all();
    assert_eq!(contents(&buffer), b"abcdefghi");
}

#[test]
fn dropping_a_buffer_with_an_open_reservation_frees_its_memory() {
    let pool = in_own_pool(|pool| {
        let mut buffer = put(b"abc");
        buffer.reserve(3 * BLOCK).unwrap();
        buffer.put_slice(&pattern(BLOCK));
        assert_ne!(pool.stats().in_use, 0);
        drop(buffer);
        Pool::clone(pool)
    });
    assert_eq!(pool.stats().in_use, 0);
}
