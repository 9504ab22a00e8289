// SPDX-License-Identifier: MIT OR Apache-2.0
//! Codecs of any configuration, on a stream of the fuzzer's choice that arrives in pieces. Each
//! result is compared with that of the same format over a flat slice.
//!
//! Each decoded frame is encoded again, which gives the bytes it came from. A frame of the fuzzer's
//! choice is encoded too, and decodes to that frame or is rejected.

pub(crate) mod flat_format;

use std::io;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use netpoll::codec::{Codec, Delimiter, FixedSize, LengthField, Need};
use netpoll::error::{ErrorExt, ErrorKind};
use netpoll_buffer::{LinkBuffer, Tail};

use crate::with_own_pool;
use flat_format::{FlatMeasurement, Format, RejectReason};

/// The contents of the output before any frame is encoded.
const PREFIX: &[u8] = b"before";

#[derive(Debug)]
pub(crate) struct CodecCase {
    pub(crate) format: Format,
    /// The lengths of the pieces, repeated; empty for a single piece.
    pub(crate) cuts: Vec<u8>,
    pub(crate) frame: Vec<u8>,
    pub(crate) stream: Vec<u8>,
}

impl<'a> Arbitrary<'a> for CodecCase {
    fn arbitrary(data: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let format = Format::arbitrary(data)?;
        let mut few = |most| {
            let count = data.int_in_range(0..=most)?.min(data.len());
            data.bytes(count).map(<[u8]>::to_vec)
        };
        let (cuts, frame) = (few(8)?, few(300)?);
        let stream = data.bytes(data.len())?.to_vec();
        Ok(Self {
            format,
            cuts,
            frame,
            stream,
        })
    }
}

impl CodecCase {
    /// Returns the pieces of `bytes`, none of them empty.
    fn pieces<'a>(&self, mut bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut lengths = self.cuts.clone().into_iter().cycle();
        std::iter::from_fn(move || {
            let length = lengths.next().map_or(usize::MAX, usize::from);
            let (piece, behind) = bytes.split_at(length.max(1).min(bytes.len()));
            bytes = behind;
            (!piece.is_empty()).then_some(piece)
        })
    }

    fn buffer(&self, bytes: &[u8]) -> LinkBuffer {
        let mut buffer = LinkBuffer::new();
        self.pieces(bytes).for_each(|piece| add(&mut buffer, piece));
        buffer
    }
}

/// Appends a piece as a segment of its own, of a block or of foreign memory.
fn add(buffer: &mut LinkBuffer, piece: &[u8]) {
    if piece.len().is_multiple_of(2) {
        buffer.push(Bytes::copy_from_slice(piece));
    } else {
        let mut tail = Tail::with_capacity(piece.len());
        tail.put(piece);
        buffer.push_segment(tail.window(0..piece.len()));
    }
}

fn contents(buffer: &LinkBuffer) -> Vec<u8> {
    let segments = buffer.segments();
    segments
        .flat_map(|segment| segment.as_slice().to_vec())
        .collect()
}

type AnyCodec = Box<dyn Codec<Frame = LinkBuffer>>;

/// Returns the codec for `format`, and the result of its own configuration check.
fn codec(format: &Format) -> (AnyCodec, io::Result<()>) {
    match format {
        Format::Length {
            width,
            little,
            offset,
            adjustment,
            maximum,
        } => {
            let codec = LengthField::new().width(*width).offset(*offset);
            let codec = codec.adjustment(*adjustment).maximum(*maximum);
            let codec = if *little {
                codec.little_endian()
            } else {
                codec
            };
            (Box::new(codec), codec.check())
        }
        Format::Delimited { delimiter, maximum } => {
            let codec = Delimiter::new(delimiter).maximum(*maximum);
            let check = codec.check();
            (Box::new(codec), check)
        }
        Format::Fixed(size) => {
            let codec = FixedSize::new(*size);
            (Box::new(codec), codec.check())
        }
    }
}

/// Reads the frames that `data` encodes and writes one; returns how often a codec was called.
///
/// # Panics
///
/// If a codec differs from its format, or memory is leaked.
pub fn codecs(data: &[u8]) -> usize {
    let case = CodecCase::arbitrary_take_rest(Unstructured::new(data));
    case.map_or(0, |case| run(&case))
}

pub(crate) fn run(case: &CodecCase) -> usize {
    let mut asked = 1;
    with_own_pool(|| {
        let (codec, check) = codec(&case.format);
        if case.format.is_valid() {
            check.expect("a valid configuration");
            asked += read(case, &*codec);
            write(case, &*codec, &case.frame);
        } else {
            check.expect_err("an invalid configuration");
            assert_rejects_all(&*codec);
        }
    });
    asked
}

/// Reads all frames of the stream as its pieces arrive; returns how often it called `measure`.
fn read(case: &CodecCase, codec: &dyn Codec<Frame = LinkBuffer>) -> usize {
    let mut input = LinkBuffer::new();
    let (mut consumed, mut come, mut seen, mut asked) = (0, 0, 0, 0);
    for piece in case.pieces(&case.stream) {
        add(&mut input, piece);
        come += piece.len();
        loop {
            asked += 1;
            let left = &case.stream[consumed..come];
            match measured(case, codec, &input, left, seen) {
                Need::Frame(whole) => {
                    let bytes = input
                        .split_to(whole)
                        .expect("the measured length is readable");
                    let frame = codec.decode(bytes).expect("a measured frame decodes");
                    let expected = case.format.frame(&left[..whole]);
                    assert!(contents(&frame) == expected, "the frames differ");
                    let mut output = LinkBuffer::new();
                    codec
                        .encode(frame, &mut output)
                        .expect("a decoded frame encodes");
                    assert!(contents(&output) == left[..whole], "the bytes differ");
                    (consumed, seen) = (consumed + whole, 0);
                }
                Need::More(0) => return asked,
                Need::More(_) => {
                    seen = left.len();
                    break;
                }
            }
        }
    }
    asked
}

/// Checks the codec's `measure` of `left`, of which `seen` bytes are no frame; returns a need of
/// nothing if it fails.
fn measured(
    case: &CodecCase,
    codec: &dyn Codec<Frame = LinkBuffer>,
    input: &LinkBuffer,
    left: &[u8],
    seen: usize,
) -> Need {
    let answers = [
        codec.measure(input),
        codec.measure_from(input, seen),
        codec.measure(&case.buffer(left)),
    ];
    let look = case.format.measure(left);
    for answer in answers {
        match look {
            FlatMeasurement::Need(need) => assert_eq!(answer.expect("a need"), need),
            FlatMeasurement::Rejected(refusal) => {
                let error = answer.expect_err("an error");
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                let right = match error.netpoll_kind() {
                    Some(ErrorKind::FrameTooLarge { .. }) => refusal == RejectReason::TooLarge,
                    Some(ErrorKind::NegativeLength { .. }) => refusal == RejectReason::Negative,
                    _ => false,
                };
                assert!(right, "{error} is no {refusal:?}");
            }
        }
    }
    assert_eq!(contents(input), left, "measuring consumes nothing");
    match look {
        FlatMeasurement::Need(need) => need
            .check(left.len())
            .expect("a need beyond the readable bytes"),
        FlatMeasurement::Rejected(_) => Need::More(0),
    }
}

/// Writes a frame behind the existing output, if the format can encode it.
fn write(case: &CodecCase, codec: &dyn Codec<Frame = LinkBuffer>, frame: &[u8]) {
    let mut output = case.buffer(PREFIX);
    let encoded = codec.encode(case.buffer(frame), &mut output);
    let all = contents(&output);
    if let Some(wire) = case.format.wire(frame) {
        encoded.expect("the format can encode the frame");
        assert!(all == [PREFIX, &wire].concat(), "the bytes differ");
        let need = codec
            .measure(&case.buffer(&wire))
            .expect("an encoded frame decodes");
        assert_eq!(need, Need::Frame(wire.len()));
        let decoded = codec
            .decode(case.buffer(&wire))
            .expect("an encoded frame decodes");
        assert!(contents(&decoded) == frame, "the frames differ");
    } else {
        let error = encoded.expect_err("the format cannot encode the frame");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(matches!(error.netpoll_kind(), Some(ErrorKind::Encode(_))));
        assert_eq!(all, PREFIX, "a failed encode adds nothing");
    }
}

fn assert_rejects_all(codec: &dyn Codec<Frame = LinkBuffer>) {
    let mut output = LinkBuffer::new();
    let measured = codec.measure(&LinkBuffer::new()).map(|_need| ());
    for refused in [measured, codec.encode(LinkBuffer::new(), &mut output)] {
        let error = refused.expect_err("an invalid configuration");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let kind = error.netpoll_kind();
        assert!(matches!(kind, Some(ErrorKind::InvalidConfig { .. })));
    }
    assert!(output.is_empty());
}
