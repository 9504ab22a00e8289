// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bare loop: what epoll on one thread gives when nothing stands between it and the frames.
//!
//! It answers each rpc frame (4-byte big-endian length, that many bytes) with the same frame in
//! memory of its own, and is as fast as we know how to make it. It is not a peer of the framework
//! but its limit: the distance between the two is what connections with owners, futures, deadlines
//! and bounds cost. It has none of these. It does not drain when asked to stop, and a peer that
//! sends half a frame and goes silent keeps its place for ever.
//!
//! ```text
//! wake -> recv -> one scratch buffer for all -> measure the frames -> copy them -> send, once
//!                 \ a large frame: a buffer of its size, read in place, then the same
//! ```
//!
//! What it keeps to:
//!
//! * One `recv` and one `send` for each readiness, however many frames arrived.
//! * While an answer waits for room, the connection is not read: a peer that does not take its
//!   answers can make the server hold one answer, not many.
//! * A connection at rest holds no buffer. What it used goes back to [`BufferPool`].

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
    /// Whether the listener is watched. It is not while there are no descriptors left.
    accepting: Interest,
    /// Readable once the server is to stop. Held so that it stays watched.
    _stop: OwnedFd,
    /// A connection's slot is its token. A slot may be taken again within one batch of events; an
    /// event for the one before it then costs its successor a read that finds nothing.
    connections: Slab<ReferenceConnection>,
    buffers: BufferPool,
    /// How long it stays awake before it sleeps.
    busy_poll: Duration,
}

impl ReferenceServer {
    /// Listens on `addr`; the server ends when `stop` becomes readable. It stays awake for
    /// `busy_poll` before it sleeps, each time.
    ///
    /// # Errors
    ///
    /// What keeps the address from being listened on.
    pub(crate) fn bind(addr: Addr, stop: OwnedFd, busy_poll: Duration) -> io::Result<Self> {
        let mut backlog = ListenOptions::default();
        // A load may connect faster than one thread accepts.
        backlog.backlog = 4096;
        let listener = socket::listen(addr, backlog)?;
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

    /// Where it listens, with the port the kernel chose.
    pub(crate) fn local_addr(&self) -> Addr {
        self.addr
    }

    /// Serves until `stop` becomes readable.
    ///
    /// # Errors
    ///
    /// Only those of a broken epoll instance.
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

    /// Takes what the kernel has queued, up to a bound, so that connections go on being served.
    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPT_BATCH {
            match socket::accept(self.listener.as_fd()) {
                Ok((fd, _)) => self.register(fd)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Something has run out. A connection that ends gives it back; until then the
                // listener would only be ready again at once.
                Err(_) => return self.set_accept_interest(Interest::NONE),
            }
        }
        Ok(())
    }

    fn register(&mut self, fd: OwnedFd) -> io::Result<()> {
        // A connection that cannot have it is slower, or not TCP, but not wrong.
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
                // Dropping the only descriptor of a socket takes it out of epoll as well.
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
            // We have made it: a path that was there is refused.
            std::fs::remove_file(path).ok();
        }
    }
}

const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// Enough to empty a burst quickly, few enough that connections do not notice.
const ACCEPT_BATCH: usize = 64;
