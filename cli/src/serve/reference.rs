// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reference server: the speed of epoll on one thread with nothing between it and the frames.
//!
//! It answers each rpc frame (4-byte big-endian length, that many bytes) with a copy of the frame,
//! as fast as we know how. It is not a peer of the framework but its upper limit. The distance
//! between the two is the cost of connections with owners, futures, deadlines and limits; the
//! reference has none of these. It does not drain on shutdown, and a peer that sends half a frame
//! and goes silent keeps its connection for ever.
//!
//! ```text
//! wake -> recv -> one scratch buffer for all -> scan the frames -> copy them -> send, once
//!                 \ a large frame: a buffer of its size, read in place, then the same
//! ```
//!
//! Its rules:
//!
//! * One `recv` and one `send` for each readiness event, however many frames arrived.
//! * A connection with an unsent response is not read: a peer that does not read its responses
//!   makes the server hold one response, not many.
//! * An idle connection holds no buffer. Its buffers return to [`BufferPool`].

mod buffer_pool;
mod connection;
mod frames;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netpoll_sys::socket::{self, ListenOptions};
use netpoll_sys::{Addr, Epoll, Events, Interest, UnixAddr, options};
use slab::Slab;

use crate::busy_poll;

use buffer_pool::BufferPool;
use connection::{ConnectionStatus, ReferenceConnection};

/// A bare rpc server on the calling thread.
#[derive(Debug)]
pub(crate) struct ReferenceServer {
    epoll: Epoll,
    listener: OwnedFd,
    addr: Addr,
    /// The listener's interest; none while the process is out of descriptors.
    accepting: Interest,
    /// Readable once the server is to stop. Kept open so that epoll keeps watching it.
    _stop: OwnedFd,
    /// A connection's slot is its token. A slot may be reused within one batch of events; a stale
    /// event then costs the new connection a read that finds nothing.
    connections: Slab<ReferenceConnection>,
    buffers: BufferPool,
    /// The time to busy-poll before each sleep.
    busy_poll: Duration,
}

impl ReferenceServer {
    /// Listens on `addr`. The server ends when `stop` becomes readable, and busy-polls for
    /// `busy_poll` before each sleep.
    ///
    /// # Errors
    ///
    /// The error of the bind or of setting epoll up.
    pub(crate) fn bind(addr: Addr, stop: OwnedFd, busy_poll: Duration) -> io::Result<Self> {
        // A load may connect faster than one thread accepts.
        let options = ListenOptions::default().backlog(4096);
        let listener = socket::listen(addr, options)?;
        let addr = socket::local_addr(&listener)?;
        let epoll = Epoll::new()?;
        epoll.add(listener.as_fd(), LISTENER, Interest::READABLE)?;
        epoll.add(stop.as_fd(), STOP, Interest::READABLE)?;
        Ok(Self {
            epoll,
            listener,
            addr,
            accepting: Interest::READABLE,
            _stop: stop,
            connections: Slab::new(),
            buffers: BufferPool::new(),
            busy_poll,
        })
    }

    /// Returns the bound address, with the port that the kernel chose.
    pub(crate) fn local_addr(&self) -> Addr {
        self.addr
    }

    /// Serves until `stop` becomes readable.
    ///
    /// # Errors
    ///
    /// Errors of the epoll instance.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let count = busy_poll::wait(&self.epoll, &mut events, self.busy_poll, None)?;
            for index in 0..count {
                match events.get(index) {
                    Some((LISTENER, _)) => self.accept()?,
                    Some((STOP, _)) => return Ok(()),
                    Some((token, _)) => self.on_ready(token)?,
                    None => {}
                }
            }
        }
    }

    /// Accepts queued connections, at most [`ACCEPT_BATCH`], so that open ones are served in
    /// between.
    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPT_BATCH {
            match socket::accept(self.listener.as_fd()) {
                Ok((fd, _)) => self.register(fd)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // A resource is exhausted. The listener would be ready again immediately, so it is
                // not watched until a connection closes and frees the resource.
                Err(_) => return self.set_accept_interest(Interest::NONE),
            }
        }
        Ok(())
    }

    fn register(&mut self, fd: OwnedFd) -> io::Result<()> {
        // A connection without the option is slower, or not TCP; neither is an error.
        options::set_nodelay(fd.as_fd(), true).ok();
        let slot = self.connections.vacant_entry();
        self.epoll
            .add(fd.as_fd(), slot.key() as u64, Interest::READABLE)?;
        slot.insert(ReferenceConnection::new(fd));
        Ok(())
    }

    fn on_ready(&mut self, token: u64) -> io::Result<()> {
        let slot = token as usize;
        let Some(peer) = self.connections.get_mut(slot) else {
            return Ok(());
        };
        let before = peer.interest();
        match peer.on_ready(&mut self.buffers) {
            ConnectionStatus::Open => {
                let wanted = peer.interest();
                if wanted != before {
                    self.epoll.modify(peer.as_fd(), token, wanted)?;
                }
            }
            ConnectionStatus::Closed => {
                // Dropping the only descriptor of a socket also removes it from epoll.
                drop(self.connections.remove(slot));
                self.set_accept_interest(Interest::READABLE)?;
            }
        }
        Ok(())
    }

    fn set_accept_interest(&mut self, wanted: Interest) -> io::Result<()> {
        if self.accepting != wanted {
            self.epoll.modify(self.listener.as_fd(), LISTENER, wanted)?;
            self.accepting = wanted;
        }
        Ok(())
    }
}

impl Drop for ReferenceServer {
    fn drop(&mut self) {
        if let Some(path) = self.addr.as_unix().and_then(UnixAddr::as_path) {
            // This process has created it: binding to an existing path fails.
            std::fs::remove_file(path).ok();
        }
    }
}

const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// Large enough to accept many connections quickly, small enough to delay open connections little.
const ACCEPT_BATCH: usize = 64;
