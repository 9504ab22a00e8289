// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading with a parser, with owned halves, and as a stream of frames; errors about limits.

#[path = "reading_api/framed.rs"]
mod framed;
#[path = "reading_api/halves.rs"]
mod halves;
#[path = "reading_api/limit_errors.rs"]
mod limit_errors;
#[path = "reading_api/parsing.rs"]
mod parsing;
#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "support/waiting.rs"]
mod waiting;

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use netpoll::{Connection, Dialer};
use socket2::SockRef;

use waiting::{block_on, eventually, poll_once};

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
