// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receiving: buffers, hints and the end of input.

use super::*;
use crate::poll::source::{ShutdownRequest, SourceContext};
use crate::poll::token::Token;
use netpoll_buffer::Tail;
use netpoll_sys::Interest;
use socket2::{Domain, Socket, Type};
use std::cell::RefCell;
use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

const EDGE: Option<Interest> = Some(Interest::READABLE.union(Interest::EDGE));
const LEVEL: Option<Interest> = Some(Interest::READABLE);

/// The buffers a byte source provides, and the bytes it has received.
#[derive(Default)]
struct ByteSourceState {
    /// Bytes per read into a buffer of its own; 0 for the shared block.
    owned_capacity: usize,
    /// Reads after which it provides no buffer, until its next event.
    reads: Option<usize>,
    got: Vec<u8>,
    saw_end: bool,
    /// The source that replaces it when it is notified.
    replacement: Option<ByteSource>,
}

struct ByteSource {
    socket: Rc<Socket>,
    drains_on_short_read: bool,
    script: Rc<RefCell<ByteSourceState>>,
}

impl Source for ByteSource {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn short_read_empties(&self) -> bool {
        self.drains_on_short_read
    }

    fn on_register(&mut self, _context: &mut SourceContext) -> NextAction {
        NextAction::Wait(Interest::READABLE)
    }

    fn recv_buffer(&mut self, _context: &mut SourceContext) -> RecvBuffer {
        let script = self.script.borrow();
        match script.owned_capacity {
            _ if script.reads == Some(0) => RecvBuffer::Unavailable,
            0 => RecvBuffer::Shared,
            // Of this size, whatever the capacity of a block is.
            size => RecvBuffer::Owned(Tail::with_capacity(size)),
        }
    }

    fn on_received(&mut self, received: Received, _context: &mut SourceContext) -> NextAction {
        let mut script = self.script.borrow_mut();
        match received {
            Received::Shared(window) => script.got.extend_from_slice(window.as_slice()),
            Received::Owned(tail, count) => {
                let end = tail.filled();
                let window = tail.window(end - count..end);
                script.got.extend_from_slice(window.as_slice());
            }
        }
        script.reads = script.reads.map(|reads| reads - 1);
        NextAction::Wait(Interest::READABLE)
    }

    fn on_input_end(&mut self, end: EndOfInput, _context: &mut SourceContext) -> NextAction {
        assert!(matches!(end, EndOfInput::Fin));
        self.script.borrow_mut().saw_end = true;
        NextAction::Wait(Interest::NONE)
    }

    fn on_ready(&mut self, _readiness: Readiness, _context: &mut SourceContext) -> NextAction {
        self.script.borrow_mut().reads = None;
        NextAction::Wait(Interest::READABLE)
    }

    fn on_notify(&mut self, _context: &mut SourceContext) -> NextAction {
        let replacement = self.script.borrow_mut().replacement.take();
        let wait = NextAction::Wait(Interest::READABLE);
        replacement.map_or(wait, |replacement| {
            NextAction::Replace(Box::new(replacement))
        })
    }

    fn on_shutdown(
        &mut self,
        _request: ShutdownRequest,
        _context: &mut SourceContext,
    ) -> NextAction {
        NextAction::Remove
    }
}

/// A poller that the test runs, its one source, and the peer of that source.
struct ReadFixture {
    poller: Poller,
    token: Token,
    script: Rc<RefCell<ByteSourceState>>,
    socket: Rc<Socket>,
    peer: Socket,
}

impl ReadFixture {
    /// Connects over TCP. `empties` is the value of `short_read_empties`. `peer_does` runs
    /// before the source is registered.
    fn new(empties: bool, peer_does: impl FnOnce(&mut Socket)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let addr = listener.local_addr().unwrap().into();
        peer.connect(&addr).unwrap();
        peer.set_tcp_nodelay(true).unwrap();
        let socket = Rc::new(Socket::from(listener.accept().unwrap().0));
        socket.set_nonblocking(true).unwrap();
        peer_does(&mut peer);
        let mut poller = Poller::for_test();
        let script = Rc::<RefCell<ByteSourceState>>::default();
        let token = poller.insert_source(ByteSource {
            socket: Rc::clone(&socket),
            drains_on_short_read: empties,
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

    fn run_once(&mut self) {
        self.poller.run_ready();
    }

    /// Runs the poller until `count` bytes have been received in total.
    fn run_until(&mut self, count: usize) {
        while self.script.borrow().got.len() < count {
            self.run_once();
        }
        assert_eq!(self.script.borrow().got.len(), count);
    }

    fn watched(&mut self) -> Option<Interest> {
        self.poller.interest_of(self.token).interest
    }
}

#[test]
fn a_fully_read_source_stays_edge_triggered() {
    let mut fixture = ReadFixture::new(true, |_| ());
    for round in 1..=3 {
        fixture.peer.write_all(&[round; 100]).unwrap();
        fixture.run_until(100 * usize::from(round));
        assert_eq!(fixture.watched(), EDGE);
    }
    let mut other = ReadFixture::new(false, |peer| peer.write_all(b"x").unwrap());
    other.run_until(1);
    assert_eq!(other.watched(), LEVEL, "a short read does not empty it");
}

#[test]
fn a_replacement_is_watched_edge_or_level_triggered_as_it_reads() {
    for empties in [true, false] {
        let mut fixture = ReadFixture::new(!empties, |_| ());
        fixture.script.borrow_mut().replacement = Some(ByteSource {
            socket: Rc::clone(&fixture.socket),
            drains_on_short_read: empties,
            script: Rc::clone(&fixture.script),
        });
        fixture
            .poller
            .call(fixture.token, |source, context| source.on_notify(context));
        assert_eq!(fixture.watched(), if empties { EDGE } else { LEVEL });
    }
}

#[test]
fn bytes_left_for_lack_of_a_buffer_are_read_without_a_new_arrival() {
    let block = Tail::with_capacity(1).spare_capacity();
    let all = 2 * block + 1;
    let mut fixture = ReadFixture::new(true, |peer| peer.write_all(&vec![1; all]).unwrap());
    *fixture.script.borrow_mut() = ByteSourceState {
        owned_capacity: 1,
        reads: Some(1),
        ..ByteSourceState::default()
    };
    fixture.run_once();
    assert_eq!(fixture.script.borrow().got.len(), block);
    assert_eq!(fixture.watched(), LEVEL);
    fixture.run_until(all);
    assert_eq!(fixture.watched(), LEVEL, "it stays level-triggered");
}

#[test]
fn unread_bytes_are_reported_again_when_no_buffer_was_available() {
    let mut fixture = ReadFixture::new(true, |peer| peer.write_all(&[1; 90]).unwrap());
    fixture.script.borrow_mut().reads = Some(0);
    fixture.run_once();
    assert_eq!(fixture.script.borrow().got.len(), 0);
    fixture.run_until(90);
}

#[test]
fn bytes_left_at_the_read_limit_are_read_without_a_new_arrival() {
    let block = Tail::with_capacity(1).spare_capacity();
    let all = MAX_READS_PER_ITERATION * block + 1;
    let mut fixture = ReadFixture::new(true, |peer| peer.write_all(&vec![1; all]).unwrap());
    fixture.script.borrow_mut().owned_capacity = 1;
    fixture.run_once();
    assert_eq!(
        fixture.script.borrow().got.len(),
        MAX_READS_PER_ITERATION * block
    );
    assert_eq!(fixture.watched(), LEVEL);
    fixture.run_until(all);
}

#[test]
fn a_fin_is_read_together_with_the_bytes_before_it() {
    for empties in [true, false] {
        let mut fixture = ReadFixture::new(empties, |peer| {
            peer.write_all(b"the last").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
        });
        // The FIN may come as an event of its own.
        while !fixture.script.borrow().saw_end {
            fixture.run_once();
        }
        assert_eq!(fixture.script.borrow().got, b"the last");
    }
}

#[test]
fn a_fin_after_all_bytes_were_read_is_an_edge() {
    let mut fixture = ReadFixture::new(true, |_| ());
    fixture.peer.write_all(b"the last").unwrap();
    fixture.run_until(8);
    fixture.peer.shutdown(Shutdown::Write).unwrap();
    fixture.run_once();
    assert!(fixture.script.borrow().saw_end);
}

#[test]
fn bytes_after_an_urgent_byte_are_read() {
    let mut fixture = ReadFixture::new(true, |peer| {
        peer.write_all(b"before").unwrap();
        peer.send_out_of_band(b"!").unwrap();
        peer.write_all(b"behind").unwrap();
    });
    fixture.run_until(12);
    assert_eq!(fixture.script.borrow().got, b"beforebehind");
    assert_eq!(fixture.watched(), EDGE);
}
