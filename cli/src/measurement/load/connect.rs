// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens many connections, a window of them at a time.
//!
//! Thousands of simultaneous connects overflow the listener's queue, and the kernel then waits a
//! second before it retries them. A window smaller than any usual queue connects as fast as the
//! server accepts.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netpoll_sys::socket::ConnectStatus;
use netpoll_sys::{Addr, Epoll, Events, Interest, options, socket};

use crate::error::CliError;
use crate::signal::Interrupt;

/// Opens `count` connections to `addr`, non-blocking and with TCP_NODELAY.
///
/// # Errors
///
/// The first connection that fails, an interrupt, or ten seconds without progress.
pub(crate) fn connect_all(
    addr: Addr,
    count: usize,
    interrupt: &Interrupt,
) -> Result<Vec<OwnedFd>, CliError> {
    let failed =
        |error: io::Error| CliError::io(format_args!("open {count} connections to {addr}"), &error);
    let epoll = Epoll::new().map_err(failed)?;
    let mut events = Events::with_capacity(WINDOW);
    let mut connected = Vec::with_capacity(count);
    // A token is an index into this list; the slot of an open connection is reused.
    let mut pending: Vec<Option<OwnedFd>> = (0..WINDOW.min(count)).map(|_| None).collect();
    let mut started = 0;
    let mut idle = Duration::ZERO;
    while connected.len() < count {
        let mut pause = POLL_INTERVAL;
        for (token, slot) in pending.iter_mut().enumerate() {
            if slot.is_none() && started < count {
                *slot = start(addr, &epoll, token as u64).map_err(failed)?;
                if slot.is_none() {
                    pause = QUEUE_RETRY_INTERVAL;
                    break;
                }
                started += 1;
            }
        }
        let ready = epoll.wait(&mut events, Some(pause)).map_err(failed)?;
        for token in (0..ready).filter_map(|index| Some(events.get(index)?.0)) {
            if let Some(fd) = pending[token as usize].take() {
                connected.push(finish(fd, &epoll).map_err(failed)?);
            }
        }
        idle = if ready == 0 {
            idle + pause
        } else {
            Duration::ZERO
        };
        if interrupt.is_set() {
            return Err(CliError::new("interrupted while connecting"));
        }
        if idle > CONNECT_TIMEOUT {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
    }
    Ok(connected)
}

/// Starts to connect. `None` if the listener is a Unix socket whose queue is full.
fn start(addr: Addr, epoll: &Epoll, token: u64) -> io::Result<Option<OwnedFd>> {
    let fd = socket::stream_socket(addr)?;
    if addr.as_tcp().is_some() {
        options::set_nodelay(fd.as_fd(), true)?;
    }
    if socket::connect(fd.as_fd(), addr)? == ConnectStatus::QueueFull {
        return Ok(None);
    }
    // Connected or connecting: either way, the socket becomes writable.
    epoll.add(fd.as_fd(), token, Interest::WRITABLE)?;
    Ok(Some(fd))
}

fn is_connected_to_itself(fd: &OwnedFd) -> io::Result<bool> {
    let local = socket::local_addr(fd)?;
    // A peer that is already gone was a different socket.
    Ok(local.as_tcp().is_some() && socket::peer_addr(fd).is_ok_and(|peer| peer == local))
}

fn finish(fd: OwnedFd, epoll: &Epoll) -> io::Result<OwnedFd> {
    epoll.delete(fd.as_fd())?;
    match socket::take_error(fd.as_fd())? {
        Some(error) => Err(error),
        // The kernel may have given the socket the very port that it connects to, if no server
        // listens there. It is then connected to itself.
        None if is_connected_to_itself(&fd)? => Err(io::ErrorKind::ConnectionRefused.into()),
        None => Ok(fd),
    }
}

/// Below 128, long the default backlog.
const WINDOW: usize = 100;

/// The interval of interrupt checks.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The retry interval for a full queue.
const QUEUE_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// The longest time without progress.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
