// SPDX-License-Identifier: MIT OR Apache-2.0
//! The attacked server as seen from outside, and helpers that the attackers share.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::process_stats::{processor_time, resident_bytes};
use crate::support::{LIMIT, Server, frame, within_limit};

/// The processor time of a process since the creation of this value, as a share of the elapsed
/// time.
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

    /// Returns the share in percent of a core.
    pub(crate) fn percent(&self) -> f64 {
        let used = processor_time(self.pid).unwrap() - self.used;
        used.as_secs_f64() / self.since.elapsed().as_secs_f64() * 100.0
    }
}

/// The memory of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident bytes.
    pub(crate) resident: u64,
    /// Allocated bytes, touched or not.
    pub(crate) allocated: u64,
}

impl Memory {
    pub(crate) fn of(server: &Server) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
        let kibibytes = line.unwrap().split_ascii_whitespace().next().unwrap();
        Self {
            resident: resident_bytes(server.pid()).unwrap(),
            allocated: kibibytes.parse::<u64>().unwrap() * 1024,
        }
    }

    /// Returns the larger growth of the two since `before`, in bytes.
    pub(crate) fn more_than(self, before: Self) -> u64 {
        let resident = self.resident.saturating_sub(before.resident);
        resident.max(self.allocated.saturating_sub(before.allocated))
    }
}

/// Returns a connection with a receive buffer of about `bytes`.
pub(crate) fn narrow(addr: SocketAddr, bytes: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(bytes).unwrap();
    socket.connect(&addr.into())?;
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.set_write_timeout(Some(LIMIT)).unwrap();
    Ok(socket.into())
}

/// Sends a frame, asserts that it comes back, and returns the time it took.
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

/// Returns the time until the server ends a connection that must not receive a response, by FIN or
/// reset.
pub(crate) fn until_ended(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    match stream.read(&mut [0; 1]) {
        Ok(count) => assert_eq!(count, 0, "a response without a request"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    began.elapsed()
}

/// Writes as much as the socket takes; `None` if the connection has ended.
pub(crate) fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> Option<usize> {
    match stream.write(bytes) {
        Ok(count) => Some(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
        Err(_) => None,
    }
}

/// Returns how many of the non-blocking `streams` have received at least one byte.
pub(crate) fn answered(streams: &[TcpStream]) -> usize {
    let is_answered = |stream: &&TcpStream| stream.peek(&mut [0; 1]).is_ok_and(|count| count > 0);
    streams.iter().filter(is_answered).count()
}

/// Returns the time until `condition` holds; [`LIMIT`] or more if it never does.
pub(crate) fn time_until(condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    within_limit(condition);
    began.elapsed()
}
