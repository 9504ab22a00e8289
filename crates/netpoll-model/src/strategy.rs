// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random sequences: the weight of each operation.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::codecs::CodecCase;
use crate::codecs::flat_format::Format;
use crate::op::{
    Amount, BufferIndex, Data, Length, ModelStep, Number, Op, ReadOp, ReservationOp, TraitOp,
    TransferOp, WriteOp,
};

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        6 => any::<u8>().prop_map(Amount::Share),
        6 => (0..70usize).prop_map(Amount::Few),
        1 => (0..1000usize).prop_map(Amount::Beyond),
        1 => Just(Amount::Max),
    ]
}

fn length() -> impl Strategy<Value = Length> {
    prop_oneof![
        40 => 0..70usize,
        12 => 200..5000usize,
        1 => 32_700..32_800usize,
        1 => 69_500..69_700usize,
    ]
    .prop_map(Length)
}

fn data() -> impl Strategy<Value = Data> {
    (length(), any::<u8>()).prop_map(|(length, seed)| Data { length, seed })
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        Just(Number::U8),
        Just(Number::U16),
        Just(Number::U16Le),
        Just(Number::U32),
        Just(Number::U32Le),
        Just(Number::U64),
        Just(Number::U64Le),
    ]
}

fn read() -> impl Strategy<Value = ReadOp> {
    prop_oneof![
        amount().prop_map(ReadOp::Peek),
        amount().prop_map(ReadOp::Next),
        amount().prop_map(ReadOp::Skip),
        amount().prop_map(ReadOp::Exact),
        amount().prop_map(ReadOp::Vec),
        amount().prop_map(ReadOp::Text),
        amount().prop_map(ReadOp::Slice),
        amount().prop_map(ReadOp::SplitTo),
        number().prop_map(ReadOp::Number),
        (any::<u8>(), amount()).prop_map(|(byte, max)| ReadOp::Until(byte, max)),
        (any::<u8>(), amount(), amount())
            .prop_map(|(byte, from, max)| ReadOp::Position(byte, from, max)),
    ]
}

fn write() -> impl Strategy<Value = WriteOp> {
    prop_oneof![
        4 => data().prop_map(WriteOp::Put),
        2 => data().prop_map(WriteOp::Push),
        2 => (number(), any::<u64>()).prop_map(|(number, value)| WriteOp::Number(number, value)),
        1 => data().prop_map(WriteOp::Window),
        1 => data().prop_map(WriteOp::Coalesce),
        1 => data().prop_map(WriteOp::FillTail),
        2 => (amount(), data()).prop_map(|(n, data)| WriteOp::FillContiguous(n, data)),
        2 => prop_oneof![length(), Just(Length(usize::MAX))].prop_map(WriteOp::Receive),
    ]
}

fn reservation() -> impl Strategy<Value = ReservationOp> {
    prop_oneof![
        6 => length().prop_map(ReservationOp::Reserve),
        1 => any::<usize>().prop_map(ReservationOp::ReserveBeyond),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(which, byte)| ReservationOp::Fill(which, byte)),
        1 => any::<usize>().prop_map(ReservationOp::FillStale),
        4 => (amount(), data()).prop_map(|(at, data)| ReservationOp::Insert(at, data)),
        3 => amount().prop_map(ReservationOp::Commit),
        2 => Just(ReservationOp::CommitAll),
    ]
}

fn transfer() -> impl Strategy<Value = TransferOp> {
    prop_oneof![
        3 => Just(TransferOp::Append),
        3 => amount().prop_map(TransferOp::AppendPart),
        2 => any::<bool>().prop_map(|to_other| TransferOp::Prepend { to_other }),
        2 => Just(TransferOp::Release),
        3 => Just(TransferOp::Compact),
        3 => Just(TransferOp::Send),
        1 => Just(TransferOp::Drop),
    ]
}

fn trait_op() -> impl Strategy<Value = TraitOp> {
    prop_oneof![
        amount().prop_map(TraitOp::Read),
        Just(TraitOp::ReadToEnd),
        amount().prop_map(TraitOp::Consume),
        amount().prop_map(TraitOp::ToBytes),
        amount().prop_map(TraitOp::Advance),
        any::<u8>().prop_map(TraitOp::Chunks),
        (any::<u8>(), length()).prop_map(|(byte, count)| TraitOp::PutBytes(byte, count)),
        (data(), data()).prop_map(|(first, second)| TraitOp::WriteVectored(first, second)),
        data().prop_map(TraitOp::Extend),
        Just(TraitOp::Whole),
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<ModelStep>> {
    let op = prop_oneof![
        6 => read().prop_map(Op::Read),
        8 => write().prop_map(Op::Write),
        5 => reservation().prop_map(Op::Reservation),
        4 => transfer().prop_map(Op::Transfer),
        3 => trait_op().prop_map(Op::Trait),
    ];
    let side = prop_oneof![Just(BufferIndex::One), Just(BufferIndex::Two)];
    vec(
        (side, op).prop_map(|(side, op)| ModelStep { buffer: side, op }),
        1..80,
    )
}

fn maximum() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(4 << 20), 2 => 0..100usize, 1 => any::<usize>(), 1 => Just(usize::MAX)]
}

fn format() -> impl Strategy<Value = Format> {
    let offset = prop_oneof![6 => Just(0), 6 => 0..20usize, 1 => any::<usize>()];
    let adjustment = prop_oneof![6 => Just(0), 6 => -30..30i64, 1 => any::<i64>()];
    let length = (0..10usize, any::<bool>(), offset, adjustment, maximum()).prop_map(
        |(width, little, offset, adjustment, maximum)| Format::Length {
            width,
            little,
            offset,
            adjustment,
            maximum,
        },
    );
    let delimited = (vec(letter(), 0..6), maximum())
        .prop_map(|(delimiter, maximum)| Format::Delimited { delimiter, maximum });
    prop_oneof![
        4 => length,
        3 => delimited,
        1 => (0..40usize).prop_map(Format::Fixed),
    ]
}

/// One of a few letters, so that delimiters are found.
fn letter() -> impl Strategy<Value = u8> {
    prop_oneof![8 => Just(b'a'), 4 => Just(b'b'), 1 => any::<u8>()]
}

/// A format, and a stream that contains frames of it in most cases.
pub(crate) fn case() -> impl Strategy<Value = CodecCase> {
    // Some frames are longer than a one-byte length can express.
    let frame = prop_oneof![4 => vec(letter(), 0..70), 1 => vec(letter(), 200..330)];
    let frames = vec(frame, 0..6);
    let cuts = vec(prop_oneof![4 => 0..5u8, 1 => any::<u8>()], 0..6);
    (format(), cuts, frames, vec(any::<u8>(), 0..20)).prop_map(|(format, cuts, frames, garbage)| {
        let wires = frames.iter().filter_map(|frame| {
            let fixed = match format {
                Format::Fixed(size) => frame.iter().copied().cycle().take(size).collect(),
                _ => frame.clone(),
            };
            format.is_valid().then(|| format.wire(&fixed)).flatten()
        });
        let mut stream = wires.collect::<Vec<_>>().concat();
        stream.extend(&garbage);
        CodecCase {
            frame: frames.first().cloned().unwrap_or_default(),
            format,
            cuts,
            stream,
        }
    })
}
