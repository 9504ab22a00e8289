// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scripted streams, and other helpers of this test program.

#[path = "../support/reason.rs"]
mod reason;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::panic;
use std::thread;

use netpoll_buffer::{LinkBuffer, Pool, StreamReader};

pub(crate) use reason::reason;

/// A result of a [`Source`].
#[derive(Debug)]
pub(crate) enum Answer {
    /// These bytes, in as many reads as needed.
    Bytes(Vec<u8>),
    Error(io::Error),
    /// No bytes.
    End,
    /// A count of so many bytes more than the offered length.
    Lie(usize),
}

/// A source that returns its results in turn, and then the end.
#[derive(Debug, Default)]
pub(crate) struct Source {
    answers: VecDeque<Answer>,
    /// The offered length of each read.
    pub(crate) offered: Vec<usize>,
}

impl Source {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: answers.into_iter().collect(),
            offered: Vec::new(),
        }
    }

    /// Returns `bytes`, `each` with every read.
    pub(crate) fn drip(bytes: &[u8], each: usize) -> Self {
        let pieces = bytes.chunks(each);
        Self::new(pieces.map(|piece| Answer::Bytes(piece.to_vec())))
    }

    /// Returns `bytes`, one with every second read; the reads in between are interrupted.
    pub(crate) fn interrupted(bytes: &[u8]) -> Self {
        Self::new(bytes.iter().flat_map(|&byte| {
            let signal = Answer::Error(ErrorKind::Interrupted.into());
            [signal, Answer::Bytes(vec![byte])]
        }))
    }

    /// Returns the first `cut` of `bytes`, then `answer`, then the other bytes.
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
        assert!(!room.is_empty(), "a read into an empty slice");
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

/// The reaction of a [`Sink`] to a write.
#[derive(Debug)]
pub(crate) enum Take {
    /// Takes at most so many bytes.
    Most(usize),
    Error(io::Error),
    /// Takes nothing, and returns so many bytes more than it was given.
    Lie(usize),
}

/// A sink with scripted reactions, which then takes everything.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    takes: VecDeque<Take>,
    pub(crate) taken: Vec<u8>,
    /// The address and length of each slice of each write.
    pub(crate) given: Vec<Vec<(*const u8, usize)>>,
    /// The errors of its first flushes, before they succeed.
    pub(crate) flush_errors: VecDeque<io::Error>,
    /// The number of bytes taken at each flush that succeeded.
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
        assert!(!all.is_empty(), "an empty write");
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

/// One read method, called on a stream and, with the same code, on a buffer.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    /// The bytes it needs, if it has no length argument.
    pub(crate) fixed: Option<usize>,
    pub(crate) over: Over<Source>,
    pub(crate) plain: Plain,
}

impl Method {
    /// Returns the bytes it needs for the argument `n`.
    pub(crate) fn need(&self, n: usize) -> usize {
        self.fixed.unwrap_or(n)
    }
}

macro_rules! methods {
    ($($name:literal, $fixed:expr, |$from:ident, $n:ident| $read:expr;)*) => {
        /// Every read method that a buffer has too.
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
        // Lengths too large for a target are tested with the other methods.
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

/// Returns `n` bytes of text without a period of a power of two; every 47th byte ends a line.
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

/// Returns the readable bytes without reading them.
pub(crate) fn contents(buffer: &LinkBuffer) -> Vec<u8> {
    let segments = buffer.segments().map(|segment| segment.as_slice());
    segments.collect::<Vec<_>>().concat()
}

/// Reads up to the end of the stream.
pub(crate) fn rest<S: Read>(reader: &mut StreamReader<'_, S>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.chunk().expect("a chunk or the end") {
        assert!(!chunk.is_empty(), "an empty chunk");
        all.extend(contents(&chunk));
    }
    all
}

/// Runs `test` on a new thread with a pool of its own.
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
