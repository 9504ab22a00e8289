// SPDX-License-Identifier: MIT OR Apache-2.0
//! Forwarding with other buffers: a `BytesMut` that is split into a queue, a `LinkedBytes` that
//! takes the split parts, and a `Vec` that takes a copy of everything.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use linkedbytes::LinkedBytes;

use super::Forward;

/// The source of the `BytesMut` inputs: one allocation, split as a connection splits its receive
/// buffer. Only the lengths in it are ever touched, so the rest costs no memory.
pub(crate) struct Received<'a> {
    input: &'a [u8],
    memory: BytesMut,
}

impl<'a> Received<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            memory: BytesMut::new(),
        }
    }

    pub(crate) fn next(&mut self) -> BytesMut {
        if self.memory.len() < self.input.len() {
            self.memory = BytesMut::zeroed(64 * self.input.len());
        }
        let mut received = self.memory.split_to(self.input.len());
        received[..4].copy_from_slice(&self.input[..4]);
        received
    }
}

/// Copies no byte: the split part is queued.
pub(crate) struct Queue {
    input: BytesMut,
    lengths: BytesMut,
    output: VecDeque<Bytes>,
}

impl Queue {
    pub(crate) fn over(input: BytesMut) -> Self {
        Self {
            input,
            lengths: BytesMut::with_capacity(64),
            output: VecDeque::with_capacity(4),
        }
    }
}

impl Forward for Queue {
    fn whole(&mut self) {
        self.output.push_back(self.input.split().freeze());
    }

    fn body(&mut self) {
        let length = self.input.get_u32();
        let body = self.input.split_to(length as usize);
        self.output.push_back(body.freeze());
    }

    fn reframed(&mut self) {
        let length = self.input.get_u32();
        self.lengths.put_u32(length);
        self.output.push_back(self.lengths.split().freeze());
        let body = self.input.split_to(length as usize);
        self.output.push_back(body.freeze());
    }
}

/// Copies no byte: the split part is inserted.
pub(crate) struct Linked {
    input: BytesMut,
    output: LinkedBytes,
}

impl Linked {
    pub(crate) fn over(input: BytesMut) -> Self {
        Self {
            input,
            output: LinkedBytes::new(),
        }
    }
}

impl Forward for Linked {
    fn whole(&mut self) {
        self.output.insert(self.input.split().freeze());
    }

    fn body(&mut self) {
        let length = self.input.get_u32();
        let body = self.input.split_to(length as usize);
        self.output.insert(body.freeze());
    }

    fn reframed(&mut self) {
        let length = self.input.get_u32();
        self.output.put_u32(length);
        let body = self.input.split_to(length as usize);
        self.output.insert(body.freeze());
    }
}

/// Copies every byte.
pub(crate) struct Copied<'a> {
    input: &'a [u8],
    output: Vec<u8>,
}

impl<'a> Copied<'a> {
    pub(crate) fn of(input: &'a [u8]) -> Self {
        Self {
            input,
            output: Vec::with_capacity(input.len()),
        }
    }

    fn split(&self) -> (&'a [u8], &'a [u8]) {
        let (length, rest) = self.input.split_first_chunk().expect("a length is there");
        let body = &rest[..u32::from_be_bytes(*length) as usize];
        (length, body)
    }
}

impl Forward for Copied<'_> {
    fn whole(&mut self) {
        self.output.clear();
        self.output.extend_from_slice(self.input);
    }

    fn body(&mut self) {
        self.output.clear();
        let (_, body) = self.split();
        self.output.extend_from_slice(body);
    }

    fn reframed(&mut self) {
        self.output.clear();
        let (length, body) = self.split();
        self.output.extend_from_slice(length);
        self.output.extend_from_slice(body);
    }
}
