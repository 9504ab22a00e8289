// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bare io_uring loop: one ring, one thread, a multishot accept, a multishot receive for each
//! connection into buffers that the kernel selects, and one send for all responses of a connection
//! to one batch of completions. Like the bare epoll loop, it is an upper limit and not a peer.
//!
//! It supports `rpc` only.

mod buffers;
mod connection;

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode, squeue};
use peer_options::{Kind, NoMore, Options, listening_on, unable};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown, sockopt};
use slab::Slab;

use buffers::{Buffers, GROUP};
use connection::Connection;

fn main() {
    let options = Options::<NoMore>::parse_for(&[Kind::Rpc]);
    options.only_one_thread("a ring is one thread's");
    let listener = TcpListener::bind(options.addr);
    let listener = listener.unwrap_or_else(|error| unable("listen", error));
    let bound = listener.local_addr();
    let mut server = Server::new(listener).unwrap_or_else(|error| unable("set up a ring", error));
    listening_on(bound.unwrap_or_else(|error| unable("learn the address", error)));
    if let Err(error) = server.run() {
        unable("serve", error);
    }
}

/// The request that a completion belongs to, in the low bits of its user data, below the
/// connection's slot.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const CANCEL: u64 = 3;
const OPERATION: u64 = 3;
const SLOT_SHIFT: u32 = 2;

struct Server {
    ring: IoUring,
    buffers: Buffers,
    listener: TcpListener,
    accepts: bool,
    connections: Slab<Connection>,
    /// Slots with work after the batch. A slot may occur twice.
    touched: Vec<usize>,
    batch: Vec<cqueue::Entry>,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(8192)
            .build(1024)?;
        let buffers = Buffers::register(&ring.submitter())?;
        Ok(Self {
            ring,
            buffers,
            listener,
            accepts: false,
            connections: Slab::new(),
            touched: Vec::new(),
            batch: Vec::new(),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            if !self.accepts {
                self.accept()?;
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let mut batch = std::mem::take(&mut self.batch);
            batch.extend(self.ring.completion());
            for completion in batch.drain(..) {
                let slot = (completion.user_data() >> SLOT_SHIFT) as usize;
                match completion.user_data() & OPERATION {
                    ACCEPT => self.accepted(&completion),
                    RECEIVE => self.received(slot, &completion),
                    SEND => self.sent(slot, completion.result()),
                    _ => {}
                }
            }
            self.batch = batch;
            self.buffers.publish();
            while let Some(slot) = self.touched.pop() {
                self.go_on(slot)?;
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let listener = Fd(self.listener.as_raw_fd());
        let accept = opcode::AcceptMulti::new(listener).build();
        self.accepts = true;
        self.push(&accept.user_data(ACCEPT))
    }

    fn accepted(&mut self, completion: &cqueue::Entry) {
        // A lack of resources ends it; the next completion tries again.
        self.accepts = cqueue::more(completion.flags());
        let fd: RawFd = completion.result();
        if fd < 0 {
            return;
        }
        // SAFETY: the kernel has just opened it, for this completion alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // A connection without the option is slower; that is not an error.
        sockopt::set_tcp_nodelay(&fd, true).ok();
        let slot = self.connections.insert(Connection::new(fd));
        self.touched.push(slot);
    }

    fn received(&mut self, slot: usize, completion: &cqueue::Entry) {
        let connection = &mut self.connections[slot];
        connection.receives = cqueue::more(completion.flags());
        self.touched.push(slot);
        let result = completion.result();
        if let Some(id) = cqueue::buffer_select(completion.flags()) {
            let len = usize::try_from(result).unwrap_or(0);
            if !connection.over && connection.came(self.buffers.bytes(id, len)).is_err() {
                end(connection);
            }
            self.buffers.give(id);
        }
        // No buffer was left, or the receive was cancelled: it continues later. Otherwise the
        // connection has ended.
        let goes_on = [Errno::NOBUFS, Errno::CANCELED].map(|errno| -errno.raw_os_error());
        if result == 0 || (result < 0 && !goes_on.contains(&result)) {
            end(connection);
        }
    }

    fn sent(&mut self, slot: usize, result: i32) {
        let connection = &mut self.connections[slot];
        connection.was_sent(usize::try_from(result).unwrap_or(0));
        if result < 0 {
            end(connection);
        }
        self.touched.push(slot);
    }

    /// Starts the next request of a connection, or drops the connection.
    fn go_on(&mut self, slot: usize) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(slot) else {
            return Ok(());
        };
        if connection.is_gone() {
            self.connections.remove(slot);
            return Ok(());
        }
        let fd = Fd(connection.fd());
        let send = connection.next_send().map(|bytes| {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            opcode::Send::new(fd, bytes.as_ptr(), len)
                .flags(MSG_NOSIGNAL)
                .build()
                .user_data(user_data(slot, SEND))
        });
        let receive = match (connection.receives, connection.wants_more()) {
            (false, true) => {
                connection.receives = true;
                let receive = opcode::RecvMulti::new(fd, GROUP).build();
                Some(receive.user_data(user_data(slot, RECEIVE)))
            }
            (true, false) if !connection.over => {
                let cancel = opcode::AsyncCancel::new(user_data(slot, RECEIVE)).build();
                Some(cancel.user_data(user_data(slot, CANCEL)))
            }
            _ => None,
        };
        for entry in [send, receive].into_iter().flatten() {
            self.push(&entry)?;
        }
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what an entry points to stays until its completion: the buffers for ever, the
            // bytes of a send because a connection keeps them and itself until then.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }
}

/// Cancels the kernel's requests for a connection that has ended.
fn end(connection: &mut Connection) {
    connection.over = true;
    shutdown(connection.owned_fd(), Shutdown::Both).ok();
}

fn user_data(slot: usize, operation: u64) -> u64 {
    (slot as u64) << SLOT_SHIFT | operation
}

/// A send on a closed connection is an error, not a signal.
const MSG_NOSIGNAL: i32 = rustix::net::SendFlags::NOSIGNAL.bits() as i32;
