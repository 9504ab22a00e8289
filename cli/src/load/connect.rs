// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens many connections, a window of them at a time.
//!
//! Thousands of connects at once overflow the queue of a listener, and the kernel then waits a
//! second before it tries those again. A window that is smaller than any usual queue connects as
//! fast as the server accepts, and not faster.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netpoll_sys::socket::ConnectStatus;
use netpoll_sys::{Addr, Epoll, Events, Interest, options, socket};

use crate::error::CliError;
use crate::signal::Interrupt;

/// Opens `count` connections to `addr`, non-blocking and without delay for small writes.
///
/// # Errors
///
/// The first connection that cannot be had, an interrupt, or ten seconds in which none came about.
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
    // A token is an index into these; the place of a connection that stands is used again.
    let mut under_way: Vec<Option<OwnedFd>> = (0..WINDOW.min(count)).map(|_| None).collect();
    let mut started = 0;
    let mut silent = Duration::ZERO;
    while connected.len() < count {
        let mut pause = POLL_INTERVAL;
        for (token, place) in under_way.iter_mut().enumerate() {
            if place.is_none() && started < count {
                *place = start(addr, &epoll, token as u64).map_err(failed)?;
                if place.is_none() {
                    pause = QUEUE_RETRY_INTERVAL;
                    break;
                }
                started += 1;
            }
        }
        let ready = epoll.wait(&mut events, Some(pause)).map_err(failed)?;
        for token in (0..ready).filter_map(|index| Some(events.get(index)?.0)) {
            if let Some(fd) = under_way[token as usize].take() {
                connected.push(finish(fd, &epoll).map_err(failed)?);
            }
        }
        silent = if ready == 0 {
            silent + pause
        } else {
            Duration::ZERO
        };
        if interrupt.is_set() {
            return Err(CliError::new("interrupted while connecting"));
        }
        if silent > CONNECT_TIMEOUT {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
    }
    Ok(connected)
}

/// `None` if the listener, a Unix socket, has no room for it now.
fn start(addr: Addr, epoll: &Epoll, token: u64) -> io::Result<Option<OwnedFd>> {
    let fd = socket::stream_socket(addr)?;
    if addr.as_tcp().is_some() {
        options::set_nodelay(fd.as_fd(), true)?;
    }
    if socket::connect(fd.as_fd(), addr)? == ConnectStatus::QueueFull {
        return Ok(None);
    }
    // Done or under way, both end alike: a connected socket is writable.
    epoll.add(fd.as_fd(), token, Interest::WRITABLE)?;
    Ok(Some(fd))
}

fn is_connected_to_itself(fd: &OwnedFd) -> io::Result<bool> {
    let local = socket::local_addr(fd)?;
    // A peer that has gone already was another.
    Ok(local.as_tcp().is_some() && socket::peer_addr(fd).is_ok_and(|peer| peer == local))
}

fn finish(fd: OwnedFd, epoll: &Epoll) -> io::Result<OwnedFd> {
    epoll.delete(fd.as_fd())?;
    match socket::take_error(fd.as_fd())? {
        Some(error) => Err(error),
        // A port that nobody listens on may be the one that the socket was given: it would answer
        // itself.
        None if is_connected_to_itself(&fd)? => Err(io::ErrorKind::ConnectionRefused.into()),
        None => Ok(fd),
    }
}

/// Below the backlog of 128 that was the usual one for long.
const WINDOW: usize = 100;

/// How often an interrupt is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How soon a queue that was full is tried again.
const QUEUE_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// How long nothing may come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
