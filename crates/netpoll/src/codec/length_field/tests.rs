// SPDX-License-Identifier: MIT OR Apache-2.0
//! Length fields: layouts, limits, and frames that arrive in pieces.

use super::*;
use crate::codec::{encode_error, frame_too_large, rejected_field};

fn orders(width: usize) -> [LengthField; 2] {
    let big = LengthField::new().width(width);
    [big, big.little_endian()]
}

/// Returns `number` as the codec's length field.
fn field(codec: &LengthField, number: u64) -> Vec<u8> {
    let mut bytes = number.to_be_bytes()[MAX_WIDTH - codec.width..].to_vec();
    if codec.order == ByteOrder::Little {
        bytes.reverse();
    }
    bytes
}

/// Returns `bytes` in two segments, split before byte `at`.
fn split(bytes: &[u8], at: usize) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    buffer.push(bytes[..at].to_vec().into());
    buffer.push(bytes[at..].to_vec().into());
    buffer
}

#[test]
fn every_width_and_byte_order_round_trips_at_any_split() {
    let adjusted = |width: usize| [0, -(width as i64), -(width as i64) - 3, 4];
    for codec in (1..=MAX_WIDTH).flat_map(orders) {
        for (offset, adjustment) in [0, 1, 3, 9]
            .into_iter()
            .flat_map(|offset| adjusted(codec.width).map(|adjustment| (offset, adjustment)))
        {
            let codec = codec.offset(offset).adjustment(adjustment);
            let (header, body) = (&b"headers.."[..offset], b"a body");
            let number = (body.len() as i64 - adjustment) as u64;
            let stream = [header, &field(&codec, number), body, b"more"].concat();
            let whole = offset + codec.width + body.len();
            for at in 0..=stream.len() {
                let mut input = split(&stream, at);
                assert_eq!(codec.measure(&input).unwrap(), Need::Frame(whole));
                let frame = codec.decode(input.split_to(whole).unwrap()).unwrap();
                assert_eq!(input.next(4).unwrap(), b"more");
                let mut output = LinkBuffer::from(b"before".to_vec());
                codec.encode(frame, &mut output).unwrap();
                output.skip(6).unwrap();
                assert_eq!(output.peek(whole).unwrap(), &stream[..whole]);
                let mut frame = codec.decode(output).unwrap();
                let both = [header, body].concat();
                assert_eq!(frame.len(), both.len());
                assert_eq!(frame.next(both.len()).unwrap(), both);
            }
        }
    }
}

#[test]
fn partial_frame_reports_the_known_length() {
    for codec in (1..=MAX_WIDTH).flat_map(orders) {
        let codec = codec.offset(2);
        let head = 2 + codec.width;
        let stream = [b"ab", &field(&codec, 5)[..], b"12345"].concat();
        for have in 0..stream.len() {
            let need = Need::More(if have < head { head } else { head + 5 });
            for at in 0..=have {
                let input = split(&stream[..have], at);
                assert_eq!(codec.measure(&input).unwrap(), need, "{have} split at {at}");
            }
        }
    }
}

#[test]
fn maximum_is_inclusive() {
    let codec = LengthField::new().offset(1).maximum(10);
    let stream = |number: u32| [b"h", &number.to_be_bytes()[..]].concat();
    let fits = codec.measure(&stream(5).into()).unwrap();
    assert_eq!(fits, Need::More(10));
    let error = codec.measure(&stream(6).into()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(frame_too_large(&error), (10, 11));
    let mut output = LinkBuffer::new();
    codec.encode(vec![0; 6].into(), &mut output).unwrap();
    assert_eq!(output.len(), 10);
    let error = codec.encode(vec![0; 7].into(), &mut output).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let expected = EncodeError::TooLong {
        whole: 11,
        maximum: 10,
    };
    assert_eq!(encode_error(&error), expected);
    assert_eq!(output.len(), 10, "nothing was appended");
}

#[test]
fn no_length_overflows() {
    for codec in orders(8) {
        for adjustment in [i64::MIN, -1, 0, 1, i64::MAX] {
            let codec = codec.adjustment(adjustment).maximum(usize::MAX);
            for number in [u64::MAX, u64::MAX - 8, 1 << 63] {
                let input = LinkBuffer::from(field(&codec, number));
                let body = i128::from(number) + i128::from(adjustment);
                match usize::try_from(body + MAX_WIDTH as i128) {
                    Ok(MAX_WIDTH) => {
                        assert_eq!(codec.measure(&input).unwrap(), Need::Frame(MAX_WIDTH));
                    }
                    Ok(whole) => {
                        assert_eq!(codec.measure(&input).unwrap(), Need::More(whole));
                    }
                    Err(_beyond) => {
                        let error = codec.measure(&input).unwrap_err();
                        assert_eq!(frame_too_large(&error).1, usize::MAX);
                    }
                }
            }
        }
    }
}

#[test]
fn negative_length_is_rejected() {
    let codec = LengthField::new().adjustment(-4);
    let needs = |number: u32| codec.measure(&number.to_be_bytes().to_vec().into());
    assert_eq!(needs(4).unwrap(), Need::Frame(4));
    for number in 0..4 {
        let error = needs(number).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let Some(&ErrorKind::NegativeLength { value, adjustment }) = ErrorKind::payload(&error)
        else {
            panic!("{error:?}");
        };
        assert_eq!((value, adjustment), (number.into(), -4));
    }
}

#[test]
fn length_overflow_is_rejected_and_adds_nothing() {
    let overflow = |value, largest| EncodeError::LengthOverflow { value, largest };
    let cases = [
        (LengthField::new().width(1), 256, overflow(256, 255)),
        (
            LengthField::new().adjustment(4),
            3,
            overflow(-1, 0xffff_ffff),
        ),
        (
            LengthField::new().width(1).adjustment(-2),
            254,
            overflow(256, 255),
        ),
        (
            LengthField::new().offset(3),
            2,
            EncodeError::TooShort { have: 2, offset: 3 },
        ),
    ];
    for (codec, length, expected) in cases {
        let mut output = LinkBuffer::from(b"before".to_vec());
        let frame = LinkBuffer::from(vec![0; length]);
        let error = codec.encode(frame, &mut output).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(encode_error(&error), expected);
        assert_eq!(output.len(), 6);
    }
}

#[test]
fn uncommitted_bytes_are_part_of_the_frame() {
    let codec = LengthField::new().width(1);
    let mut frame = LinkBuffer::new();
    frame.put_str("ab");
    frame.reserve(1).unwrap();
    frame.put_str("c");
    let mut output = LinkBuffer::new();
    codec.encode(frame, &mut output).unwrap();
    assert_eq!(output.next(5).unwrap(), b"\x04ab\0c");
}

#[test]
fn empty_frame_holds_no_memory() {
    let pool = netpoll_buffer::Pool::default();
    let own = pool.clone();
    let thread = std::thread::spawn(move || {
        own.enter();
        let codec = LengthField::new();
        let mut bytes = LinkBuffer::new();
        bytes.put_u32(0);
        bytes.return_tail();
        codec.decode(bytes).unwrap()
    });
    let frame = thread.join().unwrap();
    assert_eq!(frame.len(), 0);
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn invalid_options_are_rejected_by_field() {
    let codec = LengthField::new();
    let cases = [
        (codec.width(0), "width"),
        (codec.width(9), "width"),
        (codec.width(usize::MAX), "width"),
        (codec.maximum(3), "offset"),
        (codec.offset((4 << 20) - 3), "offset"),
        (codec.offset(usize::MAX), "offset"),
        (codec.width(1).adjustment(-256), "adjustment"),
        (codec.adjustment((4 << 20) - 3), "adjustment"),
        (codec.adjustment(i64::MAX), "adjustment"),
    ];
    for (codec, field) in cases {
        assert_eq!(rejected_field(&codec, codec.check()), field, "{codec:?}");
    }
    for codec in [
        codec.maximum(4),
        codec.offset((4 << 20) - 4),
        codec.width(1).adjustment(-255),
        codec.adjustment((4 << 20) - 4),
        codec.width(8).adjustment(i64::MIN),
    ] {
        codec.check().unwrap();
    }
}
