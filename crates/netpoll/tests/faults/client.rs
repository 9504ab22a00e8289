// SPDX-License-Identifier: MIT OR Apache-2.0
//! A blocking client that is not netpoll, and whose every call may fail.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use netpoll::Addr;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::{LIMIT, bytes, frame};

/// How long an answer may take. Below the limit of a run, so that the client reports what it waited for.
const PATIENCE: Duration = LIMIT;

/// The body that has the server answer from a thread of its own.
pub(crate) const PUSH: &[u8] = b"Push";

/// More than sockets hold that a [`place`](crate::place) makes.
pub(crate) const BIG: usize = 400 << 10;

/// One connection.
pub(crate) struct Client(Socket);

impl Client {
    pub(crate) fn connect(addr: Addr) -> io::Result<Self> {
        let (domain, addr) = match addr {
            Addr::Tcp(addr) => (Domain::for_address(addr), SockAddr::from(addr)),
            Addr::Unix(name) => {
                let path = name.as_path().expect("a path");
                (Domain::UNIX, SockAddr::unix(path)?)
            }
            _ => panic!("{addr} cannot be connected to"),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(&addr)?;
        if domain != Domain::UNIX {
            socket.set_tcp_nodelay(true)?;
        }
        Ok(Self(socket))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).map_err(gave_up)
    }

    /// Receives exactly what is expected, or fails; other bytes are a divergence.
    pub(crate) fn expect(&mut self, expected: &[u8]) -> io::Result<()> {
        let mut received = vec![0; expected.len()];
        self.0.read_exact(&mut received).map_err(gave_up)?;
        if received != expected {
            return Err(io::Error::other("other bytes than were expected"));
        }
        Ok(())
    }

    /// Sends a body, and receives the same.
    pub(crate) fn call(&mut self, body: &[u8]) -> io::Result<()> {
        let frame = frame(body);
        self.send(&frame)?;
        self.expect(&frame)
    }

    /// Ends this side's stream, and waits for the end of the other's.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.half_close()?;
        self.expect_end()
    }

    pub(crate) fn half_close(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    pub(crate) fn expect_end(&mut self) -> io::Result<()> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).map_err(gave_up)?;
        if rest.is_empty() {
            return Ok(());
        }
        Err(io::Error::other("bytes behind the answers"))
    }

    /// What a connection is used for: calls, pipelined and large ones, an answer that a thread
    /// pushes, an end.
    pub(crate) fn whole_life(addr: Addr) -> io::Result<()> {
        let mut client = Self::connect(addr)?;
        client.call(&bytes(100, 1))?;
        let pipelined = [frame(&bytes(3, 2)), frame(b""), frame(&bytes(3000, 3))].concat();
        client.send(&pipelined)?;
        client.expect(&pipelined)?;
        client.call(&bytes(BIG, 4))?;
        client.call(PUSH)?;
        client.finish()
    }
}

/// Makes an error of its own of a wait that took longer than [`PATIENCE`]: a fault may have the errno of
/// such a wait, and no fault may cause one.
fn gave_up(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::other("the client gave up"),
        _ => error,
    }
}

/// Whether a client that was told this was told that its connection has ended, and not that nobody
/// answers.
pub(crate) fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
    )
}
