// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory cost of an idle connection: resident memory of the server's process.
//!
//! Each connection carries one request, since only a connection that had a buffer can show that it
//! released it. The kernel's memory for the socket is not counted; it is the same for every server.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::process::stats::resident_bytes;
use crate::error::CliError;
use crate::measurement::load::connect::connect_all;
use crate::signal::Interrupt;

use super::process::server::ServerProcess;

/// Returns the number of connections, at most `wanted`, that the descriptor limit allows. A quarter
/// of the limit stays free, which is more than a server keeps free by default.
pub(crate) fn affordable(wanted: usize) -> usize {
    let limit = netpoll_sys::process::descriptor_limit();
    let room = usize::try_from(limit / 4 * 3).unwrap_or(usize::MAX);
    wanted.min(room).max(1)
}

/// Measures the resident bytes of `server` per connection, over `count` idle connections that have
/// carried one request each.
///
/// # Errors
///
/// A connection that fails or gets no response.
pub(crate) fn bytes_per_connection(
    server: &ServerProcess,
    count: usize,
    interrupt: &Interrupt,
) -> Result<f64, CliError> {
    let failed =
        |error: io::Error| CliError::io(format_args!("keep {count} connections idle"), &error);
    // Memory that a server allocates once for all connections is not part of the result.
    let mut open = Vec::with_capacity(count + WARM_UP_CONNECTIONS);
    open_and_use(server, WARM_UP_CONNECTIONS, interrupt, &mut open)?;
    let before = resident_when_stable(server.pid()).map_err(failed)?;
    open.extend(open_idle_connections(server, count, interrupt)?);
    let after = resident_when_stable(server.pid()).map_err(failed)?;
    Ok((after.saturating_sub(before) as f64 / count as f64).round())
}

/// Opens `count` connections, sends one request on each, and returns them idle.
///
/// # Errors
///
/// As [`bytes_per_connection`].
pub(crate) fn open_idle_connections(
    server: &ServerProcess,
    count: usize,
    interrupt: &Interrupt,
) -> Result<Vec<TcpStream>, CliError> {
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let missing = count - open.len();
        open_and_use(server, missing.min(BATCH), interrupt, &mut open)?;
    }
    Ok(open)
}

/// Opens `count` connections and sends one request on each.
fn open_and_use(
    server: &ServerProcess,
    count: usize,
    interrupt: &Interrupt,
    open: &mut Vec<TcpStream>,
) -> Result<(), CliError> {
    for fd in connect_all(server.addr().into(), count, interrupt)? {
        let mut stream = TcpStream::from(fd);
        send_request(&mut stream)
            .map_err(|error| CliError::io("send a request on a connection", &error))?;
        open.push(stream);
    }
    Ok(())
}

fn send_request(stream: &mut TcpStream) -> io::Result<()> {
    let mut request = [0x5a; 4 + 1024];
    request[..4].copy_from_slice(&1024u32.to_be_bytes());
    let mut answer = [0; 4 + 1024];
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
    stream.write_all(&request)?;
    stream.read_exact(&mut answer)?;
    if answer == request {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the response differs from the request",
        ))
    }
}

/// Returns the resident bytes of a process once they stop falling: a server may free memory a
/// moment after its last response.
fn resident_when_stable(pid: u32) -> io::Result<u64> {
    let mut last = resident_bytes(pid)?;
    for _ in 0..SAMPLES {
        thread::sleep(SAMPLE_INTERVAL);
        let now = resident_bytes(pid)?;
        if now >= last {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// Connections that are used before the first sample.
const WARM_UP_CONNECTIONS: usize = 16;

/// Connections opened at a time; fewer than a listener queues.
const BATCH: usize = 256;

/// Longer than any response on the loopback takes.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

const SAMPLES: u32 = 20;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
