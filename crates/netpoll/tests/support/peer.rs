// SPDX-License-Identifier: MIT OR Apache-2.0
//! The other end of a connection: a blocking socket of the kind that is tested.

use std::io::{Read, Write};
use std::thread::JoinHandle;
use std::time::Duration;

use netpoll::{Addr, Connection, Dialer};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Host, LIMIT, block_on, frame};

/// A blocking client without netpoll.
pub(crate) struct Peer {
    pub(crate) stream: Socket,
}

impl Peer {
    pub(crate) fn connect(addr: Addr) -> Self {
        Self::try_connect(addr).expect("a server that accepts")
    }

    /// As [`connect`](Self::connect), for an address that may have no server.
    pub(crate) fn try_connect(addr: Addr) -> std::io::Result<Self> {
        let addr = match addr {
            Addr::Tcp(addr) => SockAddr::from(addr),
            Addr::Unix(name) => SockAddr::unix(name.as_path().expect("a path"))?,
            _ => panic!("{addr} cannot be connected to"),
        };
        let stream = Socket::new(addr.domain(), Type::STREAM, None)?;
        stream.connect(&addr)?;
        Ok(Self::on(stream))
    }

    /// Wraps a socket that is connected already.
    pub(crate) fn of(stream: Socket) -> Self {
        Self::on(stream)
    }

    fn on(stream: Socket) -> Self {
        // Fixed, since the kernel would otherwise hold tens of megabytes for a peer that does not
        // read.
        let held = stream.set_recv_buffer_size(256 << 10);
        held.expect("an open socket");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream.set_write_timeout(Some(LIMIT)).expect("a timeout");
        if stream.domain().expect("an open socket") != Domain::UNIX {
            stream.set_tcp_nodelay(true).expect("TCP");
        }
        Self { stream }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a server that reads");
    }

    /// Receives exactly `n` bytes.
    pub(crate) fn receive(&mut self, n: usize) -> Vec<u8> {
        let mut received = vec![0; n];
        self.stream
            .read_exact(&mut received)
            .expect("an answer in time");
        received
    }

    /// Receives everything up to the end of the stream.
    pub(crate) fn receive_all(&mut self) -> std::io::Result<Vec<u8>> {
        let mut received = Vec::new();
        self.stream.read_to_end(&mut received)?;
        Ok(received)
    }

    /// Sends a frame and checks that the answer is the same.
    pub(crate) fn call(&mut self, body: &[u8]) {
        let frame = frame(body);
        self.send(&frame);
        assert!(
            self.receive(frame.len()) == frame,
            "the answer is the request"
        );
    }

    /// Sends `bytes` on a thread of its own, for a server that answers before it has read all.
    /// Bytes that cannot be sent are dropped.
    pub(crate) fn send_aside(&self, bytes: Vec<u8>) -> JoinHandle<std::io::Result<()>> {
        let mut stream = self.stream.try_clone().expect("a descriptor");
        std::thread::spawn(move || stream.write_all(&bytes))
    }

    /// Returns the address by which the server knows this peer.
    pub(crate) fn addr(&self) -> Addr {
        let addr = self.stream.local_addr().expect("a connected socket");
        addr.as_socket().map_or(Addr::Unnamed, Addr::Tcp)
    }

    /// Holds sent bytes back until [`finish`](Self::finish), so that they arrive together with the
    /// FIN.
    pub(crate) fn cork(&self) {
        if super::kind() == super::Kind::Tcp {
            self.stream.set_tcp_cork(true).expect("TCP");
        }
    }

    /// Reads to the end, which must be a reset; a Unix socket has none and just ends.
    pub(crate) fn expect_reset(&mut self) {
        match self.receive_all() {
            Ok(_) => assert!(super::kind() == super::Kind::Unix, "no reset"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }

    /// As [`call`](Self::call), for more than the kernel's buffers hold.
    pub(crate) fn call_aside(&mut self, body: &[u8]) {
        let frame = frame(body);
        let sending = self.send_aside(frame.clone());
        let answer = self.receive(frame.len());
        assert!(answer == frame, "the answer is the request");
        let sent = sending.join().expect("no panic");
        sent.expect("a server that reads");
    }

    /// Half-closes this side.
    pub(crate) fn finish(&self) {
        self.stream
            .shutdown(std::net::Shutdown::Write)
            .expect("an open stream");
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        self.stream
            .set_linger(Some(Duration::ZERO))
            .expect("an open socket");
    }
}

/// Returns a connection owned by the test, and its peer.
pub(crate) fn pair() -> (Connection, Peer) {
    pair_with(&Dialer::new())
}

/// As [`pair`], dialed with `dialer`.
pub(crate) fn pair_with(dialer: &Dialer) -> (Connection, Peer) {
    let host = Host::new();
    let connection = block_on(dialer.dial(host.addr)).expect("a listener that accepts");
    (connection, host.accept())
}
