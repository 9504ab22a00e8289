// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`OwnedReader`] and [`OwnedWriter`]: the two directions of a connection with an owner each.
//!
//! A connection's end is asked for by the drop of its [`Grip`]. Whoever owns the connection has it;
//! two halves share one, so the end is asked for by the drop of the second. Put together again the
//! halves give the grip back, and nothing is asked for.

use std::ops::Deref;

use super::handle::ConnectionHandle;
use super::link::{Ending, Link};
use super::reader::Reader;
use super::writer::Writer;
use super::{Connection, Held};
use crate::addr::Addr;
use crate::sync::Arc;

/// What keeps a connection open: its drop asks for the end.
#[derive(Debug)]
pub(super) struct Grip(Arc<Link>);

impl Grip {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self(link)
    }
}

impl Deref for Grip {
    type Target = Arc<Link>;

    #[inline]
    fn deref(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for Grip {
    fn drop(&mut self) {
        self.0.ask_end(if std::thread::panicking() {
            Ending::Panic
        } else {
            Ending::Drop
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
    grip: Arc<Grip>,
    held: Box<Held>,
}

/// The writing side of a connection, with an owner of its own. `Send`. Made by
/// [`Connection::into_split`].
///
/// The connection ends when both halves are dropped. A writer that is dropped alone ends nothing,
/// also not its stream; what it has not committed is dropped with it.
#[derive(Debug)]
pub struct OwnedWriter {
    grip: Arc<Grip>,
    parting: Parting,
}

/// What becomes of an open reservation when a writer is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parting {
    /// Nobody can commit it any more.
    Ends,
    /// It is the connection's.
    GoesOn,
}

impl Drop for OwnedWriter {
    fn drop(&mut self) {
        self.grip.put_together();
        if self.parting == Parting::Ends {
            self.grip.discard_draft();
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
        let Self { link, held } = self;
        let grip = Arc::new(link);
        let writer = OwnedWriter::of(&grip);
        (OwnedReader { grip, held }, writer)
    }
}

impl OwnedReader {
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.grip
    }

    /// The reading side, to be read from. Dropping it is nothing: it may be made for each call.
    #[inline]
    pub fn reader(&mut self) -> Reader<'_> {
        Reader::new(&self.grip, &mut self.held.input)
    }

    /// What can be asked of the connection from elsewhere. No allocation.
    #[must_use]
    pub fn handle(&self) -> ConnectionHandle {
        ConnectionHandle::new(&self.grip)
    }

    /// The address of the other end, as it was when the connection was made. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.grip.peer()
    }

    /// Puts the halves of one connection together again. Nothing happens to the connection, nor to a
    /// reservation that is open.
    ///
    /// # Errors
    ///
    /// Both halves as they were, if they are of two connections.
    pub fn reunite(self, mut writer: OwnedWriter) -> Result<Connection, (Self, OwnedWriter)> {
        if !Arc::ptr_eq(&self.grip, &writer.grip) {
            return Err((self, writer));
        }
        let Self { grip, held } = self;
        writer.parting = Parting::GoesOn;
        drop(writer);
        match Arc::try_unwrap(grip) {
            Ok(link) => Ok(Connection { link, held }),
            // There is no third that would have it.
            Err(grip) => {
                let writer = OwnedWriter::of(&grip);
                Err((Self { grip, held }, writer))
            }
        }
    }
}

impl OwnedWriter {
    fn of(grip: &Arc<Grip>) -> Self {
        grip.split_apart();
        Self {
            grip: Arc::clone(grip),
            parting: Parting::Ends,
        }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.grip
    }

    /// The writing side, to be written to. Dropping it is nothing: it may be made for each call.
    #[inline]
    pub fn writer(&mut self) -> Writer<'_> {
        Writer::new(&self.grip)
    }

    /// What can be asked of the connection from elsewhere. No allocation.
    #[must_use]
    pub fn handle(&self) -> ConnectionHandle {
        ConnectionHandle::new(&self.grip)
    }

    /// The address of the other end, as it was when the connection was made. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.grip.peer()
    }
}
