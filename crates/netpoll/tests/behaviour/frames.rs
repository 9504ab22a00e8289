// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads and writes of frames, on a connection outside its poller, and between a server and a
//! client.

use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Mutex;
use std::task::Poll;
use std::time::{Duration, Instant};

use netpoll::buffer::LinkBuffer;
use netpoll::codec::{Codec, Delimiter, FixedSize, LengthField, Need};
use netpoll::error::{ErrorExt, ErrorKind as Kind, Limit};
use netpoll::options::ConnOptions;
use netpoll::{CloseReason, Connection, Dialer};

use crate::support::{Peer, Server, block_on, bytes, eventually, pair, pair_with, poll_once};

/// Returns the bytes of the next frame.
fn next<C: Codec<Frame = LinkBuffer>>(conn: &mut Connection, codec: &C) -> io::Result<Vec<u8>> {
    let mut frame = block_on(conn.reader().frame(codec))?.expect("no end");
    frame.read_vec(frame.len())
}

fn pair_with_max_frame(max_frame: usize) -> (Connection, Peer) {
    let options = ConnOptions::default().max_frame(max_frame);
    pair_with(&Dialer::new().options(options))
}

/// Sends two frames byte by byte. Each call for a frame is dropped before the next byte arrives.
fn check_byte_by_byte<C: Codec<Frame = LinkBuffer>>(codec: &C, wire: &[u8], frame: &[u8]) {
    let (mut conn, mut peer) = pair();
    for _ in 0..2 {
        for (at, byte) in wire.iter().enumerate() {
            assert!(
                poll_once(pin!(conn.reader().frame(codec))).is_pending(),
                "a frame in {at} bytes"
            );
            peer.send(&[*byte]);
            block_on(conn.reader().wait(at + 1)).expect("the byte");
        }
        let Poll::Ready(whole) = poll_once(pin!(conn.reader().frame(codec))) else {
            panic!("waits for more than the frame");
        };
        let mut whole = whole.expect("a frame").expect("no end");
        assert_eq!(whole.read_vec(whole.len()).expect("the whole frame"), frame);
    }
    peer.finish();
    let end = block_on(conn.reader().frame(codec)).expect("an end");
    assert!(end.is_none());
}

#[test]
fn a_frame_that_arrives_byte_by_byte_survives_dropped_calls() {
    let length = LengthField::new().offset(2).width(3).little_endian();
    check_byte_by_byte(&length, b"ab\x04\0\0body", b"abbody");
    check_byte_by_byte(&LengthField::new(), b"\0\0\0\0", b"");
    check_byte_by_byte(&Delimiter::new(b"\r\n"), b"a\rb\n\r\r\n", b"a\rb\n\r");
    check_byte_by_byte(&FixedSize::new(5), b"fixed", b"fixed");
}

#[test]
fn one_call_waits_for_every_part_of_its_frame() {
    let (mut conn, mut peer) = pair();
    let codec = LengthField::new().width(2);
    let mut frame = {
        let mut reader = conn.reader();
        let mut call = pin!(reader.frame(&codec));
        for part in [&b"\0"[..], b"\x06a", b"bc", b"def\0\x01"] {
            assert!(poll_once(call.as_mut()).is_pending(), "before {part:?}");
            peer.send(part);
        }
        block_on(call).unwrap().expect("no end")
    };
    assert_eq!(frame.read_vec(6).unwrap(), b"abcdef");
    assert_eq!(conn.reader().available(), 2, "of the next frame");
}

#[test]
fn frames_that_arrive_together_are_read_one_by_one() {
    let (mut conn, mut peer) = pair();
    peer.send(b"one\ntwo\n\nthree");
    let codec = Delimiter::new(b"\n");
    for expected in [&b"one"[..], b"two", b""] {
        assert_eq!(next(&mut conn, &codec).unwrap(), expected);
    }
    assert_eq!(block_on(conn.reader().next(5)).unwrap(), b"three");
}

#[test]
fn an_end_between_frames_is_none_each_time() {
    let (mut conn, mut peer) = pair();
    let codec = LengthField::new().width(1);
    peer.send(b"\x02ab");
    peer.finish();
    assert_eq!(next(&mut conn, &codec).unwrap(), b"ab");
    for _ in 0..2 {
        assert!(block_on(conn.reader().frame(&codec)).unwrap().is_none());
    }
}

/// Checks the error when the stream of the peer ends after `part`, which is no frame.
fn check_end_after<C: Codec>(codec: &C, part: &[u8], need: usize) {
    let (mut conn, mut peer) = pair();
    peer.send(part);
    peer.finish();
    for _ in 0..2 {
        let Err(error) = block_on(conn.reader().frame(codec)) else {
            panic!("{part:?} is no frame and no end");
        };
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        let wanted = (part.len(), need);
        let Some(Kind::UnexpectedEof { have, need, .. }) = error.netpoll_kind() else {
            panic!("{error:?}");
        };
        assert_eq!((have, need), wanted);
    }
    let left = block_on(conn.reader().read_vec(part.len()));
    assert_eq!(left.expect("the received bytes"), part);
}

#[test]
fn an_end_inside_a_frame_is_an_error_and_its_bytes_stay() {
    check_end_after(&LengthField::new(), b"\0\0\0", 4);
    check_end_after(&LengthField::new(), b"\0\0\0\x08a", 12);
    check_end_after(&Delimiter::new(b"\r\n"), b"\r", 2);
    check_end_after(&Delimiter::new(b"\r\n"), b"abc\r", 5);
    check_end_after(&FixedSize::new(3), b"ab", 3);
}

/// Checks that `sent` is rejected at once for its size, and stays in the input.
fn check_rejected<C: Codec>(
    pair: (Connection, Peer),
    codec: &C,
    sent: &[u8],
    large: (usize, usize),
) {
    let (mut conn, mut peer) = pair;
    peer.send(sent);
    eventually("all that was sent", || {
        conn.reader().available() == sent.len()
    });
    for _ in 0..2 {
        let Poll::Ready(Err(error)) = poll_once(pin!(conn.reader().frame(codec))) else {
            panic!("not rejected at once");
        };
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let Some(Kind::FrameTooLarge { limit, size, .. }) = error.netpoll_kind() else {
            panic!("{error:?}");
        };
        assert_eq!((limit, size), large);
    }
    assert_eq!(conn.reader().available(), sent.len());
}

#[test]
fn a_frame_above_the_limit_of_codec_or_connection_is_rejected() {
    let length = LengthField::new().maximum(99);
    check_rejected(pair(), &length, b"\0\0\0\x60", (99, 100));
    let beyond = [255; 8];
    let widest = LengthField::new().width(8);
    let large = (4 << 20, usize::MAX);
    check_rejected(pair(), &widest, &beyond, large);

    let large = (100, 101);
    let length = LengthField::new();
    check_rejected(pair_with_max_frame(100), &length, b"\0\0\0\x61", large);
    check_rejected(pair_with_max_frame(100), &FixedSize::new(101), b"a", large);
    let lines = Delimiter::new(b"\n");
    check_rejected(pair_with_max_frame(100), &lines, &[b'.'; 100], large);
    // The whole line has arrived.
    let line = [&[b'.'; 100][..], b"\n"].concat();
    check_rejected(pair_with_max_frame(100), &lines, &line, large);
    check_rejected(pair(), &lines.maximum(100), &line, large);
}

#[test]
fn a_handler_that_returns_too_large_ends_its_connection_with_the_frame_limit() {
    let codec = LengthField::new().maximum(100);
    let server = Server::start(
        crate::support::builder().pollers(1),
        handler!([codec], |conn| {
            conn.reader().frame(&codec).await?;
            Ok(())
        }),
    );
    let mut peer = server.connect();
    peer.send(&[1, 0, 0, 0]);
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::Limit(Limit::Frame)));
}

/// A codec that measures every input the same, and needs one byte of an empty input.
struct FixedNeed(Need);

impl Codec for FixedNeed {
    type Frame = LinkBuffer;

    fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
        Ok(if input.is_empty() {
            Need::More(1)
        } else {
            self.0
        })
    }

    /// Rejects frames that begin with an exclamation mark.
    fn decode(&self, mut bytes: LinkBuffer) -> io::Result<LinkBuffer> {
        match bytes.peek(1)? {
            b"!" => Err(io::Error::other("an exclamation mark")),
            _ => Ok(bytes),
        }
    }

    /// Appends the frame, and then fails.
    fn encode(&self, frame: LinkBuffer, output: &mut LinkBuffer) -> io::Result<()> {
        output.append(frame);
        Err(io::Error::other("requested by the test"))
    }
}

#[test]
fn a_codec_that_would_loop_forever_is_rejected_with_invalid_need() {
    for need in [Need::Frame(0), Need::Frame(4), Need::More(0), Need::More(3)] {
        let (mut conn, mut peer) = pair();
        peer.send(b"abc");
        block_on(conn.reader().wait(3)).unwrap();
        let error = block_on(conn.reader().frame(&FixedNeed(need))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let wanted = (3, need);
        let Some(Kind::InvalidNeed { have, need, .. }) = error.netpoll_kind() else {
            panic!("{error:?}");
        };
        assert_eq!((have, need), wanted);
        assert_eq!(block_on(conn.reader().next(3)).unwrap(), b"abc");
    }
}

/// A codec of frames of six bytes, which asks for one byte at a time.
#[derive(Default)]
struct Searching {
    /// The start of each search, and the length of its input.
    searches: Mutex<Vec<(usize, usize)>>,
}

impl Codec for Searching {
    type Frame = LinkBuffer;

    fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
        self.measure_from(input, 0)
    }

    fn measure_from(&self, input: &LinkBuffer, seen: usize) -> io::Result<Need> {
        let mut searches = self.searches.lock().expect("no panic under it");
        searches.push((seen, input.len()));
        let have = input.len();
        Ok(if have < 6 {
            Need::More(have + 1)
        } else {
            Need::Frame(6)
        })
    }

    fn decode(&self, bytes: LinkBuffer) -> io::Result<LinkBuffer> {
        Ok(bytes)
    }

    fn encode(&self, frame: LinkBuffer, output: &mut LinkBuffer) -> io::Result<()> {
        output.append(frame);
        Ok(())
    }
}

#[test]
fn each_search_of_a_call_continues_where_the_last_one_ended() {
    let (mut conn, mut peer) = pair();
    let codec = Searching::default();
    let searched = || codec.searches.lock().unwrap().len();
    let frame = {
        let mut reader = conn.reader();
        let mut call = pin!(reader.frame(&codec));
        for part in [&b"ab"[..], b"cd"] {
            let before = searched();
            assert!(poll_once(call.as_mut()).is_pending());
            peer.send(part);
            eventually("a search", || {
                assert!(poll_once(call.as_mut()).is_pending());
                searched() > before
            });
        }
        peer.send(b"efgh");
        block_on(call).unwrap().expect("no end")
    };
    assert_eq!(frame.len(), 6);
    let searches = codec.searches.into_inner().unwrap();
    assert_eq!(searches[0], (0, 0), "the first search starts at 0");
    for pair in searches.windows(2) {
        let (seen, had) = (pair[1].0, pair[0].1);
        assert_eq!(seen, had, "{searches:?}");
    }
}

#[test]
fn a_codec_can_be_chosen_at_run_time() {
    let (mut conn, mut peer) = pair();
    let formats: [Box<dyn Codec<Frame = LinkBuffer>>; 2] =
        [Box::new(FixedSize::new(2)), Box::new(Delimiter::new(b";"))];
    peer.send(b"abcde;");
    for (format, expected) in formats.iter().zip([&b"ab"[..], b"cde"]) {
        let frame = block_on(conn.reader().frame(&**format)).unwrap();
        let mut frame = frame.expect("no end");
        assert_eq!(frame.peek(frame.len()).unwrap(), expected);
        conn.writer().frame(&**format, frame).unwrap();
    }
    block_on(conn.writer().flush()).unwrap();
    assert_eq!(peer.receive(6), b"abcde;");
}

#[test]
fn a_frame_that_fails_to_decode_is_consumed_and_the_next_is_read() {
    let (mut conn, mut peer) = pair();
    peer.send(b"!badgood");
    let codec = FixedNeed(Need::Frame(4));
    block_on(conn.reader().wait(8)).unwrap();
    assert_eq!(
        next(&mut conn, &codec).unwrap_err().kind(),
        ErrorKind::Other
    );
    assert_eq!(next(&mut conn, &codec).unwrap(), b"good");
}

#[test]
fn a_frame_that_fails_to_encode_is_not_sent_even_in_part() {
    let (mut conn, mut peer) = pair();
    let mut writer = conn.writer();
    let part = || LinkBuffer::from(b"part".to_vec());
    writer.put_str("before");
    writer
        .frame(&FixedNeed(Need::Frame(1)), part())
        .unwrap_err();
    writer.frame(&FixedSize::new(5), part()).unwrap_err();
    writer.frame(&FixedSize::new(4), part()).unwrap();
    block_on(writer.flush()).unwrap();
    drop(conn);
    assert_eq!(peer.receive_all().unwrap(), b"beforepart");
}

#[test]
fn one_codec_serves_a_server_and_its_clients() {
    let codec = LengthField::new().offset(1).width(8).adjustment(-8);
    let server = Server::start(
        crate::support::builder().pollers(1),
        handler!([codec], |conn| {
            let (mut reader, mut writer) = conn.split();
            if let Some(frame) = reader.frame(&codec).await? {
                writer.frame(&codec, frame)?;
            }
            Ok(())
        }),
    );
    let conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    let (mut reader, mut writer) = conn.into_split();
    let sizes = [1, 2, 100, 4096, 70_000, 1 << 20, 1];
    let sending = std::thread::spawn(move || {
        for size in sizes {
            let frame = LinkBuffer::from(bytes(size, 7));
            writer.frame(&codec, frame).unwrap();
            block_on(writer.flush()).unwrap();
        }
        writer
    });
    for size in sizes {
        let frame = block_on(reader.frame(&codec)).unwrap();
        let mut frame = frame.expect("no end");
        assert_eq!(frame.len(), size);
        assert!(frame.read_vec(size).unwrap() == bytes(size, 7));
    }
    drop(sending.join().unwrap());
}

#[test]
fn a_frame_read_that_times_out_leaves_the_received_part() {
    let (mut conn, mut peer) = pair();
    peer.send(b"par");
    block_on(conn.reader().wait(3)).unwrap();
    let soon = Instant::now() + Duration::from_millis(20);
    let codec = Delimiter::new(b"\n");
    let mut reader = conn.reader().with_deadline(soon);
    let error = block_on(reader.frame(&codec)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(matches!(error.netpoll_kind(), Some(Kind::TimedOut { .. })));
    peer.send(b"t\n");
    assert_eq!(next(&mut conn, &codec).unwrap(), b"part");
}
