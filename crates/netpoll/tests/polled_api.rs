// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `poll_*` functions of a connection and of its halves.

#[path = "polled_api/direct_receive.rs"]
mod direct_receive;
#[path = "polled_api/ends.rs"]
mod ends;
#[path = "polled_api/on_poller.rs"]
mod on_poller;
#[path = "polled_api/reading.rs"]
mod reading;
#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "support/waiting.rs"]
mod waiting;
#[path = "polled_api/writing.rs"]
mod writing;

use std::future::poll_fn;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use netpoll::connection::{FlushMode, OwnedWriter};
use netpoll::options::ConnOptions;
use netpoll::{Connection, Dialer};
use socket2::SockRef;

use waiting::{block_on, eventually};

/// The time after which a wait fails its test.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns a connection owned by the test, and its peer.
fn pair() -> (Connection, TcpStream) {
    pair_with(ConnOptions::for_dialing())
}

/// As [`pair`], with options of the connection.
fn pair_with(options: ConnOptions) -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // Fixed, so that the kernel does not take megabytes for a peer that does not read.
    let socket = SockRef::from(&listener);
    socket.set_recv_buffer_size(64 << 10).expect("a socket");
    let addr = listener.local_addr().expect("an address");
    let dialer = Dialer::new().options(options);
    let connection = block_on(dialer.dial(addr)).expect("a connection");
    let (peer, _) = listener.accept().expect("a peer");
    peer.set_nodelay(true).expect("TCP");
    peer.set_read_timeout(Some(LIMIT)).expect("a timeout");
    peer.set_write_timeout(Some(LIMIT)).expect("a timeout");
    (connection, peer)
}

/// Calls a poll function until it is ready.
fn wait<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    block_on(poll_fn(poll))
}

/// Calls a poll function once, with a waker that does nothing.
fn once<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}

/// Reads everything up to the end of the stream.
fn read_to_end(conn: &mut Connection) -> io::Result<Vec<u8>> {
    let (mut received, mut target) = (Vec::new(), vec![0; 10_000]);
    loop {
        match wait(|context| conn.poll_read(context, &mut target))? {
            0 => return Ok(received),
            count => received.extend_from_slice(&target[..count]),
        }
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Returns `length` bytes that differ by position.
fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index as u8).wrapping_mul(31))
        .collect()
}
