// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of a stream: in proportion to the received and the waiting bytes, never to a length
//! that a peer claims.

use std::cell::Cell;
use std::io::{self, ErrorKind};

use netpoll_buffer::{BufStream, LinkBuffer, NotEnoughData};

use crate::support::{Ask, Sink, Source, Take, in_own_pool, reason, text};

/// The size of a write block: 64 KiB and a page for a header.
const WRITE_BLOCK: usize = (64 << 10) + (4 << 10);

/// Runs `test` on a thread that has its write block already, so that it keeps no other. `test` can
/// query how many more bytes are in use.
fn beside_the_write_block<T: Send>(test: impl FnOnce(&dyn Fn() -> usize) -> T + Send) -> T {
    in_own_pool(|pool| {
        LinkBuffer::new().put_u8(0);
        test(&|| pool.stats().in_use - WRITE_BLOCK)
    })
}

#[test]
fn an_unused_stream_allocates_nothing() {
    in_own_pool(|pool| {
        let mut stream = BufStream::new(Source::default());
        let _both = stream.split();
        assert_eq!(stream.reader().available(), 0);
        assert_eq!(pool.stats().peak, 0);
    });
}

#[test]
fn a_false_length_allocates_four_kibibytes() {
    for each in [3, 4, 100] {
        in_own_pool(|pool| {
            let bytes = b"\x00\x3f\xff\xffthat is all";
            let mut stream = BufStream::new(Source::drip(bytes, each));
            let mut reader = stream.reader();
            let length = reader.read_u32().unwrap() as usize;
            let short: NotEnoughData = reason(reader.next(length), ErrorKind::UnexpectedEof);
            assert_eq!(short, NotEnoughData::new(11, 0x003f_ffff));
            assert_eq!(pool.stats().peak, 4096);
        });
    }
}

#[test]
fn a_block_grows_with_the_received_bytes() {
    for each in [100, 3000, 1 << 20] {
        beside_the_write_block(|in_use| {
            let mut stream = BufStream::new(Source::drip(&text(500_000), each));
            let short: NotEnoughData =
                reason(stream.reader().wait(4 << 20), ErrorKind::UnexpectedEof);
            assert_eq!(short.have, 500_000);
            // Block sizes are powers of two, plus a page.
            assert_eq!(in_use(), (1 << 20) + 4096);
            assert_eq!(
                stream.get_ref().offered[0],
                4096,
                "before any byte has arrived"
            );
        });
    }
}

#[test]
fn a_block_grows_no_further_than_to_the_requested_size() {
    beside_the_write_block(|in_use| {
        let mut stream = BufStream::new(Source::drip(&text(500_000), 500_000));
        stream.reader().wait(100_000).unwrap();
        assert_eq!(in_use(), (128 << 10) + 4096);
    });
}

#[test]
fn awaited_bytes_are_contiguous() {
    let bytes = text(300_000);
    for each in [10, 999, 5000, bytes.len()] {
        let mut stream = BufStream::new(Source::drip(&bytes, each));
        let mut reader = stream.reader();
        for frame in bytes.chunks(50_000) {
            assert_eq!(reader.split_to(4).unwrap().segments().count(), 1);
            let part = reader.split_to(frame.len() - 4).unwrap();
            assert_eq!(part.segments().count(), 1);
        }
    }
}

/// Asserts that the input of a stream of small reads was moved to larger blocks twice, and that
/// each read was offered enough memory.
#[track_caller]
fn assert_moved_twice(stream: &BufStream<Source>) {
    let offered = &stream.get_ref().offered;
    let moves = offered.windows(2).filter(|pair| pair[1] > pair[0]).count();
    assert_eq!(moves, 2, "to 8 KiB and to 16 KiB");
    assert!(offered.iter().all(|&room| room >= 512));
}

#[test]
fn small_reads_stay_in_their_block() {
    let bytes = [&[b'x'; 9_999][..], b"\n"].concat();
    let mut waited = BufStream::new(Source::drip(&bytes, 1));
    waited.reader().wait(10_000).unwrap();
    assert_moved_twice(&waited);
    let mut searched = BufStream::new(Source::drip(&bytes, 1));
    searched.reader().until(b'\n', 1 << 20).unwrap();
    assert_moved_twice(&searched);
}

#[test]
fn consumed_bytes_free_their_memory_for_the_next_read() {
    in_own_pool(|pool| {
        let mut stream = BufStream::new(Source::drip(&text(40_960), 4096));
        for _ in 0..10 {
            stream.reader().skip(4096).unwrap();
        }
        assert_eq!(pool.stats().peak, 4096);
    });
}

#[test]
fn requests_that_grow_by_one_byte_rarely_move_the_input() {
    let reads = Cell::new(0);
    let endless = Ask(|room: &mut [u8]| {
        reads.set(reads.get() + 1);
        assert!(reads.get() < 40, "{} bytes offered", room.len());
        Ok(room.len())
    });
    let mut stream = BufStream::new(endless).max_frame(1 << 30);
    let mut reader = stream.reader();
    while reader.available() < 40 << 20 {
        let more = reader.available() + 1;
        reader.wait(more).unwrap();
    }
}

/// Returns the memory in use while the stream waits for more behind a received frame and a `rest`.
fn in_use_behind_a_frame(frame: usize, rest: usize) -> usize {
    beside_the_write_block(|in_use| {
        let (left, seen) = (Cell::new(frame + rest), Cell::new(0));
        let source = Ask(|room: &mut [u8]| {
            seen.set(in_use());
            let count = room.len().min(left.get());
            left.set(left.get() - count);
            Ok(count)
        });
        let mut stream = BufStream::new(source);
        let mut reader = stream.reader();
        reader.skip(frame).expect("a frame");
        reader.wait(rest + 1).expect_err("no more");
        assert_eq!(reader.available(), rest);
        seen.get()
    })
}

#[test]
fn a_consumed_large_frame_retains_no_memory_during_the_next_read() {
    for frame in [4096, 1 << 20, 4 << 20] {
        assert_eq!(in_use_behind_a_frame(frame, 0), 4096);
    }
}

#[test]
fn a_small_rest_retains_no_large_block_during_the_next_read() {
    for rest in [1, 100, 3000] {
        let in_use = in_use_behind_a_frame(1 << 20, rest);
        assert!(in_use <= 4096.max(4 * rest), "{in_use}");
    }
}

#[test]
fn a_large_rest_is_not_moved() {
    let in_use = in_use_behind_a_frame(3 << 20, 1 << 20);
    assert!(in_use > 4 << 20, "{in_use}");
}

#[test]
fn a_replaced_block_is_freed_before_the_read() {
    beside_the_write_block(|in_use| {
        let come = Cell::new(0);
        let source = Ask(|room: &mut [u8]| {
            assert!(in_use() <= 4096.max(4 * come.get()) + 4096);
            come.set(come.get() + room.len());
            Ok(room.len())
        });
        let mut stream = BufStream::new(source);
        stream.reader().wait(4 << 20).unwrap();
    });
}

#[test]
fn shared_memory_is_freed_with_its_last_owner() {
    beside_the_write_block(|in_use| {
        let mut stream = BufStream::new(Source::drip(&text(100_000), 100_000));
        let mut reader = stream.reader();
        let slice = reader.slice(50_000).unwrap();
        drop(reader.chunk().unwrap());
        drop(stream);
        assert_ne!(in_use(), 0);
        drop(slice);
        assert_eq!(in_use(), 0);
    });
}

#[test]
fn flushed_streams_share_one_write_block() {
    in_own_pool(|pool| {
        let mut streams: Vec<_> = (0..100).map(|_| BufStream::new(io::sink())).collect();
        for stream in &mut streams {
            stream.writer().put_str("small");
            stream.flush().unwrap();
        }
        assert_eq!(pool.stats().in_use, WRITE_BLOCK);
    });
}

#[test]
fn a_small_unwritten_rest_moves_out_of_the_write_block() {
    in_own_pool(|pool| {
        let full = || Sink::new([Take::Most(1000), Take::Error(ErrorKind::WouldBlock.into())]);
        let mut streams: Vec<_> = (0..100).map(|_| BufStream::new(full())).collect();
        for stream in &mut streams {
            stream.writer().put_slice(&text(1200));
            stream.flush().unwrap_err();
            assert_eq!(stream.writer().len(), 200);
        }
        assert_eq!(pool.stats().in_use, WRITE_BLOCK + 100 * 256);
    });
}
