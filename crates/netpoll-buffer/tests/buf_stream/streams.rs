// SPDX-License-Identifier: MIT OR Apache-2.0
//! Over real files and sockets.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use netpoll_buffer::{BufStream, NotEnoughData};

use crate::support::{reason, rest, text};

const LIMIT: Duration = Duration::from_secs(60);

/// A file that is removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("netpoll-buf-stream-{}-{name}", process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn create(&self) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        options.open(&self.0).expect("a file")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

/// A pair of sockets; each end waits for at most [`LIMIT`].
fn pair() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().expect("a pair of sockets");
    for end in [&one, &other] {
        end.set_read_timeout(Some(LIMIT)).expect("a limit");
        end.set_write_timeout(Some(LIMIT)).expect("a limit");
    }
    (one, other)
}

fn frame(n: usize) -> Vec<u8> {
    text((n * 7919) % 40_000)
}

#[test]
fn frames_written_to_a_file_are_read_from_it() {
    let scratch = Scratch::new("frames");
    let mut stream = BufStream::new(scratch.create());
    for n in 0..50 {
        let out = stream.writer();
        let length = out.reserve(4).unwrap();
        out.put_slice(&frame(n));
        let body = out.uncommitted_len() - 4;
        out.get_mut(&length)
            .unwrap()
            .copy_from_slice(&(body as u32).to_be_bytes());
        out.commit_all();
    }
    stream.flush().unwrap();
    stream.get_mut().rewind().unwrap();
    let mut reader = stream.reader();
    for n in 0..50 {
        let length = reader.read_u32().unwrap() as usize;
        assert!(reader.next(length).unwrap() == frame(n));
    }
    assert!(reader.chunk().unwrap().is_none());
}

#[test]
fn bytes_appended_to_a_file_are_read_by_the_next_call() {
    let scratch = Scratch::new("grows");
    let mut file = scratch.create();
    let mut stream = BufStream::new(File::open(&scratch.0).unwrap());
    file.write_all(b"half a ").unwrap();
    let short: NotEnoughData = reason(stream.reader().next(10), ErrorKind::UnexpectedEof);
    assert_eq!(short, NotEnoughData::new(7, 10));
    file.write_all(b"line").unwrap();
    assert_eq!(stream.reader().next(11).unwrap(), b"half a line");
}

#[test]
fn both_ends_of_a_pair_read_what_the_other_writes() {
    let (ours, theirs) = pair();
    let echo = thread::spawn(move || {
        let mut stream = BufStream::new(theirs);
        loop {
            let (mut reader, out) = stream.split();
            let Ok(length) = reader.read_u32() else { break };
            let body = reader.next(length as usize).expect("a body");
            out.put_u32(length);
            out.put_slice(body);
            stream.flush().expect("taken");
        }
        stream.into_parts()
    });
    let mut stream = BufStream::new(ours);
    for n in 0..50 {
        let (reader, out) = stream.split();
        out.put_u32(frame(n).len() as u32);
        out.push(Bytes::from(frame(n)));
        assert_eq!(reader.available(), 0);
        stream.flush().unwrap();
        let mut reader = stream.reader();
        let length = reader.read_u32().unwrap() as usize;
        assert!(reader.slice(length).unwrap() == frame(n));
    }
    stream.get_ref().shutdown(Shutdown::Write).unwrap();
    let (theirs, unread, unsent) = echo.join().unwrap();
    assert!(unread.is_empty() && unsent.is_empty());
    drop(theirs);
    assert_eq!(rest(&mut stream.reader()), b"");
}

#[test]
fn more_than_a_socket_holds_is_written_while_the_peer_reads() {
    let bytes = text(4 << 20);
    let (ours, mut theirs) = pair();
    let sent = bytes.clone();
    let writing = thread::spawn(move || {
        let mut stream = BufStream::new(ours);
        for piece in sent.chunks(999) {
            stream.writer().push(Bytes::copy_from_slice(piece));
        }
        stream.flush()
    });
    let mut received = Vec::new();
    theirs.read_to_end(&mut received).unwrap();
    writing.join().unwrap().unwrap();
    assert!(received == bytes);
}

#[test]
fn a_non_blocking_socket_is_read_again_by_the_next_call() {
    let (ours, theirs) = pair();
    ours.set_nonblocking(true).unwrap();
    let bytes = text(4 << 20);
    let mut stream = BufStream::new(ours);
    assert_eq!(
        stream.reader().next(1).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );

    stream.writer().put_slice(&bytes);
    let mut peer = BufStream::new(theirs);
    let mut received = Vec::new();
    while let Err(error) = stream.flush() {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let chunk = peer.reader().chunk().unwrap().unwrap();
        received.extend(Vec::from(Bytes::from(chunk)));
    }
    let missing = bytes.len() - received.len();
    received.extend(peer.reader().read_vec(missing).unwrap());
    assert!(received == bytes);

    for (piece, there) in bytes[..100].chunks(10).zip((10..).step_by(10)) {
        peer.writer().put_slice(piece);
        peer.flush().unwrap();
        let mut reader = stream.reader();
        if there < 100 {
            assert_eq!(reader.next(100).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(reader.available(), there);
        } else {
            assert_eq!(reader.next(100).unwrap(), &bytes[..100]);
        }
    }
}

#[test]
fn a_closed_peer_is_the_end_of_input_and_a_broken_pipe() {
    let (ours, theirs) = pair();
    drop(theirs);
    let mut stream = BufStream::new(ours);
    assert!(stream.reader().chunk().unwrap().is_none());
    stream.writer().put_str("to a closed peer");
    assert_eq!(stream.flush().unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(stream.writer().len(), 16);
}

#[test]
fn a_stream_may_be_used_on_another_thread() {
    let (ours, mut theirs) = pair();
    theirs.write_all(b"here, there").unwrap();
    let mut stream = BufStream::new(ours);
    assert_eq!(stream.reader().next(6).unwrap(), b"here, ");
    let there = thread::spawn(move || stream.reader().read_string(5).unwrap());
    assert_eq!(there.join().unwrap(), "there");
}
