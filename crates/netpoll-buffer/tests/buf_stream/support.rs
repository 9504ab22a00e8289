// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that do as they are told, and what else the tests of this binary share.

#[path = "../support/reason.rs"]
mod reason;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::panic;
use std::thread;

use netpoll_buffer::{LinkBuffer, Pool, StreamReader};

pub(crate) use reason::reason;

/// What a [`Source`] answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// These bytes, in as many reads as it takes.
    Bytes(Vec<u8>),
    Error(io::Error),
    /// No bytes.
    End,
    /// A claim of so many bytes more than there is room for.
    Lie(usize),
}

/// A source that gives its answers in turn, and then the end for ever.
#[derive(Debug, Default)]
pub(crate) struct Source {
    answers: VecDeque<Answer>,
    /// How much room each read had.
    pub(crate) offered: Vec<usize>,
}

impl Source {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: answers.into_iter().collect(),
            offered: Vec::new(),
        }
    }

    /// `bytes`, `each` with every read.
    pub(crate) fn drip(bytes: &[u8], each: usize) -> Self {
        let pieces = bytes.chunks(each);
        Self::new(pieces.map(|piece| Answer::Bytes(piece.to_vec())))
    }

    /// `bytes`, one with every second read; in between a signal comes.
    pub(crate) fn interrupted(bytes: &[u8]) -> Self {
        Self::new(bytes.iter().flat_map(|&byte| {
            let signal = Answer::Error(ErrorKind::Interrupted.into());
            [signal, Answer::Bytes(vec![byte])]
        }))
    }

    /// The first `cut` of `bytes`, then `answer`, then the others.
    pub(crate) fn broken(bytes: &[u8], cut: usize, answer: Answer) -> Self {
        let (before, after) = bytes.split_at(cut);
        let before = (cut > 0).then(|| Answer::Bytes(before.to_vec()));
        Self::new(
            before
                .into_iter()
                .chain([answer, Answer::Bytes(after.to_vec())]),
        )
    }
}

impl Read for Source {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        assert!(!room.is_empty(), "a read without room");
        self.offered.push(room.len());
        match self.answers.pop_front() {
            Some(Answer::Bytes(bytes)) => {
                let count = bytes.len().min(room.len());
                room[..count].copy_from_slice(&bytes[..count]);
                if count < bytes.len() {
                    let rest = Answer::Bytes(bytes[count..].to_vec());
                    self.answers.push_front(rest);
                }
                Ok(count)
            }
            Some(Answer::Error(error)) => Err(error),
            Some(Answer::Lie(more)) => Ok(room.len() + more),
            Some(Answer::End) | None => Ok(0),
        }
    }
}

/// A source that is a function.
pub(crate) struct Ask<F>(pub(crate) F);

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for Ask<F> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        (self.0)(room)
    }
}

/// What a [`Sink`] does with what it is given.
#[derive(Debug)]
pub(crate) enum Take {
    /// Takes at most so many bytes.
    Most(usize),
    Error(io::Error),
    /// Takes nothing, and claims so many bytes more than it was given.
    Lie(usize),
}

/// A sink that does what it is told in turn, and then takes everything.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    takes: VecDeque<Take>,
    pub(crate) taken: Vec<u8>,
    /// Where each slice of each write lay, and how long it was.
    pub(crate) given: Vec<Vec<(*const u8, usize)>>,
    /// What its flushes answer in turn, before they succeed.
    pub(crate) flush_errors: VecDeque<io::Error>,
    /// How much had been taken at each flush that succeeded.
    pub(crate) flushes: Vec<usize>,
}

impl Sink {
    pub(crate) fn new(takes: impl IntoIterator<Item = Take>) -> Self {
        Self {
            takes: takes.into_iter().collect(),
            ..Self::default()
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let places = slices.iter().map(|slice| (slice.as_ptr(), slice.len()));
        self.given.push(places.collect());
        let all: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        assert!(!all.is_empty(), "a write of nothing");
        let most = match self.takes.pop_front() {
            Some(Take::Error(error)) => return Err(error),
            Some(Take::Lie(more)) => return Ok(all.len() + more),
            Some(Take::Most(most)) => most,
            None => usize::MAX,
        };
        let count = all.len().min(most);
        self.taken.extend_from_slice(&all[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(error) = self.flush_errors.pop_front() {
            return Err(error);
        }
        self.flushes.push(self.taken.len());
        Ok(())
    }
}

type Over<S> = fn(&mut StreamReader<'_, S>, usize) -> io::Result<Vec<u8>>;
type Plain = fn(&mut LinkBuffer, usize) -> io::Result<Vec<u8>>;

/// One method of reading, as it is called on a stream and, in the same words, on a buffer.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    /// How many bytes it needs, if it does not need what it is told.
    pub(crate) fixed: Option<usize>,
    pub(crate) over: Over<Source>,
    pub(crate) plain: Plain,
}

impl Method {
    /// How many bytes it needs when it is told `n`.
    pub(crate) fn need(&self, n: usize) -> usize {
        self.fixed.unwrap_or(n)
    }
}

macro_rules! methods {
    ($($name:literal, $fixed:expr, |$from:ident, $n:ident| $read:expr;)*) => {
        /// Every method of reading that a buffer has too.
        pub(crate) const METHODS: &[Method] = &[
            $(Method {
                name: $name,
                fixed: $fixed,
                over: |$from, $n| $read,
                plain: |$from, $n| $read,
            },)*
        ];
    };
}

methods! {
    "peek", None, |from, n| from.peek(n).map(<[u8]>::to_vec);
    "next", None, |from, n| from.next(n).map(<[u8]>::to_vec);
    "skip", None, |from, n| from.skip(n).map(|()| Vec::new());
    "slice", None, |from, n| from.slice(n).map(Vec::from);
    "split_to", None, |from, n| from.split_to(n).map(|buffer| contents(&buffer));
    "read_exact", None, |from, n| {
        // What is too large to have a target is refused on its number by the others.
        let mut target = vec![0; n.min(1 << 20)];
        from.read_exact(&mut target).map(|()| target)
    };
    "read_vec", None, |from, n| from.read_vec(n);
    "read_string", None, |from, n| from.read_string(n).map(String::into_bytes);
    "read_u8", Some(1), |from, _n| from.read_u8().map(|byte| vec![byte]);
    "read_u16", Some(2), |from, _n| from.read_u16().map(|number| number.to_ne_bytes().to_vec());
    "read_u16_le", Some(2), |from, _n| from.read_u16_le().map(|number| number.to_ne_bytes().to_vec());
    "read_u32", Some(4), |from, _n| from.read_u32().map(|number| number.to_ne_bytes().to_vec());
    "read_u32_le", Some(4), |from, _n| from.read_u32_le().map(|number| number.to_ne_bytes().to_vec());
    "read_u64", Some(8), |from, _n| from.read_u64().map(|number| number.to_ne_bytes().to_vec());
    "read_u64_le", Some(8), |from, _n| from.read_u64_le().map(|number| number.to_ne_bytes().to_vec());
}

/// `n` bytes of text that do not repeat with any power of two; every 47th ends a line.
pub(crate) fn text(n: usize) -> Vec<u8> {
    let letter = |i: usize| {
        if i % 47 == 46 {
            b'\n'
        } else {
            b'!' + (i % 89) as u8
        }
    };
    (0..n).map(letter).collect()
}

/// What can be read, without reading it.
pub(crate) fn contents(buffer: &LinkBuffer) -> Vec<u8> {
    let segments = buffer.segments().map(|segment| segment.as_slice());
    segments.collect::<Vec<_>>().concat()
}

/// Everything up to the end of the stream.
pub(crate) fn rest<S: Read>(reader: &mut StreamReader<'_, S>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.chunk().expect("a chunk or the end") {
        assert!(!chunk.is_empty(), "a chunk of nothing");
        all.extend(contents(&chunk));
    }
    all
}

/// Runs `test` on a thread of its own, which takes its memory from a pool of its own.
pub(crate) fn in_own_pool<T: Send>(test: impl FnOnce(&Pool) -> T + Send) -> T {
    let pool = Pool::default();
    thread::scope(|scope| {
        let test = scope.spawn(|| {
            pool.enter();
            test(&pool)
        });
        test.join()
            .unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}
