// SPDX-License-Identifier: MIT OR Apache-2.0
//! How likely each operation is in a random sequence.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::codecs::Case;
use crate::codecs::flat::Format;
use crate::op::{Amount, Data, Foreign, Length, Move, Number, Op, Open, Read, SideOf, Step, Write};

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

fn read() -> impl Strategy<Value = Read> {
    prop_oneof![
        amount().prop_map(Read::Peek),
        amount().prop_map(Read::Next),
        amount().prop_map(Read::Skip),
        amount().prop_map(Read::Exact),
        amount().prop_map(Read::Vec),
        amount().prop_map(Read::Text),
        amount().prop_map(Read::Slice),
        amount().prop_map(Read::SplitTo),
        number().prop_map(Read::Number),
        (any::<u8>(), amount()).prop_map(|(byte, max)| Read::Until(byte, max)),
        (any::<u8>(), amount(), amount())
            .prop_map(|(byte, from, max)| Read::Position(byte, from, max)),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        4 => data().prop_map(Write::Put),
        2 => data().prop_map(Write::Push),
        2 => (number(), any::<u64>()).prop_map(|(number, value)| Write::Number(number, value)),
        1 => data().prop_map(Write::Window),
        1 => data().prop_map(Write::Absorb),
        1 => data().prop_map(Write::FillTail),
        2 => (amount(), data()).prop_map(|(n, data)| Write::Land(n, data)),
        2 => prop_oneof![length(), Just(Length(usize::MAX))].prop_map(Write::Receive),
    ]
}

fn open() -> impl Strategy<Value = Open> {
    prop_oneof![
        6 => length().prop_map(Open::Reserve),
        1 => any::<usize>().prop_map(Open::ReserveBeyond),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(which, byte)| Open::FillIn(which, byte)),
        1 => any::<usize>().prop_map(Open::FillStale),
        4 => (amount(), data()).prop_map(|(at, data)| Open::Insert(at, data)),
        3 => amount().prop_map(Open::Commit),
        2 => Just(Open::CommitAll),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => Just(Move::Append),
        3 => amount().prop_map(Move::AppendPart),
        2 => any::<bool>().prop_map(|to_other| Move::Prepend { to_other }),
        2 => Just(Move::Release),
        3 => Just(Move::SettleDown),
        3 => Just(Move::Send),
        1 => Just(Move::Drop),
    ]
}

fn foreign() -> impl Strategy<Value = Foreign> {
    prop_oneof![
        amount().prop_map(Foreign::Read),
        Just(Foreign::ReadToEnd),
        amount().prop_map(Foreign::Consume),
        amount().prop_map(Foreign::ToBytes),
        amount().prop_map(Foreign::Advance),
        any::<u8>().prop_map(Foreign::Chunks),
        (any::<u8>(), length()).prop_map(|(byte, count)| Foreign::PutBytes(byte, count)),
        (data(), data()).prop_map(|(first, second)| Foreign::WriteVectored(first, second)),
        data().prop_map(Foreign::Extend),
        Just(Foreign::Whole),
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let op = prop_oneof![
        6 => read().prop_map(Op::Read),
        8 => write().prop_map(Op::Write),
        5 => open().prop_map(Op::Open),
        4 => moves().prop_map(Op::Move),
        3 => foreign().prop_map(Op::Foreign),
    ];
    let side = prop_oneof![Just(SideOf::One), Just(SideOf::Two)];
    vec((side, op).prop_map(|(side, op)| Step { side, op }), 1..80)
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

/// One of few, so that delimiters are found.
fn letter() -> impl Strategy<Value = u8> {
    prop_oneof![8 => Just(b'a'), 4 => Just(b'b'), 1 => any::<u8>()]
}

/// A format, and a stream that has frames of it, more often than not.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    // Some are longer than one byte can say.
    let frame = prop_oneof![4 => vec(letter(), 0..70), 1 => vec(letter(), 200..330)];
    let frames = vec(frame, 0..6);
    let cuts = vec(prop_oneof![4 => 0..5u8, 1 => any::<u8>()], 0..6);
    (format(), cuts, frames, vec(any::<u8>(), 0..20)).prop_map(|(format, cuts, frames, garbage)| {
        let wires = frames.iter().filter_map(|frame| {
            let fixed = match format {
                Format::Fixed(size) => frame.iter().copied().cycle().take(size).collect(),
                _ => frame.clone(),
            };
            format.can_work().then(|| format.wire(&fixed)).flatten()
        });
        let mut stream = wires.collect::<Vec<_>>().concat();
        stream.extend(&garbage);
        Case {
            frame: frames.first().cloned().unwrap_or_default(),
            format,
            cuts,
            stream,
        }
    })
}
