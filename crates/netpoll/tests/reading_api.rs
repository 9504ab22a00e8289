// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading with a parser, with owned halves, and as a stream of frames.

#[path = "reading_api/framed.rs"]
mod framed;
#[path = "reading_api/halves.rs"]
mod halves;
#[path = "reading_api/parsing.rs"]
mod parsing;

use std::future::Future;
use std::net::{TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use netpoll::{Connection, Dialer};
use socket2::SockRef;

/// The time after which a wait fails its test.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns a connection owned by the test, and its peer.
fn pair() -> (Connection, TcpStream) {
    pair_with(&Dialer::new())
}

/// As [`pair`], dialed with `dialer`.
fn pair_with(dialer: &Dialer) -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // Fixed, so that the kernel does not take megabytes for a peer that does not read.
    let socket = SockRef::from(&listener);
    socket.set_recv_buffer_size(128 << 10).expect("a socket");
    let addr = listener.local_addr().expect("an address");
    let connection = block_on(dialer.dial(addr)).expect("a connection");
    let (peer, _) = listener.accept().expect("a peer");
    peer.set_nodelay(true).expect("TCP");
    peer.set_read_timeout(Some(LIMIT)).expect("a timeout");
    peer.set_write_timeout(Some(LIMIT)).expect("a timeout");
    (connection, peer)
}

/// Unparks the thread that waits in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let deadline = Instant::now() + LIMIT;
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => {
                let left = deadline.checked_duration_since(Instant::now());
                std::thread::park_timeout(left.expect("the future completes in time"));
            }
        }
    }
}

/// Polls a future once.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Waits until `condition` holds.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(1));
    }
}
