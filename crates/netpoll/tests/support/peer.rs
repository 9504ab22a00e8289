// SPDX-License-Identifier: MIT OR Apache-2.0
//! The other end of a connection: a blocking socket of the standard library's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use netpoll::{Addr, Connection, Dialer};

use super::{LIMIT, block_on, frame};

/// A blocking client that is not netpoll.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
}

impl Peer {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::on(TcpStream::connect(addr).expect("a server that accepts"))
    }

    fn on(stream: TcpStream) -> Self {
        // Fixed, or the kernel would hold tens of megabytes for a peer that does not read.
        let socket = socket2::SockRef::from(&stream);
        let held = socket.set_recv_buffer_size(256 << 10);
        held.expect("an open socket");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream.set_write_timeout(Some(LIMIT)).expect("a timeout");
        stream.set_nodelay(true).expect("TCP");
        Self { stream }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a server that reads");
    }

    /// Exactly `n` bytes.
    pub(crate) fn receive(&mut self, n: usize) -> Vec<u8> {
        let mut received = vec![0; n];
        self.stream
            .read_exact(&mut received)
            .expect("an answer in time");
        received
    }

    /// Everything up to the end of the stream.
    pub(crate) fn receive_all(&mut self) -> std::io::Result<Vec<u8>> {
        let mut received = Vec::new();
        self.stream.read_to_end(&mut received)?;
        Ok(received)
    }

    /// Sends a frame, and checks that the same comes back.
    pub(crate) fn call(&mut self, body: &[u8]) {
        let frame = frame(body);
        self.send(&frame);
        assert!(
            self.receive(frame.len()) == frame,
            "the answer is the request"
        );
    }

    /// Sends `bytes` on a thread of its own, for a server that answers before it has read all. What
    /// cannot be sent is not.
    pub(crate) fn send_aside(&self, bytes: Vec<u8>) -> JoinHandle<std::io::Result<()>> {
        let mut stream = self.stream.try_clone().expect("a descriptor");
        std::thread::spawn(move || stream.write_all(&bytes))
    }

    /// The address this peer is known by.
    pub(crate) fn addr(&self) -> Addr {
        Addr::Tcp(self.stream.local_addr().expect("a connected socket"))
    }

    /// As [`call`](Self::call), for more than sockets hold.
    pub(crate) fn call_aside(&mut self, body: &[u8]) {
        let frame = frame(body);
        let sending = self.send_aside(frame.clone());
        let answer = self.receive(frame.len());
        assert!(answer == frame, "the answer is the request");
        let sent = sending.join().expect("no panic");
        sent.expect("a server that reads");
    }

    /// Ends this side's stream.
    pub(crate) fn finish(&self) {
        self.stream
            .shutdown(std::net::Shutdown::Write)
            .expect("an open stream");
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("an open socket");
    }
}

/// A connection that is held off its poller, and its peer.
pub(crate) fn pair() -> (Connection, Peer) {
    pair_with(&Dialer::new())
}

/// As [`pair`], dialed with `dialer`.
pub(crate) fn pair_with(dialer: &Dialer) -> (Connection, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("a bound address");
    let connection = block_on(dialer.dial(addr.into())).expect("a listener that accepts");
    let (stream, _) = listener.accept().expect("a connection in the queue");
    (connection, Peer::on(stream))
}
