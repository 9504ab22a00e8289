// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens many connections, a window of them at a time.
//!
//! Thousands of connects at once overflow the queue of a listener, and the kernel then waits a
//! second before it tries those again. A window that is smaller than any usual queue connects as
//! fast as the server accepts, and not faster.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netpoll_sys::{Epoll, Events, Interest, options, socket};

use crate::failure::Failure;
use crate::signal::Interrupt;

/// Opens `count` connections to `addr`, non-blocking and without delay for small writes.
///
/// # Errors
///
/// The first connection that cannot be had, an interrupt, or ten seconds in which none came about.
pub(crate) fn connect_all(
    addr: SocketAddr,
    count: usize,
    interrupt: &Interrupt,
) -> Result<Vec<OwnedFd>, Failure> {
    let failed = |error: io::Error| {
        Failure::while_trying(format_args!("open {count} connections to {addr}"), &error)
    };
    let epoll = Epoll::new().map_err(failed)?;
    let mut events = Events::with_capacity(WINDOW);
    let mut connected = Vec::with_capacity(count);
    // A token is an index into these; the place of a connection that stands is used again.
    let mut under_way: Vec<Option<OwnedFd>> = (0..WINDOW.min(count)).map(|_| None).collect();
    let mut started = 0;
    let mut silent_turns = 0;
    while connected.len() < count {
        for (token, place) in under_way.iter_mut().enumerate() {
            if place.is_none() && started < count {
                *place = Some(start(addr, &epoll, token as u64).map_err(failed)?);
                started += 1;
            }
        }
        let ready = epoll.wait(&mut events, Some(TURN)).map_err(failed)?;
        for token in (0..ready).filter_map(|index| Some(events.get(index)?.0)) {
            if let Some(fd) = under_way[token as usize].take() {
                connected.push(finish(fd, &epoll).map_err(failed)?);
            }
        }
        silent_turns = if ready == 0 { silent_turns + 1 } else { 0 };
        if interrupt.came() {
            return Err(Failure::new("interrupted while connecting"));
        }
        if silent_turns > SILENT_TURNS {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
    }
    Ok(connected)
}

fn start(addr: SocketAddr, epoll: &Epoll, token: u64) -> io::Result<OwnedFd> {
    let fd = socket::stream_socket(addr)?;
    options::set_nodelay(fd.as_fd(), true)?;
    // Done or under way, both end alike: a connected socket is writable.
    socket::connect(fd.as_fd(), addr)?;
    epoll.add(fd.as_fd(), token, Interest::WRITABLE)?;
    Ok(fd)
}

fn finish(fd: OwnedFd, epoll: &Epoll) -> io::Result<OwnedFd> {
    epoll.delete(fd.as_fd())?;
    match socket::take_error(fd.as_fd())? {
        Some(error) => Err(error),
        None => Ok(fd),
    }
}

/// Below the backlog of 128 that was the usual one for long.
const WINDOW: usize = 100;

/// How often an interrupt is looked for.
const TURN: Duration = Duration::from_millis(100);

/// Ten seconds.
const SILENT_TURNS: u32 = 100;
