// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be done to a buffer, and how it is read from the bytes of a fuzzer.

use arbitrary::{Arbitrary, Unstructured};

/// One operation on one of the two buffers.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct ModelStep {
    pub(crate) buffer: BufferIndex,
    pub(crate) op: Op,
}

#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Op {
    Read(ReadOp),
    Write(WriteOp),
    Reservation(ReservationOp),
    Transfer(TransferOp),
    Trait(TraitOp),
}

/// Taking bytes out.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum ReadOp {
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
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum WriteOp {
    Put(Data),
    Push(Data),
    Number(Number, u64),
    /// A window of a block of its own at the end, in two halves.
    Window(Data),
    Coalesce(Data),
    /// Into the buffer's tail if it gives one away, else into another one.
    FillTail(Data),
    /// Where the first so many bytes come to lie in one piece.
    FillContiguous(Amount, Data),
    Receive(Length),
}

/// Leaving room.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum ReservationOp {
    Reserve(Length),
    /// So many more than can be reserved.
    ReserveBeyond(usize),
    Fill(usize, u8),
    FillStale(usize),
    Insert(Amount, Data),
    Commit(Amount),
    CommitAll,
}

/// Moving contents and memory about.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum TransferOp {
    Append,
    AppendPart(Amount),
    /// What can be read goes before what this buffer, or the other one, can read then.
    Prepend {
        to_other: bool,
    },
    Release,
    Compact,
    Send,
    /// The buffer is dropped with all it has, and a new one takes its place.
    Drop,
}

/// The same through the traits of `bytes` and `std`.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum TraitOp {
    Read(Amount),
    ReadToEnd,
    /// Of what can be read in one piece so much is consumed.
    Consume(Amount),
    ToBytes(Amount),
    Advance(Amount),
    Chunks(u8),
    PutBytes(u8, Length),
    WriteVectored(Data, Data),
    Extend(Data),
    /// All of it becomes one piece, and that a buffer again.
    Whole,
}

/// Which of the two buffers; the other one is the partner in what takes two.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum BufferIndex {
    One,
    Two,
}

impl BufferIndex {
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// How much, in terms of how much there is.
#[derive(Clone, Debug)]
pub(crate) enum Amount {
    Share(u8),
    Few(usize),
    Beyond(usize),
    Max,
}

impl<'a> Arbitrary<'a> for Amount {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match u8::arbitrary(bytes)? {
            few @ 0..128 => Self::Few(few.into()),
            128..240 => Self::Share(bytes.arbitrary()?),
            240..252 => Self::Beyond(u8::arbitrary(bytes)?.into()),
            _ => Self::Max,
        })
    }
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

/// A number of bytes: mostly little, sometimes around what a large put and a block are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length(pub(crate) usize);

impl<'a> Arbitrary<'a> for Length {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self(match u8::arbitrary(bytes)? {
            few @ 0..160 => few.into(),
            160..248 => u16::arbitrary(bytes)? as usize % 5000,
            248..252 => 32_700 + usize::from(u8::arbitrary(bytes)?),
            _ => 69_400 + usize::from(u8::arbitrary(bytes)?),
        }))
    }
}

/// So many bytes, of a kind.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Data {
    pub(crate) length: Length,
    pub(crate) seed: u8,
}

impl Data {
    /// Text if the seed is even.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mask = if self.seed.is_multiple_of(2) {
            0x7F
        } else {
            0xFF
        };
        (0..self.length.0)
            .map(|i| self.seed.wrapping_add((i * 7 + i / 256) as u8) & mask)
            .collect()
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Number {
    U8,
    U16,
    U16Le,
    U32,
    U32Le,
    U64,
    U64Le,
}
