// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations on a buffer, decoded from the bytes of a fuzzer.

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

/// Reads.
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

/// Writes.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum WriteOp {
    Put(Data),
    Push(Data),
    Number(Number, u64),
    /// A window of a new block, appended in two halves.
    Window(Data),
    Coalesce(Data),
    /// Fills the buffer's tail if `take_tail` returns one, else another one.
    FillTail(Data),
    /// Fills a tail of `take_contiguous_tail` for so many bytes.
    FillContiguous(Amount, Data),
    Receive(Length),
}

/// Reservations.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum ReservationOp {
    Reserve(Length),
    /// So many more than the largest reservation.
    ReserveBeyond(usize),
    Fill(usize, u8),
    FillStale(usize),
    Insert(Amount, Data),
    Commit(Amount),
    CommitAll,
}

/// Moves of contents and memory.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum TransferOp {
    Append,
    AppendPart(Amount),
    /// Prepends the readable bytes to those of this buffer, or of the other one.
    Prepend {
        to_other: bool,
    },
    Release,
    Compact,
    Send,
    /// Drops the buffer with its contents, and puts a new one in its place.
    Drop,
}

/// Operations through the traits of `bytes` and `std`.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum TraitOp {
    Read(Amount),
    ReadToEnd,
    /// Consumes so much of the first contiguous bytes.
    Consume(Amount),
    ToBytes(Amount),
    Advance(Amount),
    Chunks(u8),
    PutBytes(u8, Length),
    WriteVectored(Data, Data),
    Extend(Data),
    /// Converts the buffer to one `Bytes`, and that to a buffer again.
    Whole,
}

/// One of the two buffers; the other one is the partner in an operation on two.
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

/// An amount, relative to the available bytes.
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

/// A number of bytes: mostly small, sometimes around the size of a large put or of a block.
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

/// So many bytes of a kind.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Data {
    pub(crate) length: Length,
    pub(crate) seed: u8,
}

impl Data {
    /// Returns the bytes; text if the seed is even.
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
