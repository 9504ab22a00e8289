// SPDX-License-Identifier: MIT OR Apache-2.0
//! Delimiter searches in contents of the fuzzer's choice: a buffer of pieces of every kind, and
//! several searches, each compared with a plain search in a plain slice.

use std::io;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, NotEnoughData, Tail, TooLarge};

use crate::model::expect_rejection;
use crate::op::Amount;
use crate::with_own_pool;

/// How a piece is added to the buffer.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum PieceKind {
    Put,
    Push,
    Window,
    Commit,
}

#[derive(Arbitrary, Debug)]
struct Piece<'a> {
    how: PieceKind,
    bytes: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Search {
    delimiter: u8,
    from: Amount,
    max: Amount,
}

#[derive(Arbitrary, Debug)]
struct SearchInput<'a> {
    searches: Vec<Search>,
    pieces: Vec<Piece<'a>>,
}

/// Builds the buffer and runs the searches that `data` encodes; returns the number of searches.
///
/// # Panics
///
/// If a search differs from a plain one, or memory is leaked.
pub fn until(data: &[u8]) -> usize {
    let Ok(input) = SearchInput::arbitrary_take_rest(Unstructured::new(data)) else {
        return 0;
    };
    with_own_pool(|| {
        let (mut buffer, contents) = build(&input.pieces);
        let mut left = &contents[..];
        for search in &input.searches {
            left = find(&mut buffer, left, search);
            assert_eq!(buffer.len(), left.len());
        }
        assert!(buffer.peek(left.len()).expect("all") == left);
    });
    input.searches.len()
}

fn build(pieces: &[Piece<'_>]) -> (LinkBuffer, Vec<u8>) {
    let mut buffer = LinkBuffer::new();
    for piece in pieces {
        match piece.how {
            PieceKind::Put => buffer.put_slice(piece.bytes),
            PieceKind::Push => buffer.push(Bytes::copy_from_slice(piece.bytes)),
            PieceKind::Window => {
                let mut tail = Tail::with_capacity(piece.bytes.len());
                tail.put(piece.bytes);
                buffer.push_segment(tail.window(0..piece.bytes.len()));
            }
            PieceKind::Commit => {
                let reserved = buffer
                    .reserve(piece.bytes.len())
                    .expect("a size below the limit");
                let room = buffer.get_mut(&reserved).expect("an open reservation");
                room.copy_from_slice(piece.bytes);
                buffer.commit_all();
            }
        }
    }
    let contents = pieces.iter().flat_map(|piece| piece.bytes).copied();
    (buffer, contents.collect())
}

/// Searches without consuming, then with; returns the rest.
fn find<'a>(buffer: &mut LinkBuffer, left: &'a [u8], search: &Search) -> &'a [u8] {
    let (there, delimiter) = (left.len(), search.delimiter);
    let (from, max) = (search.from.of(there), search.max.of(there));
    let position = |from: usize| (from..max.min(there)).find(|&at| left[at] == delimiter);
    assert_eq!(buffer.position_of(delimiter, from, max), position(from));
    let sequence = buffer.position_of_slice(&[delimiter], from, max);
    assert_eq!(sequence, position(from));
    let found = buffer.until(delimiter, max);
    if let Some(at) = position(0) {
        let (line, rest) = left.split_at(at + 1);
        assert!(found.expect("a delimiter was found") == line);
        rest
    } else if there >= max {
        let large: TooLarge = expect_rejection(found, io::ErrorKind::InvalidData);
        assert_eq!(large, TooLarge::new(max, max + 1));
        left
    } else {
        let short: NotEnoughData = expect_rejection(found, io::ErrorKind::UnexpectedEof);
        assert_eq!(short, NotEnoughData::new(there, there + 1));
        left
    }
}
