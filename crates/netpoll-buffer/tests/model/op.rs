// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be done to a buffer, and how likely it is that it is done.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// One operation on one of the two buffers.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// 0 or 1; the other one is the partner in what takes two.
    pub(crate) side: usize,
    pub(crate) op: Op,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Read(Read),
    Write(Write),
    Open(Open),
    Move(Move),
}

/// Taking bytes out.
#[derive(Clone, Debug)]
pub(crate) enum Read {
    Peek(Amount),
    Next(Amount),
    Skip(Amount),
    Exact(Amount),
    Vec(Amount),
    Text(Amount),
    Slice(Amount),
    SplitTo(Amount),
    Number(Number),
    Until(u8, Amount),
    Position(u8, Amount, Amount),
}

/// Putting bytes in.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put(Data),
    Push(Data),
    Number(Number, u64),
    /// A window of a block of its own at the end, in two halves.
    Window(Data),
    Absorb(Data),
    /// Into the buffer's tail if it gives one away, else into another one.
    FillTail(Data),
    /// Where the first so many bytes come to lie in one piece.
    Land(Amount, Data),
    Receive(usize),
}

/// Leaving room.
#[derive(Clone, Debug)]
pub(crate) enum Open {
    Reserve(usize),
    FillIn(usize, u8),
    FillStale(usize),
    Insert(Amount, Data),
    Commit(Amount),
    CommitAll,
}

/// Moving contents and memory about.
#[derive(Clone, Debug)]
pub(crate) enum Move {
    Append,
    AppendPart(Amount),
    /// What can be read goes before what this buffer, or the other one, can read then.
    Prepend {
        to_other: bool,
    },
    Release,
    SettleDown,
    Send,
    /// The buffer is dropped with all it has, and a new one takes its place.
    Drop,
}

/// How much, in terms of how much there is.
#[derive(Clone, Debug)]
pub(crate) enum Amount {
    Share(u8),
    Few(usize),
    Beyond(usize),
    Max,
}

impl Amount {
    pub(crate) fn of(&self, there: usize) -> usize {
        match *self {
            Self::Share(share) => there * usize::from(share) / 255,
            Self::Few(few) => few,
            Self::Beyond(more) => there + 1 + more,
            Self::Max => usize::MAX,
        }
    }
}

/// So many bytes, of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    length: usize,
    seed: u8,
}

impl Data {
    /// Text if the seed is even.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mask = if self.seed.is_multiple_of(2) {
            0x7F
        } else {
            0xFF
        };
        (0..self.length)
            .map(|i| self.seed.wrapping_add((i * 7 + i / 256) as u8) & mask)
            .collect()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    U8,
    U16,
    U16Le,
    U32,
    U32Le,
    U64,
    U64Le,
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        6 => any::<u8>().prop_map(Amount::Share),
        6 => (0..70usize).prop_map(Amount::Few),
        1 => (0..1000usize).prop_map(Amount::Beyond),
        1 => Just(Amount::Max),
    ]
}

/// Mostly little, sometimes around what a large put and a block are.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        40 => 0..70usize,
        12 => 200..5000usize,
        1 => 32_700..32_800usize,
        1 => 69_500..69_700usize,
    ]
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
        2 => prop_oneof![length(), Just(usize::MAX)].prop_map(Write::Receive),
    ]
}

fn open() -> impl Strategy<Value = Open> {
    prop_oneof![
        6 => length().prop_map(Open::Reserve),
        1 => ((1usize << 30) + 1..=usize::MAX).prop_map(Open::Reserve),
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

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let op = prop_oneof![
        6 => read().prop_map(Op::Read),
        8 => write().prop_map(Op::Write),
        5 => open().prop_map(Op::Open),
        4 => moves().prop_map(Op::Move),
    ];
    vec(
        (0..2usize, op).prop_map(|(side, op)| Step { side, op }),
        1..80,
    )
}
