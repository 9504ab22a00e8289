// SPDX-License-Identifier: MIT OR Apache-2.0
//! A handler may peek at all its input after each arrival: the cost is proportional to the input.
#![expect(clippy::unwrap_used, reason = "only tests call the shared functions")]

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use netpoll::options::ConnOptions;
use netpoll::{Connection, EventLoop};

use crate::support::{LIMIT, Peer, Server, bytes};

/// How many bytes a handler peeks at before it consumes any.
const ALL: usize = 6 << 20;

/// Counts the bytes that moved: a look that finds its input at another address adds its length.
#[derive(Default)]
struct Moved {
    bytes: usize,
    address: usize,
    looks: usize,
}

impl Moved {
    fn look(&mut self, seen: &[u8]) {
        self.looks += 1;
        let address = seen.as_ptr().addr();
        if address != self.address {
            self.bytes += seen.len();
            self.address = address;
        }
    }
}

fn large_frames() -> netpoll::Builder {
    let options = ConnOptions::default().max_frame(2 * ALL).read_high(2 * ALL);
    EventLoop::builder().pollers(1).options(options)
}

/// Sends `ALL` bytes in pieces, and yields between them so that they arrive one by one.
fn send_in_pieces(peer: &mut Peer, each: usize) -> Vec<u8> {
    let all = bytes(ALL, 3);
    for piece in all.chunks(each) {
        peer.send(piece);
        std::thread::yield_now();
    }
    all
}

fn check(server: &Server, receiver: &std::sync::mpsc::Receiver<(Vec<u8>, usize, usize)>) {
    for each in [1400, 50_000] {
        let mut peer = server.connect();
        let all = send_in_pieces(&mut peer, each);
        let (seen, moved, looks) = receiver.recv_timeout(LIMIT).unwrap();
        assert!(seen == all);
        assert!(looks > 10, "{looks} looks");
        let times = moved / ALL;
        assert!(times <= 6, "{times} times, in {looks} looks");
    }
}

type ResultSender = Arc<Mutex<Sender<(Vec<u8>, usize, usize)>>>;

#[test]
fn input_that_a_handler_leaves_unread_is_moved_only_a_few_times() {
    let (sender, receiver) = channel();
    let sender: ResultSender = Arc::new(Mutex::new(sender));
    let server = Server::start_as_given(large_frames().on_request(
        async move |conn: &mut Connection| {
            let moved = conn.take_attached::<Moved>();
            let mut moved = moved.map_or_else(Moved::default, |moved| *moved);
            let mut reader = conn.reader();
            let available = reader.available();
            let seen = reader.peek(available).await?;
            moved.look(seen);
            if available == ALL {
                let results = (seen.to_vec(), moved.bytes, moved.looks);
                sender.lock().unwrap().send(results)?;
                reader.skip(ALL).await?;
            }
            conn.attach(moved);
            Ok(())
        },
    ));
    check(&server, &receiver);
}

#[test]
fn input_awaited_byte_by_byte_is_moved_only_a_few_times() {
    let (sender, receiver) = channel();
    let sender: ResultSender = Arc::new(Mutex::new(sender));
    let server = Server::start_as_given(large_frames().on_connection(
        async move |mut conn: Connection| {
            let mut moved = Moved::default();
            let mut reader = conn.reader();
            let mut have = 0;
            while have < ALL {
                reader.wait(have + 1).await?;
                have = reader.available();
                moved.look(reader.peek(have).await?);
            }
            let seen = reader.read_vec(ALL).await?;
            sender
                .lock()
                .unwrap()
                .send((seen, moved.bytes, moved.looks))?;
            Ok(())
        },
    ));
    check(&server, &receiver);
}

#[test]
fn input_awaited_in_steps_of_10_kib_is_moved_only_a_few_times() {
    let (sender, receiver) = channel();
    let sender: ResultSender = Arc::new(Mutex::new(sender));
    let server = Server::start_as_given(large_frames().on_connection(
        async move |mut conn: Connection| {
            let mut moved = Moved::default();
            let mut reader = conn.reader();
            let mut have = 0;
            while have < ALL {
                have = (have + (10 << 10)).min(ALL);
                moved.look(reader.peek(have).await?);
            }
            let seen = reader.read_vec(ALL).await?;
            sender
                .lock()
                .unwrap()
                .send((seen, moved.bytes, moved.looks))?;
            Ok(())
        },
    ));
    check(&server, &receiver);
}
