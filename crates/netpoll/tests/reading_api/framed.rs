// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection as a stream of frames, and a sink for them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use netpoll::buffer::LinkBuffer;
use netpoll::codec::{Codec, Delimiter, LengthField, Need};
use netpoll::connection::Framed;
use netpoll::error::ErrorKind as Kind;
use netpoll::options::ConnOptions;
use netpoll::{Dialer, ErrorExt};

use crate::{block_on, eventually, pair, pair_with, poll_once};

/// Numbers from 0 to 9 in decimal, each with a full stop, so that some frames do not decode.
struct Digits;

impl Codec for Digits {
    type Frame = u8;

    fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
        match *input.first_bytes(2) {
            [_, b'.'] => Ok(Need::Frame(2)),
            [_, _] => Err(ErrorKind::InvalidData.into()),
            _ => Ok(Need::More(2)),
        }
    }

    fn decode(&self, mut bytes: LinkBuffer) -> io::Result<u8> {
        let digit = bytes.read_u8()?;
        match digit.is_ascii_digit() {
            true => Ok(digit - b'0'),
            false => Err(ErrorKind::InvalidInput.into()),
        }
    }

    fn encode(&self, frame: u8, output: &mut LinkBuffer) -> io::Result<()> {
        if frame > 9 {
            return Err(ErrorKind::InvalidInput.into());
        }
        output.put_slice(&[b'0' + frame, b'.']);
        Ok(())
    }
}

fn lines() -> Delimiter {
    Delimiter::new(b"\n")
}

/// More bytes than the kernel takes from a sender whose peer does not read.
const LARGE: usize = 16 << 20;

/// Returns a connection for frames of [`LARGE`] bytes, and its peer.
fn large_pair() -> (Framed<LengthField>, TcpStream) {
    let options = ConnOptions::default().max_frame(2 * LARGE);
    let (conn, peer) = pair_with(&Dialer::new().options(options));
    (conn.framed(LengthField::new().maximum(2 * LARGE)), peer)
}

/// Returns the bytes of the next item, or its error.
fn item<C: Codec<Frame = LinkBuffer>>(frames: &mut Framed<C>) -> Option<io::Result<Vec<u8>>> {
    let frame = block_on(frames.next())?;
    Some(frame.and_then(|mut frame| frame.read_vec(frame.len())))
}

/// The kind of an error that this library reports.
fn kind_of(error: &io::Error) -> Kind {
    error.netpoll_kind().expect("an error of this library")
}

/// Polls the stream once.
fn poll_stream<S: Stream + Unpin>(stream: &mut S, waker: &Waker) -> Poll<Option<S::Item>> {
    Pin::new(stream).poll_next(&mut Context::from_waker(waker))
}

/// A waker that counts its owners, by the count of its `Arc`, and its calls.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn frames_that_arrive_byte_by_byte_are_whole() {
    let (conn, mut peer) = pair();
    let mut frames = conn.framed(LengthField::new().width(2));
    {
        let mut next = pin!(frames.next());
        for byte in b"\0\x05hello" {
            assert!(poll_once(next.as_mut()).is_pending());
            peer.write_all(&[*byte]).unwrap();
        }
        let mut frame = block_on(next).unwrap().unwrap();
        assert_eq!(frame.next(5).unwrap(), b"hello");
    }
    peer.write_all(b"\0\x01a\0\x01b").unwrap();
    assert_eq!(item(&mut frames).unwrap().unwrap(), b"a");
    assert_eq!(item(&mut frames).unwrap().unwrap(), b"b");
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(item(&mut frames).is_none());
    assert!(item(&mut frames).is_none());
}

#[test]
fn dropped_next_loses_no_byte_and_leaves_no_waker() {
    let (conn, mut peer) = pair();
    let mut frames = conn.framed(lines());
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    for byte in b"hel" {
        let mut next = Box::pin(frames.next());
        let polled = next.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        peer.write_all(&[*byte]).unwrap();
        drop(next);
        // The poller may have taken the waker a moment before.
        eventually("only the test and its waker", || {
            Arc::strong_count(&counter) == 2
        });
    }
    peer.write_all(b"lo\n").unwrap();
    assert_eq!(item(&mut frames).unwrap().unwrap(), b"hello");
}

#[test]
fn stream_keeps_its_waker_between_polls_and_is_woken_once_a_frame_is_whole() {
    let (conn, mut peer) = pair();
    let mut frames = conn.framed(Digits);
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    assert!(poll_stream(&mut frames, &waker).is_pending());
    assert_eq!(Arc::strong_count(&counter), 3, "the stream has the waker");
    peer.write_all(b"7.").unwrap();
    eventually("a wake", || counter.0.load(Ordering::SeqCst) == 1);
    let Poll::Ready(Some(Ok(7))) = poll_stream(&mut frames, &waker) else {
        panic!("the frame has arrived");
    };
    assert!(poll_stream(&mut frames, &waker).is_pending());
    let conn = frames.into_inner();
    assert_eq!(Arc::strong_count(&counter), 2, "the wait has ended");
    drop(conn);
}

#[test]
fn end_in_the_middle_of_a_frame_is_an_error_and_then_the_end() {
    let (conn, mut peer) = pair();
    let mut frames = conn.framed(lines());
    peer.write_all(b"one\ntw").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(item(&mut frames).unwrap().unwrap(), b"one");
    assert!(matches!(
        kind_of(&item(&mut frames).unwrap().unwrap_err()),
        Kind::UnexpectedEof { .. }
    ));
    assert!(item(&mut frames).is_none());
    let mut conn = frames.into_inner();
    assert_eq!(block_on(conn.reader().next(2)).unwrap(), b"tw");
}

#[test]
fn frame_that_does_not_decode_is_skipped_and_malformed_input_ends_the_stream() {
    let (conn, mut peer) = pair();
    let mut frames = conn.framed(Digits);
    peer.write_all(b"1.x.2.34").unwrap();
    assert_eq!(block_on(frames.next()).unwrap().unwrap(), 1);
    let error = block_on(frames.next()).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(block_on(frames.next()).unwrap().unwrap(), 2);
    let error = block_on(frames.next()).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(block_on(frames.next()).is_none());
}

#[test]
fn stream_goes_on_after_a_read_timeout() {
    let options = ConnOptions::default().read_timeout(Duration::from_millis(20));
    let (conn, mut peer) = pair_with(&Dialer::new().options(options));
    let mut frames = conn.framed(lines());
    peer.write_all(b"on").unwrap();
    assert!(matches!(
        kind_of(&item(&mut frames).unwrap().unwrap_err()),
        Kind::TimedOut { .. }
    ));
    let timeouts = frames.get_ref().timeouts().read(None);
    frames.get_ref().set_timeouts(timeouts).unwrap();
    peer.write_all(b"e\n").unwrap();
    assert_eq!(item(&mut frames).unwrap().unwrap(), b"one");
}

#[test]
fn frame_above_max_frame_is_rejected() {
    let options = ConnOptions::default().max_frame(100);
    let (conn, mut peer) = pair_with(&Dialer::new().options(options));
    let mut frames = conn.framed(LengthField::new());
    peer.write_all(&97u32.to_be_bytes()).unwrap();
    assert!(matches!(
        kind_of(&item(&mut frames).unwrap().unwrap_err()),
        Kind::FrameTooLarge { .. }
    ));
    assert!(item(&mut frames).is_none());
}

#[test]
fn send_returns_when_the_frame_is_sent_and_feed_before() {
    let (mut frames, mut peer) = large_pair();
    let large = LinkBuffer::from(vec![7; LARGE]);
    assert!(matches!(
        poll_once(pin!(frames.feed(large))),
        Poll::Ready(Ok(()))
    ));
    let last = LinkBuffer::from(b"last".to_vec());
    let reading = {
        let mut send = pin!(frames.send(last));
        assert!(poll_once(send.as_mut()).is_pending());
        let reading = std::thread::spawn(move || {
            let mut received = vec![0; 4 + LARGE + 4 + 4];
            peer.read_exact(&mut received).map(|()| received)
        });
        block_on(send).unwrap();
        reading
    };
    assert_eq!(frames.get_mut().writer().unsent(), 0);
    assert!(reading.join().unwrap().unwrap().ends_with(b"last"));
}

#[test]
fn frame_that_does_not_encode_puts_nothing() {
    let (conn, mut peer) = pair();
    let mut frames = conn.framed(Digits);
    for rejected in [block_on(frames.send(10)), block_on(frames.feed(10))] {
        assert_eq!(rejected.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    block_on(frames.feed(4)).unwrap();
    block_on(frames.flush()).unwrap();
    let mut received = [0; 2];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"4.");
}

#[test]
fn dropped_send_sends_the_whole_frame_and_dropped_feed_none_of_it() {
    let (mut frames, mut peer) = large_pair();
    let large = LinkBuffer::from(vec![7; LARGE]);
    assert!(poll_once(pin!(frames.send(large))).is_pending());
    // More than `write_high` is unsent, so this one waits.
    let second = LinkBuffer::from(b"second".to_vec());
    assert!(poll_once(pin!(frames.feed(second))).is_pending());
    // A send puts at once, also behind unsent output.
    let sent = LinkBuffer::from(b"sent".to_vec());
    assert!(poll_once(pin!(frames.send(sent))).is_pending());
    let reading = std::thread::spawn(move || {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).map(|_| received)
    });
    block_on(frames.send(LinkBuffer::from(b"third".to_vec()))).unwrap();
    frames.into_inner().close();
    let received = reading.join().unwrap().unwrap();
    assert_eq!(received.len(), 4 + LARGE + 4 + 4 + 4 + 5);
    assert!(received.ends_with(b"\0\0\0\x04sent\0\0\0\x05third"));
}

#[test]
fn bytes_consumed_beside_the_frames_are_not_part_of_the_next() {
    let (conn, mut peer) = pair();
    let mut frames = conn.framed(lines());
    peer.write_all(b"one").unwrap();
    eventually("the input", || {
        assert!(poll_once(pin!(frames.next())).is_pending());
        frames.get_mut().reader().available() == 3
    });
    block_on(frames.get_mut().reader().skip(2)).unwrap();
    peer.write_all(b"\n").unwrap();
    assert_eq!(item(&mut frames).unwrap().unwrap(), b"e");
}
