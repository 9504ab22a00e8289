// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading for a source whose descriptor is ready.
//!
//! One read is enough when it brought less than there was room for: the socket is empty then, and
//! another read would only say so. Where it filled the room there may be more; but a source gets
//! at most [`READS`] reads and [`BYTES`] bytes in one turn, so that one that is sent to without
//! end starves nobody. Level-triggered readiness brings us back.
//!
//! A source that has taken bytes and has no room for more is not told that there are more: nobody
//! knows. If there are, readiness brings us back for that, too, and then it is told, unless there is
//! room by then.

use std::io;

use netpoll_sys::Readiness;

use super::Poller;
use super::source::{End, Landed, Next, Room, Source};

/// The most reads for one source in one turn.
const READS: usize = 16;

/// The most bytes read for one source in one turn.
const BYTES: usize = 256 << 10;

/// What one read brought.
enum Received {
    /// Bytes, and how much room there had been for them.
    Bytes {
        landed: Landed,
        count: usize,
        room: usize,
    },
    /// The end of the stream.
    Fin,
    /// The source takes no bytes.
    Closed,
}

impl Poller {
    /// Reads into what room the source gives, and tells it what landed.
    pub(super) fn read_for(&mut self, source: &mut dyn Source, readiness: Readiness) -> Next {
        let (mut reads, mut bytes) = (0, 0);
        let mut wanted = None;
        loop {
            let next = match self.read_once(source) {
                Ok(Received::Bytes {
                    landed,
                    count,
                    room,
                }) => {
                    bytes += count;
                    reads += 1;
                    let next = source.landed(landed, &mut self.turn);
                    // After a hang-up there is an end to be read behind the bytes.
                    if count < room && !readiness.is_hang_up() {
                        return next;
                    }
                    next
                }
                Ok(Received::Fin) => return source.ended(End::Fin, &mut self.turn),
                Ok(Received::Closed) => {
                    return match wanted {
                        Some(interest) => Next::Wait(interest),
                        None => source.ready(readiness, &mut self.turn),
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return source.ready(Readiness::NONE, &mut self.turn);
                }
                Err(error) => return source.ended(End::Broken(error), &mut self.turn),
            };
            match next {
                Next::Wait(interest)
                    if interest.is_readable() && reads < READS && bytes < BYTES =>
                {
                    wanted = Some(interest);
                }
                next => return next,
            }
        }
    }

    #[inline]
    fn read_once(&mut self, source: &mut dyn Source) -> io::Result<Received> {
        let driver = &self.driver;
        let counters = &self.mailbox.counters().poller;
        let room = source.room(&mut self.turn);
        let Some(fd) = source.fd() else {
            return Ok(Received::Closed);
        };
        let (landed, count, room) = match room {
            Room::Closed => return Ok(Received::Closed),
            Room::Shared => {
                counters.reads.add(1);
                let (window, room) = self.read_block.fill_with(|room| driver.receive(fd, room))?;
                let count = window.len();
                (Landed::Shared(window), count, room)
            }
            Room::Own(mut tail) => {
                counters.reads.add(1);
                let room = tail.room();
                let received = driver.receive_behind(fd, &mut tail, room);
                let count = *received.as_ref().unwrap_or(&0);
                if count == 0 {
                    // The room goes back, whatever came of it.
                    source.landed(Landed::Own(tail, 0), &mut self.turn);
                    return received.map(|_| Received::Fin);
                }
                (Landed::Own(tail, count), count, room)
            }
        };
        if count == 0 {
            Ok(Received::Fin)
        } else {
            counters.received.add(count as u64);
            Ok(Received::Bytes {
                landed,
                count,
                room,
            })
        }
    }
}
