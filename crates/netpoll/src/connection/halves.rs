// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`OwnedReader`] and [`OwnedWriter`]: the two directions of a connection with an owner each.
//!
//! A connection's end is asked for by the drop of its [`CloseGuard`]. Whoever owns the connection has it;
//! two halves share one, so the end is asked for by the drop of the second. Put together again the
//! halves give the grip back, and nothing is asked for.

use std::ops::Deref;

use super::handle::ConnectionHandle;
use super::reader::Reader;
use super::shared::{CloseRequest, Shared};
use super::writer::Writer;
use super::{Connection, LocalState};
use crate::addr::Addr;
use crate::sync::Arc;

/// What keeps a connection open: its drop asks for the end.
#[derive(Debug)]
pub(super) struct CloseGuard(Arc<Shared>);

impl CloseGuard {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl Deref for CloseGuard {
    type Target = Arc<Shared>;

    #[inline]
    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for CloseGuard {
    fn drop(&mut self) {
        self.0.request_close(if std::thread::panicking() {
            CloseRequest::Panic
        } else {
            CloseRequest::Drop
        });
    }
}

/// The reading side of a connection, with an owner of its own. `Send`. Made by
/// [`Connection::into_split`].
///
/// The connection ends when both halves are dropped; a reader that is dropped alone leaves the
/// writer as it is, and what the peer sends then waits, up to
/// [`read_high`](crate::ConnOptions::read_high).
#[derive(Debug)]
pub struct OwnedReader {
    guard: Arc<CloseGuard>,
    local: Box<LocalState>,
}

/// The writing side of a connection, with an owner of its own. `Send`. Made by
/// [`Connection::into_split`].
///
/// The connection ends when both halves are dropped. A writer that is dropped alone ends nothing,
/// also not its stream; what it has not committed is dropped with it.
#[derive(Debug)]
pub struct OwnedWriter {
    guard: Arc<CloseGuard>,
    on_drop: UncommittedPolicy,
}

/// What becomes of an open reservation when a writer is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UncommittedPolicy {
    /// Nobody can commit it any more.
    Discard,
    /// It is the connection's.
    Keep,
}

impl Drop for OwnedWriter {
    fn drop(&mut self) {
        self.guard.mark_reunited();
        if self.on_drop == UncommittedPolicy::Discard {
            self.guard.discard_uncommitted();
        }
    }
}

impl Connection {
    /// Gives each direction an owner of its own, for two tasks or threads that work at once. What
    /// is [attached](Self::attach) goes with the reader. One allocation, and two the first time.
    ///
    /// ```no_run
    /// # async fn example(conn: netpoll::Connection) -> std::io::Result<()> {
    /// let (mut reader, mut writer) = conn.into_split();
    /// let sending = std::thread::spawn(move || {
    ///     (0..1000).for_each(|number| writer.writer().put_u32(number));
    ///     writer
    /// });
    /// while let Some(answers) = reader.reader().chunk().await? {
    ///     println!("{} bytes", answers.len());
    /// }
    /// # let _ = sending;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn into_split(self) -> (OwnedReader, OwnedWriter) {
        let Self {
            shared,
            local: held,
        } = self;
        let guard = Arc::new(shared);
        let writer = OwnedWriter::of(&guard);
        (OwnedReader { guard, local: held }, writer)
    }
}

impl OwnedReader {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.guard
    }

    /// The reading side, to be read from. Dropping it is nothing: it may be made for each call.
    #[inline]
    pub fn reader(&mut self) -> Reader<'_> {
        Reader::new(&self.guard, &mut self.local.reader)
    }

    /// What can be asked of the connection from elsewhere. No allocation.
    #[must_use]
    pub fn handle(&self) -> ConnectionHandle {
        ConnectionHandle::new(&self.guard)
    }

    /// The address of the other end, as it was when the connection was made. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.guard.peer()
    }

    /// Puts the halves of one connection together again. Nothing happens to the connection, nor to a
    /// reservation that is open.
    ///
    /// # Errors
    ///
    /// Both halves as they were, if they are of two connections.
    pub fn reunite(self, mut writer: OwnedWriter) -> Result<Connection, (Self, OwnedWriter)> {
        if !Arc::ptr_eq(&self.guard, &writer.guard) {
            return Err((self, writer));
        }
        let Self { guard, local: held } = self;
        writer.on_drop = UncommittedPolicy::Keep;
        drop(writer);
        match Arc::try_unwrap(guard) {
            Ok(shared) => Ok(Connection {
                shared,
                local: held,
            }),
            // There is no third that would have it.
            Err(guard) => {
                let writer = OwnedWriter::of(&guard);
                Err((Self { guard, local: held }, writer))
            }
        }
    }
}

impl OwnedWriter {
    fn of(guard: &Arc<CloseGuard>) -> Self {
        guard.mark_split();
        Self {
            guard: Arc::clone(guard),
            on_drop: UncommittedPolicy::Discard,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.guard
    }

    /// The writing side, to be written to. Dropping it is nothing: it may be made for each call.
    #[inline]
    pub fn writer(&mut self) -> Writer<'_> {
        Writer::new(&self.guard)
    }

    /// What can be asked of the connection from elsewhere. No allocation.
    #[must_use]
    pub fn handle(&self) -> ConnectionHandle {
        ConnectionHandle::new(&self.guard)
    }

    /// The address of the other end, as it was when the connection was made. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.guard.peer()
    }
}
