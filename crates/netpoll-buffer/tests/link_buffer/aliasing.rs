// SPDX-License-Identifier: MIT OR Apache-2.0
//! No thread reads a foreign byte: four threads write, read, keep, pass on and free memory of one
//! pool, a million times in all, and every byte encodes its stream and position.
//!
//! A debug build overwrites freed memory with a byte that no thread writes here, so use after free
//! is detected too.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Pool};

const THREADS: u64 = 4;

/// Operations of all threads together, unless `ALIASING_OPERATIONS` gives another number: under a
/// sanitizer each takes much longer.
const OPERATIONS: usize = 1_000_000;

fn operations_of_a_thread() -> usize {
    let asked = std::env::var("ALIASING_OPERATIONS").ok();
    let all = asked.map_or(OPERATIONS, |asked| asked.parse().expect("a number"));
    all / THREADS as usize
}

/// The number of kept values after which a thread drops the oldest.
const KEPT: usize = 64;

/// Returns the byte at `position` of a stream: 7 bits, so never the byte of freed memory.
fn byte(stream: u64, position: usize) -> u8 {
    let mixed = (stream ^ position as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 57) as u8
}

fn written(stream: u64, position: usize, length: usize) -> Vec<u8> {
    (position..position + length)
        .map(|position| byte(stream, position))
        .collect()
}

#[track_caller]
fn check(shown: &[u8], stream: u64, position: usize) {
    let own = shown
        .iter()
        .enumerate()
        .all(|(offset, &shown)| shown == byte(stream, position + offset));
    assert!(own, "foreign bytes in stream {stream:x} at {position}");
}

/// A buffer and what it carries: the bytes `read..put` of a stream.
struct Stream {
    number: u64,
    buffer: LinkBuffer,
    read: usize,
    put: usize,
}

/// Bytes of a stream that are owned on their own.
struct Held {
    stream: u64,
    position: usize,
    memory: Memory,
}

enum Memory {
    Slice(Bytes),
    Part(LinkBuffer),
}

impl Held {
    fn check(&self) {
        match &self.memory {
            Memory::Slice(bytes) => check(bytes, self.stream, self.position),
            Memory::Part(buffer) => {
                let mut position = self.position;
                for segment in buffer.segments() {
                    check(segment.as_slice(), self.stream, position);
                    position += segment.len();
                }
            }
        }
    }
}

impl Stream {
    fn new(number: u64) -> Self {
        let buffer = LinkBuffer::new();
        Self {
            number,
            buffer,
            read: 0,
            put: 0,
        }
    }

    fn write(&mut self, how: u64, length: usize) -> io::Result<()> {
        let bytes = written(self.number, self.put, length);
        self.put += length;
        match how {
            0 | 1 => self.buffer.put_slice(&bytes),
            2 => self.buffer.push(Bytes::from(bytes)),
            3 => self.buffer.append(LinkBuffer::from(bytes)),
            _ => {
                // The middle is inserted, and the dropped bytes are free memory from then on.
                let (front, back) = bytes.split_at(length / 2);
                let hole = self.buffer.reserve(front.len())?;
                let room = self.buffer.get_mut(&hole)?;
                assert!(room.iter().all(|&byte| byte == 0), "old memory is exposed");
                room.copy_from_slice(front);
                self.buffer.put_slice(&[0x55; 40]);
                let (middle, end) = back.split_at(back.len() / 2);
                let insert = Bytes::copy_from_slice(middle);
                self.buffer.insert(front.len(), insert)?;
                let insert = Bytes::copy_from_slice(end);
                self.buffer.insert(length - end.len(), insert)?;
                self.buffer.commit(length)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, how: u64, length: usize) -> io::Result<Option<Held>> {
        let length = length.min(self.buffer.len());
        let (stream, position) = (self.number, self.read);
        let memory = match how {
            0 => {
                check(self.buffer.next(length)?, stream, position);
                None
            }
            1 => {
                check(self.buffer.peek(length)?, stream, position);
                return Ok(None);
            }
            2 => Some(Memory::Part(self.buffer.split_to(length)?)),
            _ => Some(Memory::Slice(self.buffer.slice(length)?)),
        };
        self.read += length;
        Ok(memory.map(|memory| Held {
            stream,
            position,
            memory,
        }))
    }
}

/// Small pseudo-random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn length(&mut self) -> usize {
        let longest = match self.below(2000) {
            0 => 70_000,
            1..40 => 3000,
            _ => 120,
        };
        self.below(longest) as usize
    }
}

fn work(thread: u64, pool: &Pool, to: &Sender<Held>, from: &Receiver<Held>) -> io::Result<()> {
    pool.enter();
    let mut random = Random(thread * 0x1234_5677 + 1);
    let mut streams: Vec<Stream> = (0..4)
        .map(|n| Stream::new((thread * 4 + n) << 40))
        .collect();
    let mut kept = std::collections::VecDeque::new();
    for _ in 0..operations_of_a_thread() {
        let stream = &mut streams[random.below(4) as usize];
        let length = random.length();
        match random.below(16) {
            how @ 0..5 => stream.write(how, length)?,
            how @ 5..11 => match stream.read(how - 5, length)? {
                Some(held) if random.below(2) == 0 => {
                    to.send(held).expect("its reader waits for the last")
                }
                held => kept.extend(held),
            },
            11 => stream.buffer.release(),
            12 => stream.buffer.compact(),
            13 => drop(kept.pop_front()),
            _ => kept.extend(from.try_recv().ok()),
        }
        if kept.len() > KEPT {
            let at = random.below(kept.len() as u64) as usize;
            kept[at].check();
            kept.truncate(KEPT);
        }
    }
    kept.iter().for_each(Held::check);
    for mut stream in streams {
        let all = stream.buffer.len();
        stream.read(0, all)?;
        assert_eq!(stream.read, stream.put);
    }
    Ok(())
}

#[test]
fn no_thread_reads_a_foreign_byte_in_a_million_operations() {
    let pool = Pool::with_bound(1 << 20);
    let (to, from): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| channel::<Held>()).unzip();
    let mut threads = Vec::new();
    for (number, from) in (0..).zip(from) {
        let to = to[(number as usize + 1) % to.len()].clone();
        let pool = pool.clone();
        threads.push(thread::spawn(move || {
            work(number, &pool, &to, &from).expect("no call fails");
            drop(to);
            from.iter().for_each(|held| held.check());
        }));
    }
    drop(to);
    // Joined one by one, so that the memory that the threads keep is released too.
    for thread in threads {
        thread.join().expect("no foreign bytes");
    }
    assert_eq!(pool.stats().in_use, 0);
    assert!(pool.stats().cached <= 1 << 20);
}
