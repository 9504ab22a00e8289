// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server that is attacked, as it is seen from outside, and what its attackers share.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::process_stats::{processor_time, resident_bytes};
use crate::support::{LIMIT, Server, frame, within_limit};

/// The processor time a process has used since this was made, as a share of the time that passed.
pub(crate) struct Share {
    pid: u32,
    since: Instant,
    used: Duration,
}

impl Share {
    pub(crate) fn of(server: &Server) -> Self {
        Self {
            pid: server.pid(),
            since: Instant::now(),
            used: processor_time(server.pid()).unwrap(),
        }
    }

    /// In hundredths of a core.
    pub(crate) fn percent(&self) -> f64 {
        let used = processor_time(self.pid).unwrap() - self.used;
        used.as_secs_f64() / self.since.elapsed().as_secs_f64() * 100.0
    }
}

/// What memory a process has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// In RAM.
    pub(crate) resident: u64,
    /// Asked for, touched or not.
    pub(crate) asked: u64,
}

impl Memory {
    pub(crate) fn of(server: &Server) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
        let kibibytes = line.unwrap().split_ascii_whitespace().next().unwrap();
        Self {
            resident: resident_bytes(server.pid()).unwrap(),
            asked: kibibytes.parse::<u64>().unwrap() * 1024,
        }
    }

    /// How much more there is of either than `before`.
    pub(crate) fn more_than(self, before: Self) -> u64 {
        let resident = self.resident.saturating_sub(before.resident);
        resident.max(self.asked.saturating_sub(before.asked))
    }
}

/// A connection whose kernel keeps no more for it than a few of `bytes` that it has not read.
pub(crate) fn narrow(addr: SocketAddr, bytes: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(bytes).unwrap();
    socket.connect(&addr.into())?;
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.set_write_timeout(Some(LIMIT)).unwrap();
    Ok(socket.into())
}

/// Sends a frame, expects it back, and says how long that took.
pub(crate) fn call(stream: &mut TcpStream, body: &[u8]) -> Duration {
    let (began, frame) = (Instant::now(), frame(body));
    crate::support::echoed(stream, &frame);
    began.elapsed()
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    Socket::from(stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// How long the server takes to end a connection, in order or not, on which nothing is to come.
pub(crate) fn until_ended(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    match stream.read(&mut [0; 1]) {
        Ok(count) => assert_eq!(count, 0, "an answer to what was no request"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    began.elapsed()
}

/// Writes what the socket takes at once; `None` if the connection has ended.
pub(crate) fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> Option<usize> {
    match stream.write(bytes) {
        Ok(count) => Some(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
        Err(_) => None,
    }
}

/// How many have been answered with at least a byte, of those that do not block.
pub(crate) fn answered(streams: &[TcpStream]) -> usize {
    let is_answered = |stream: &&TcpStream| stream.peek(&mut [0; 1]).is_ok_and(|count| count > 0);
    streams.iter().filter(is_answered).count()
}

/// How long until `condition` holds; [`LIMIT`] or more if it never does.
pub(crate) fn time_until(condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    within_limit(condition);
    began.elapsed()
}
