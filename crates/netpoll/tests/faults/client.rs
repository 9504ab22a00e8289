// SPDX-License-Identifier: MIT OR Apache-2.0
//! A blocking client without netpoll, each of whose calls may fail.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use netpoll::Addr;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::{LIMIT, bytes, frame};

/// The timeout of an answer. It is below the limit of a run, so that the client reports what it
/// waited for.
const PATIENCE: Duration = LIMIT;

/// The start of a body that the server answers from another thread.
pub(crate) const PUSH: &[u8] = b"Push";

/// More than the sockets of a [`place`](crate::place) hold.
pub(crate) const BIG: usize = 400 << 10;

/// A client connection.
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

    /// Receives exactly the expected bytes; other bytes are an error.
    pub(crate) fn expect(&mut self, expected: &[u8]) -> io::Result<()> {
        let mut received = vec![0; expected.len()];
        self.0.read_exact(&mut received).map_err(gave_up)?;
        if received != expected {
            return Err(io::Error::other("other bytes than were expected"));
        }
        Ok(())
    }

    /// Sends a body and receives the same.
    pub(crate) fn call(&mut self, body: &[u8]) -> io::Result<()> {
        let frame = frame(body);
        self.send(&frame)?;
        self.expect(&frame)
    }

    /// Half-closes this side, and waits for the peer's FIN.
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

    /// Uses a connection for its whole life: calls, pipelined and large ones, an answer pushed by a
    /// thread, and the end.
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

/// Replaces the error of a wait longer than [`PATIENCE`]: a fault may have the errno of such a
/// wait, and no fault may cause one.
fn gave_up(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::other("the client timed out"),
        _ => error,
    }
}

/// Returns whether `error` means that the connection has ended, and not that the server does not
/// answer.
pub(crate) fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
    )
}
