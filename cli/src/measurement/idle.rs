// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a connection costs while nothing happens on it: resident memory of the server's process.
//!
//! Each connection is used once, because only a connection that had a buffer can show that it gave
//! it back. The kernel's own memory for a socket is not counted; it is the same for every server.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::error::CliError;
use crate::load::connect::connect_all;
use crate::process_stats::resident_bytes;
use crate::signal::Interrupt;

use super::server_process::ServerProcess;

/// As many of `wanted` connections as the descriptor limit allows: a quarter of it is left to
/// everything else, which is more than a server keeps free of connections by default.
pub(crate) fn affordable(wanted: usize) -> usize {
    let limit = netpoll_sys::process::descriptor_limit();
    let room = usize::try_from(limit / 4 * 3).unwrap_or(usize::MAX);
    wanted.min(room).max(1)
}

/// The resident bytes `server` holds for each of `count` connections that were used once and are
/// idle since.
///
/// # Errors
///
/// A connection that cannot be had or is not answered.
pub(crate) fn bytes_per_connection(
    server: &ServerProcess,
    count: usize,
    interrupt: &Interrupt,
) -> Result<f64, CliError> {
    let failed =
        |error: io::Error| CliError::io(format_args!("keep {count} connections idle"), &error);
    // What a server allocates once for all its connections is not a cost of any of them.
    let mut open = Vec::with_capacity(count + WARM_UP_CONNECTIONS);
    open_and_use(server, WARM_UP_CONNECTIONS, interrupt, &mut open)?;
    let before = settled(server.pid()).map_err(failed)?;
    open.extend(open_idle_connections(server, count, interrupt)?);
    let after = settled(server.pid()).map_err(failed)?;
    Ok((after.saturating_sub(before) as f64 / count as f64).round())
}

/// So many connections that were used once and are idle from then on.
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

/// Opens `count` connections, and asks and is answered on each.
fn open_and_use(
    server: &ServerProcess,
    count: usize,
    interrupt: &Interrupt,
    open: &mut Vec<TcpStream>,
) -> Result<(), CliError> {
    for fd in connect_all(server.addr().into(), count, interrupt)? {
        let mut stream = TcpStream::from(fd);
        ask(&mut stream).map_err(|error| CliError::io("use a connection once", &error))?;
        open.push(stream);
    }
    Ok(())
}

fn ask(stream: &mut TcpStream) -> io::Result<()> {
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
        Err(io::Error::new(io::ErrorKind::InvalidData, "a wrong answer"))
    }
}

/// The resident bytes of a process once they no longer fall: a server may tidy up a moment after
/// its last answer.
fn settled(pid: u32) -> io::Result<u64> {
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

/// Connections that are used before anything is counted.
const WARM_UP_CONNECTIONS: usize = 16;

/// Connections opened before they are used; fewer than a listener queues.
const BATCH: usize = 256;

/// Nothing on the loopback takes longer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

const SAMPLES: u32 = 20;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
