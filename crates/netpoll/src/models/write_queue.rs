// SPDX-License-Identifier: MIT OR Apache-2.0
//! The write queue: its last sender, and the poller that has just sent.

use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use netpoll_buffer::LinkBuffer;
use netpoll_sys::transfer;

use super::fixture::{CloseLog, ConnectionFixture, block_on, install_empty_pool};
use super::{model, spawn};
use crate::connection::Connection;
use crate::connection::handle::ConnectionHandle;
use crate::error::CloseReason;
use crate::options::ConnOptions;
use crate::sync::{Arc, thread};

fn message(content: &'static [u8]) -> LinkBuffer {
    let mut message = LinkBuffer::new();
    message.push(Bytes::from_static(content));
    message
}

/// Receives at `peer` until `count` bytes have come.
fn receive(peer: &impl AsFd, count: usize) -> Vec<u8> {
    let mut received = Vec::new();
    let mut buffer = [0; 16];
    while received.len() < count {
        match transfer::receive(peer.as_fd(), &mut buffer) {
            Ok(more) => received.extend_from_slice(&buffer[..more]),
            Err(_) => thread::yield_now(),
        }
    }
    received
}

/// A connection whose poller is a thread.
struct RunningConnection {
    connection: Connection,
    peer: OwnedFd,
    closes: Arc<CloseLog>,
    poller: thread::JoinHandle<()>,
}

/// Runs a connection with `options` on a thread that calls `first` before it polls.
fn run(
    options: ConnOptions,
    first: impl FnOnce(ConnectionHandle) + Send + 'static,
) -> RunningConnection {
    let fixture = ConnectionFixture::new(options);
    let connection = Connection::new(Arc::clone(&fixture.shared));
    let (closes, peer) = (Arc::clone(&fixture.closes), fixture.peer.try_clone());
    let handle = connection.handle();
    let poller = spawn(move || {
        let mut poller = fixture.with_owner();
        drop(fixture.peer);
        first(handle);
        poller.run_until_empty();
    });
    install_empty_pool();
    RunningConnection {
        connection,
        peer: peer.expect("a descriptor"),
        closes,
        poller,
    }
}

impl RunningConnection {
    /// Closes both ends, which ends the poller. Returns the one reason that was reported.
    fn end(self) -> CloseReason {
        drop(self.peer);
        drop(self.connection);
        self.poller.join().expect("no panic");
        self.closes.only()
    }
}

/// Watermarks that one byte reaches.
fn one_byte_watermarks() -> ConnOptions {
    ConnOptions::default().write_high(1).write_low(0)
}

/// Queued buffers are sent whichever thread takes the output: the last sender notifies the poller,
/// or the poller has already seen its buffer.
#[test]
fn buffers_of_two_senders_are_sent_without_another_notify() {
    model(|| {
        let running = run(ConnOptions::default(), drop);
        let queue = running.connection.write_queue();
        let other = spawn(move || {
            install_empty_pool();
            queue.try_send(message(b"ab")).unwrap();
        });
        let queue = running.connection.write_queue();
        queue.try_send(message(b"cd")).unwrap();
        other.join().unwrap();
        let received = receive(&running.peer, 4);
        assert!(received == b"abcd" || received == b"cdab", "{received:?}");
        running.end();
    });
}

/// A sender that waits for capacity continues when there is some.
#[test]
fn a_sender_waiting_for_capacity_is_woken() {
    model(|| {
        let running = run(one_byte_watermarks(), drop);
        let queue = running.connection.write_queue();
        queue.try_send(message(b"a")).unwrap();
        block_on(queue.send(message(b"b"))).unwrap();
        assert_eq!(receive(&running.peer, 2), b"ab");
        running.end();
    });
}

/// A waiting sender fails when the connection closes, or has sent before.
#[test]
fn a_waiting_sender_fails_when_the_connection_closes() {
    model(|| {
        let running = run(one_byte_watermarks(), |handle| handle.abort());
        let queue = running.connection.write_queue();
        let first = queue.try_send(message(b"a")).is_ok();
        let second = block_on(queue.send(message(b"b"))).is_ok();
        assert!(first || !second, "no message overtakes another");
        let reason = running.end();
        assert!(!matches!(reason, CloseReason::Forgotten), "{reason}");
    });
}
