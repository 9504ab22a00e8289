// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading for a source whose descriptor is ready.
//!
//! One read is enough when it brought less than there was room for: the socket is empty then, and
//! another read would only say so, unless the event told of something behind the bytes. Where it
//! filled the room there may be more; but a source gets at most [`READS`] reads and [`BYTES`] bytes in
//! one turn, so that one that is sent to without end starves nobody. Readiness brings us back.
//!
//! As long as each event of a source is read to its end, the driver reports arrivals only, which
//! saves the kernel a second look at the socket. The first time something may have been left behind,
//! the source is watched for what is there, from then on and for good: who has sent so much once
//! will again, and a wake-up cannot be lost where none is counted on.
//!
//! A source that has taken bytes and has no room for more is not told that there are more: nobody
//! knows. If there are, readiness brings us back for that, too, and then it is told, unless there is
//! room by then.

use std::io;

use netpoll_sys::Readiness;

use super::Poller;
use super::registry::Run;
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
    pub(super) fn read_for(&mut self, run: &mut Run, readiness: Readiness) -> Next {
        let source = run.source.as_mut();
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
                    if count < room && !readiness.has_more_behind() {
                        return next;
                    }
                    next
                }
                Ok(Received::Fin) => return source.ended(End::Fin, &mut self.turn),
                Ok(Received::Closed) => {
                    run.watch.left_behind();
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
                next => {
                    run.watch.left_behind();
                    return next;
                }
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
            self.turn.progressed();
            Ok(Received::Bytes {
                landed,
                count,
                room,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::source::{Ask, Turn};
    use crate::poll::token::Token;
    use netpoll_buffer::Tail;
    use netpoll_sys::Interest;
    use socket2::{Domain, Socket, Type};
    use std::cell::RefCell;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::rc::Rc;

    const EDGE: Option<Interest> = Some(Interest::READABLE.and(Interest::EDGE));
    const LEVEL: Option<Interest> = Some(Interest::READABLE);

    /// What a source of bytes takes, and what it has got.
    #[derive(Default)]
    struct Script {
        /// How much it takes a read, into memory of its own; 0 for the shared block.
        own: usize,
        /// It takes no more after this many reads, until its event comes again.
        reads: Option<usize>,
        got: Vec<u8>,
        ended: bool,
        /// Who takes its place when it is woken.
        successor: Option<Bytes>,
    }

    struct Bytes {
        socket: Rc<Socket>,
        empties: bool,
        script: Rc<RefCell<Script>>,
    }

    impl Source for Bytes {
        fn fd(&self) -> Option<BorrowedFd<'_>> {
            Some(self.socket.as_fd())
        }

        fn short_read_empties(&self) -> bool {
            self.empties
        }

        fn born(&mut self, _turn: &mut Turn) -> Next {
            Next::Wait(Interest::READABLE)
        }

        fn room(&mut self, _turn: &mut Turn) -> Room {
            let script = self.script.borrow();
            match script.own {
                _ if script.reads == Some(0) => Room::Closed,
                0 => Room::Shared,
                // Of the size asked for, whatever a block has.
                size => Room::Own(Tail::with_capacity(size)),
            }
        }

        fn landed(&mut self, landed: Landed, _turn: &mut Turn) -> Next {
            let mut script = self.script.borrow_mut();
            match landed {
                Landed::Shared(window) => script.got.extend_from_slice(window.as_slice()),
                Landed::Own(tail, count) => {
                    let end = tail.filled();
                    let window = tail.window(end - count..end);
                    script.got.extend_from_slice(window.as_slice());
                }
            }
            script.reads = script.reads.map(|reads| reads - 1);
            Next::Wait(Interest::READABLE)
        }

        fn ended(&mut self, end: End, _turn: &mut Turn) -> Next {
            assert!(matches!(end, End::Fin));
            self.script.borrow_mut().ended = true;
            Next::Wait(Interest::NONE)
        }

        fn ready(&mut self, _readiness: Readiness, _turn: &mut Turn) -> Next {
            self.script.borrow_mut().reads = None;
            Next::Wait(Interest::READABLE)
        }

        fn woken(&mut self, _turn: &mut Turn) -> Next {
            let successor = self.script.borrow_mut().successor.take();
            let wait = Next::Wait(Interest::READABLE);
            successor.map_or(wait, |successor| Next::Become(Box::new(successor)))
        }

        fn asked(&mut self, _ask: Ask, _turn: &mut Turn) -> Next {
            Next::Gone
        }
    }

    /// A poller that the test turns, its one source, and the peer of that.
    struct Scene {
        poller: Poller,
        token: Token,
        script: Rc<RefCell<Script>>,
        socket: Rc<Socket>,
        peer: Socket,
    }

    impl Scene {
        /// Over TCP, of a source that says so or does not. What the peer is to have done before the
        /// source is watched, `peer` does.
        fn new(empties: bool, peer_does: impl FnOnce(&mut Socket)) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut peer = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let addr = listener.local_addr().unwrap().into();
            peer.connect(&addr).unwrap();
            peer.set_tcp_nodelay(true).unwrap();
            let socket = Rc::new(Socket::from(listener.accept().unwrap().0));
            socket.set_nonblocking(true).unwrap();
            peer_does(&mut peer);
            let mut poller = Poller::by_hand();
            let script = Rc::<RefCell<Script>>::default();
            let token = poller.take_in(Bytes {
                socket: Rc::clone(&socket),
                empties,
                script: Rc::clone(&script),
            });
            Self {
                poller,
                token,
                script,
                socket,
                peer,
            }
        }

        fn turn(&mut self) {
            self.poller.turn_by_hand();
        }

        /// Turns until `count` bytes have come in all.
        fn turn_until(&mut self, count: usize) {
            while self.script.borrow().got.len() < count {
                self.turn();
            }
            assert_eq!(self.script.borrow().got.len(), count);
        }

        fn watched(&mut self) -> Option<Interest> {
            self.poller.watch_of(self.token).interest
        }
    }

    #[test]
    fn arrivals_are_enough_where_each_is_read_to_its_end() {
        let mut scene = Scene::new(true, |_| ());
        for round in 1..=3 {
            scene.peer.write_all(&[round; 100]).unwrap();
            scene.turn_until(100 * usize::from(round));
            assert_eq!(scene.watched(), EDGE);
        }
        let mut other = Scene::new(false, |peer| peer.write_all(b"x").unwrap());
        other.turn_until(1);
        assert_eq!(other.watched(), LEVEL, "it does not say that it is empty");
    }

    #[test]
    fn who_takes_the_place_of_another_is_watched_as_he_is_read() {
        for empties in [true, false] {
            let mut scene = Scene::new(!empties, |_| ());
            scene.script.borrow_mut().successor = Some(Bytes {
                socket: Rc::clone(&scene.socket),
                empties,
                script: Rc::clone(&scene.script),
            });
            scene
                .poller
                .call(scene.token, |source, turn| source.woken(turn));
            assert_eq!(scene.watched(), if empties { EDGE } else { LEVEL });
        }
    }

    #[test]
    fn what_is_left_for_want_of_room_comes_without_another_arrival() {
        let block = Tail::with_capacity(1).room();
        let all = 2 * block + 1;
        let mut scene = Scene::new(true, |peer| peer.write_all(&vec![1; all]).unwrap());
        *scene.script.borrow_mut() = Script {
            own: 1,
            reads: Some(1),
            ..Script::default()
        };
        scene.turn();
        assert_eq!(scene.script.borrow().got.len(), block);
        assert_eq!(scene.watched(), LEVEL);
        scene.turn_until(all);
        assert_eq!(scene.watched(), LEVEL, "from then on");
    }

    #[test]
    fn what_there_was_no_room_for_at_all_is_told_of_again() {
        let mut scene = Scene::new(true, |peer| peer.write_all(&[1; 90]).unwrap());
        scene.script.borrow_mut().reads = Some(0);
        scene.turn();
        assert_eq!(scene.script.borrow().got.len(), 0);
        scene.turn_until(90);
    }

    #[test]
    fn what_is_left_at_the_limit_of_a_turn_comes_without_another_arrival() {
        let block = Tail::with_capacity(1).room();
        let all = READS * block + 1;
        let mut scene = Scene::new(true, |peer| peer.write_all(&vec![1; all]).unwrap());
        scene.script.borrow_mut().own = 1;
        scene.turn();
        assert_eq!(scene.script.borrow().got.len(), READS * block);
        assert_eq!(scene.watched(), LEVEL);
        scene.turn_until(all);
    }

    #[test]
    fn the_end_of_a_stream_is_read_with_the_bytes_before_it() {
        for empties in [true, false] {
            let mut scene = Scene::new(empties, |peer| {
                peer.write_all(b"the last").unwrap();
                peer.shutdown(Shutdown::Write).unwrap();
            });
            // Until both are there the end may be an arrival of its own.
            while !scene.script.borrow().ended {
                scene.turn();
            }
            assert_eq!(scene.script.borrow().got, b"the last");
        }
    }

    #[test]
    fn an_end_that_comes_after_the_bytes_were_read_is_an_arrival() {
        let mut scene = Scene::new(true, |_| ());
        scene.peer.write_all(b"the last").unwrap();
        scene.turn_until(8);
        scene.peer.shutdown(Shutdown::Write).unwrap();
        scene.turn();
        assert!(scene.script.borrow().ended);
    }

    #[test]
    fn what_lies_behind_an_urgent_byte_is_read() {
        let mut scene = Scene::new(true, |peer| {
            peer.write_all(b"before").unwrap();
            peer.send_out_of_band(b"!").unwrap();
            peer.write_all(b"behind").unwrap();
        });
        scene.turn_until(12);
        assert_eq!(scene.script.borrow().got, b"beforebehind");
        assert_eq!(scene.watched(), EDGE);
    }
}
