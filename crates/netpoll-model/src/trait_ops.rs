// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations through the traits of `bytes` and `std`. Those return fewer bytes for a length that
//! is too large; where they demand a panic, the model requests no more than is available.

use std::io::{BufRead, IoSlice, Read, Write};

use bytes::{Buf, BufMut, Bytes};
use netpoll_buffer::LinkBuffer;

use crate::model::{Model, ModelBuffer};
use crate::op::TraitOp;

const NEVER: &str = "this call never fails";

impl Model {
    pub(crate) fn call_trait(&mut self, side: usize, foreign: &TraitOp) {
        let this = &mut self.buffers[side];
        let there = this.readable.len();
        match foreign {
            TraitOp::Read(amount) => {
                let mut target = vec![0; amount.of(there).min(there + 1000)];
                let count = this.buffer.read(&mut target).expect(NEVER);
                assert_eq!(count, target.len().min(there));
                assert!(target[..count] == this.take(count).expect("enough bytes"));
            }
            TraitOp::ReadToEnd => {
                let mut all = Vec::new();
                assert_eq!(this.buffer.read_to_end(&mut all).expect(NEVER), there);
                assert!(all == this.take(there).expect("all"));
            }
            TraitOp::Consume(amount) => {
                let piece = this.buffer.fill_buf().expect(NEVER).to_vec();
                assert_eq!(piece.is_empty(), there == 0);
                let count = amount.of(piece.len());
                this.buffer.consume(count);
                let consumed = this.take(count.min(there)).expect("enough bytes");
                let shown = consumed.len().min(piece.len());
                assert!(piece[..shown] == consumed[..shown]);
            }
            TraitOp::ToBytes(amount) => {
                let n = amount.of(there).min(there);
                let bytes = this.buffer.copy_to_bytes(n);
                let expected = this.take(n).expect("enough bytes");
                self.slices.push((bytes, expected));
            }
            TraitOp::Advance(amount) => {
                let n = amount.of(there).min(there);
                this.buffer.advance(n);
                this.take(n).expect("enough bytes");
            }
            TraitOp::Chunks(places) => chunks(this, usize::from(*places)),
            TraitOp::PutBytes(byte, count) => {
                this.buffer.put_bytes(*byte, count.0);
                this.add(&vec![*byte; count.0]);
            }
            TraitOp::WriteVectored(first, second) => {
                let (first, second) = (first.bytes(), second.bytes());
                let parts = [IoSlice::new(&first), IoSlice::new(&second)];
                let count = this.buffer.write_vectored(&parts).expect(NEVER);
                assert_eq!(count, first.len() + second.len());
                this.add(&first);
                this.add(&second);
            }
            TraitOp::Extend(data) => {
                let bytes = data.bytes();
                this.buffer.extend(&bytes);
                this.add(&bytes);
            }
            TraitOp::Whole => self.round_trip(side),
        }
    }

    /// Converts the buffer to `Bytes` and back, which commits the uncommitted bytes.
    fn round_trip(&mut self, side: usize) {
        let this = &mut self.buffers[side];
        let whole = Bytes::from(std::mem::take(&mut this.buffer));
        self.stale.extend(this.end_reservations(usize::MAX));
        assert!(whole[..] == *this.readable.make_contiguous());
        this.buffer = LinkBuffer::from(whole);
    }
}

fn chunks(side: &mut ModelBuffer, places: usize) {
    let mut slices = vec![IoSlice::new(&[]); places];
    let count = side.buffer.chunks_vectored(&mut slices);
    assert_eq!(count, places.min(side.buffer.segments().count()));
    let shown: Vec<u8> = slices[..count]
        .iter()
        .flat_map(|slice| slice.to_vec())
        .collect();
    assert!(side.readable.iter().take(shown.len()).eq(&shown));
    let chunk = side.buffer.chunk();
    assert_eq!(chunk.is_empty(), side.readable.is_empty());
    assert!(side.readable.iter().take(chunk.len()).eq(chunk));
}
