// SPDX-License-Identifier: MIT OR Apache-2.0
//! Between a buffer and a real socket no byte is lost, duplicated or added, in any send and receive
//! sizes.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use netpoll_buffer::LinkBuffer;
use netpoll_sys::{Epoll, Events, Interest, options, socket};

use crate::support::{BLOCK, contents, cut, in_own_pool, pattern, places, put, slices};

const LIMIT: Duration = Duration::from_secs(60);

/// Our end, which is non-blocking, and the peer's, which blocks for at most [`LIMIT`].
fn pair() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = socket::pair().expect("a pair of sockets");
    let theirs = UnixStream::from(theirs);
    theirs.set_nonblocking(false).expect("a blocking socket");
    theirs.set_read_timeout(Some(LIMIT)).expect("a limit");
    theirs.set_write_timeout(Some(LIMIT)).expect("a limit");
    (ours, theirs)
}

/// Waits until `fd` is ready for `interest`.
fn await_ready(fd: impl AsFd, interest: Interest) {
    let epoll = Epoll::new().expect("an epoll");
    epoll.add(fd.as_fd(), 0, interest).expect("to watch");
    let mut events = Events::with_capacity(1);
    let count = epoll.wait(&mut events, Some(LIMIT)).expect("to wait");
    assert_eq!(count, 1, "not ready within the limit");
}

fn read_to(stream: &mut UnixStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).expect("the sent bytes");
    bytes
}

#[test]
fn everything_is_sent_in_order_from_more_segments_than_fit_one_call() {
    let (ours, mut theirs) = pair();
    for pieces in [1, 2, 63, 64, 65, 129, 300] {
        let bytes = pattern(pieces * 7);
        let mut buffer = cut(&bytes, 7);
        assert_eq!(buffer.drain_to(ours.as_fd()).unwrap(), bytes.len());
        assert!(buffer.is_empty());
        assert_eq!(read_to(&mut theirs, bytes.len()), bytes);
    }
}

#[test]
fn bytes_that_the_socket_does_not_take_stay_and_are_sent_later() {
    for each in [1000, 3 << 20] {
        let (ours, mut theirs) = pair();
        options::set_send_buffer(ours.as_fd(), 8 << 10).unwrap();
        let bytes = pattern(1 << 20);
        let mut buffer = cut(&bytes, each);
        let (mut received, mut calls) = (Vec::new(), 0);
        while !buffer.is_empty() {
            await_ready(&ours, Interest::WRITABLE);
            let sent = buffer.drain_to(ours.as_fd()).unwrap();
            assert_ne!(sent, 0, "a successful send has a count");
            received.extend(read_to(&mut theirs, sent));
            assert_eq!(contents(&buffer), bytes[received.len()..]);
            calls += 1;
        }
        assert!(calls > 1);
        assert!(received == bytes);
    }
}

#[test]
fn a_send_to_a_full_socket_would_block_and_consumes_nothing() {
    let (ours, _theirs) = pair();
    put(&pattern(8 << 20)).drain_to(ours.as_fd()).unwrap();
    let mut buffer = cut(b"abcdef", 2);
    let error = buffer.drain_to(ours.as_fd()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(contents(&buffer), b"abcdef");
}

#[test]
fn a_send_to_a_closed_peer_is_a_broken_pipe_and_consumes_nothing() {
    for each in [2, 6] {
        let (ours, theirs) = pair();
        drop(theirs);
        let mut buffer = cut(b"abcdef", each);
        let error = buffer.drain_to(ours.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(contents(&buffer), b"abcdef");
    }
}

#[test]
fn an_empty_buffer_and_a_limit_of_zero_make_no_system_call() {
    let (ours, theirs) = pair();
    let mut buffer = LinkBuffer::new();
    assert_eq!(buffer.fill_from(ours.as_fd(), 0).unwrap(), 0);
    drop(theirs);
    assert_eq!(buffer.drain_to(ours.as_fd()).unwrap(), 0);
    let mut read = put(b"abc");
    read.next(3).unwrap();
    assert_eq!(read.drain_to(ours.as_fd()).unwrap(), 0);
}

#[test]
fn uncommitted_bytes_are_not_sent() {
    let (ours, mut theirs) = pair();
    let mut buffer = put(b"abc");
    buffer.reserve(3).unwrap();
    assert_eq!(buffer.drain_to(ours.as_fd()).unwrap(), 3);
    assert_eq!(buffer.drain_to(ours.as_fd()).unwrap(), 0);
    buffer.commit(2).unwrap();
    assert_eq!(buffer.drain_to(ours.as_fd()).unwrap(), 2);
    assert_eq!(read_to(&mut theirs, 5), b"abc\0\0");
}

#[test]
fn sent_memory_is_freed_at_once() {
    let (ours, _theirs) = pair();
    let bytes = Bytes::from(pattern(1000));
    let mut buffer = LinkBuffer::from(bytes.clone());
    buffer.drain_to(ours.as_fd()).unwrap();
    assert!(bytes.is_unique());
    // Also the last one of several.
    buffer.put_str("a header");
    buffer.push(bytes.clone());
    buffer.drain_to(ours.as_fd()).unwrap();
    assert!(bytes.is_unique());
}

#[test]
fn received_bytes_are_appended_up_to_the_limit() {
    let (ours, mut theirs) = pair();
    theirs.write_all(&pattern(100)).unwrap();
    let mut buffer = put(b"+");
    assert_eq!(buffer.fill_from(ours.as_fd(), 0).unwrap(), 0);
    assert_eq!(buffer.fill_from(ours.as_fd(), 1).unwrap(), 1);
    assert_eq!(buffer.fill_from(ours.as_fd(), 60).unwrap(), 60);
    assert_eq!(buffer.fill_from(ours.as_fd(), usize::MAX).unwrap(), 39);
    assert_eq!(contents(&buffer), [b"+", &pattern(100)[..]].concat());
    assert_eq!(slices(&buffer), 1, "adjacent in one block");
}

#[test]
fn a_receive_from_an_empty_socket_would_block_and_adds_nothing() {
    let (ours, mut theirs) = pair();
    let mut buffer = put(b"abc");
    let error = buffer.fill_from(ours.as_fd(), 100).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(contents(&buffer), b"abc");
    theirs.write_all(b"def").unwrap();
    assert_eq!(buffer.fill_from(ours.as_fd(), 100).unwrap(), 3);
    assert_eq!(contents(&buffer), b"abcdef");
}

#[test]
fn the_end_of_the_stream_is_zero_after_the_last_byte_and_stays_so() {
    let (ours, mut theirs) = pair();
    theirs.write_all(b"last words").unwrap();
    drop(theirs);
    let mut buffer = LinkBuffer::new();
    assert_eq!(buffer.fill_from(ours.as_fd(), usize::MAX).unwrap(), 10);
    for _ in 0..3 {
        assert_eq!(buffer.fill_from(ours.as_fd(), usize::MAX).unwrap(), 0);
    }
    assert_eq!(contents(&buffer), b"last words");
}

#[test]
fn a_long_stream_arrives_in_order_with_reads_in_between() {
    let (ours, mut theirs) = pair();
    let bytes = pattern(5 * BLOCK + 17);
    let sent = bytes.clone();
    let writer = thread::spawn(move || theirs.write_all(&sent).expect("all bytes are taken"));
    let (mut buffer, mut received) = (LinkBuffer::new(), Vec::new());
    while received.len() < bytes.len() {
        match buffer.fill_from(ours.as_fd(), 50_000) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                await_ready(&ours, Interest::READABLE);
                continue;
            }
        }
        let some = buffer.len() - buffer.len() / 3;
        received.extend(buffer.next(some).unwrap());
        if buffer.len() < 3 {
            received.extend(buffer.read_vec(buffer.len()).unwrap());
        }
    }
    received.extend(buffer.read_vec(buffer.len()).unwrap());
    writer.join().unwrap();
    assert!(received == bytes);
}

#[test]
fn a_receive_is_limited_to_one_block() {
    in_own_pool(|pool| {
        let (ours, mut theirs) = pair();
        theirs.write_all(&pattern(100_000)).unwrap();
        let mut buffer = LinkBuffer::new();
        let mut total = 0;
        while total < 100_000 {
            total += buffer.fill_from(ours.as_fd(), usize::MAX).unwrap();
        }
        assert_eq!(contents(&buffer), pattern(100_000));
        assert_eq!(pool.stats().in_use, 2 * BLOCK);
    });
}

#[test]
fn received_bytes_precede_an_open_reservation() {
    let (ours, mut theirs) = pair();
    theirs.write_all(b"def").unwrap();
    let mut buffer = put(b"abc");
    let hole = buffer.reserve(1).unwrap();
    assert_eq!(buffer.fill_from(ours.as_fd(), 100).unwrap(), 3);
    buffer.put_slice(b"!");
    buffer.get_mut(&hole).unwrap()[0] = b'g';
    assert_eq!(contents(&buffer), b"abcdef");
    buffer.commit_all();
    assert_eq!(contents(&buffer), b"abcdefg!");
}

#[test]
fn received_bytes_are_forwarded_without_a_copy() {
    let (ours, mut theirs) = pair();
    theirs.write_all(&pattern(10_000)).unwrap();
    let mut input = LinkBuffer::new();
    input.fill_from(ours.as_fd(), usize::MAX).unwrap();
    let there = places(&input);
    let mut output = LinkBuffer::new();
    output.append(input.split_to(10_000).unwrap());
    assert_eq!(places(&output), there);
    assert_eq!(output.drain_to(ours.as_fd()).unwrap(), 10_000);
    assert_eq!(read_to(&mut theirs, 10_000), pattern(10_000));
}
