// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`OwnedReader`] and [`OwnedWriter`]: the two directions of a connection, each with an owner.
//!
//! The drop of a connection's [`CloseGuard`] requests its close. The owner of the connection holds
//! the guard. Two halves share it, so the drop of the second half requests the close. Reuniting the
//! halves returns the guard, and requests nothing.

//! The halves have the methods of [`Reader`] and [`Writer`]: [`half_methods`] defines each of them
//! for the borrowed and for the owned type.

use std::ops::Deref;
use std::time::Instant;

use super::handle::ConnectionHandle;
use super::reader::{Reader, ReaderView};
use super::shared::{CloseRequest, Shared};
use super::writer::Writer;
use super::{Connection, LocalState};
use crate::addr::Addr;
use crate::sync::Arc;

/// Defines methods of a type, a borrowed one or the connection, and of its owned half. In the body
/// of a method, `|name|` is what the conversion `as` makes of its receiver. A generic parameter is in square brackets.
macro_rules! half_methods {
    (
        for $borrowed:ty, $owned:ty, as & $($kind:ident)+: $($methods:tt)*
    ) => {
        $crate::connection::halves::half_methods! { @impl $borrowed, $($kind)+: $($methods)* }
        $crate::connection::halves::half_methods! { @impl $owned, $($kind)+: $($methods)* }
    };
    (
        @impl $half:ty, mut $via:ident: $(
            $(#[$attribute:meta])*
            fn $name:ident $([$($generic:tt)*])? (&mut $this:ident $(, $arg:ident: $type:ty)* $(,)?)
                $(-> $output:ty)? = |$value:ident| $body:expr;
        )*
    ) => {
        impl $half {
            $(
                $(#[$attribute])*
                pub fn $name $(<$($generic)*>)? (&mut $this $(, $arg: $type)*) $(-> $output)? {
                    let $value = $this.$via();
                    $body
                }
            )*
        }
    };
    (
        @impl $half:ty, $via:ident: $(
            $(#[$attribute:meta])*
            fn $name:ident (&$this:ident) -> $output:ty = |$value:ident| $body:expr;
        )*
    ) => {
        impl $half {
            $(
                $(#[$attribute])*
                pub fn $name(&$this) -> $output {
                    let $value = $this.$via();
                    $body
                }
            )*
        }
    };
}

pub(super) use half_methods;

/// Keeps a connection open: its drop requests the close.
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

/// The reading side of a connection, with an owner of its own. It is `Send`. Made by
/// [`Connection::into_split`].
///
/// It reads as a [`Reader`] does, with the same methods, limits and errors.
///
/// The connection ends when both halves are dropped. Dropping the reader alone does not affect the
/// writer; later input then stays unread, up to
/// [`read_high`](crate::options::ConnOptions::read_high) bytes.
#[derive(Debug)]
pub struct OwnedReader {
    guard: Arc<CloseGuard>,
    local: Box<LocalState>,
}

/// The writing side of a connection, with an owner of its own. It is `Send`. Made by
/// [`Connection::into_split`].
///
/// It writes as a [`Writer`] does, with the same methods and limits.
///
/// The connection ends when both halves are dropped. Dropping the writer alone ends neither the
/// connection nor its output stream; uncommitted bytes are dropped with it.
#[derive(Debug)]
pub struct OwnedWriter {
    guard: Arc<CloseGuard>,
    on_drop: UncommittedPolicy,
}

/// How the drop of a writer treats an open reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UncommittedPolicy {
    /// It is discarded: no owner can commit it any more.
    Discard,
    /// It stays with the connection.
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
    /// Splits the connection into two halves, for two tasks or threads that work at once. The
    /// [attached](Self::attach) state stays with the reader. Makes one allocation, and two more the
    /// first time.
    ///
    /// ```no_run
    /// # async fn example(conn: netpoll::Connection) -> std::io::Result<()> {
    /// let (mut reader, mut writer) = conn.into_split();
    /// let sender = std::thread::spawn(move || {
    ///     (0..1000).for_each(|number| writer.put_u32(number));
    ///     writer.shutdown();
    ///     writer
    /// });
    /// while let Some(answers) = reader.chunk().await? {
    ///     println!("{} bytes", answers.len());
    /// }
    /// # let _ = sender;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn into_split(self) -> (OwnedReader, OwnedWriter) {
        let Self { shared, local } = self;
        let guard = Arc::new(shared);
        let writer = OwnedWriter::of(&guard);
        (OwnedReader { guard, local }, writer)
    }
}

impl OwnedReader {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.guard
    }

    /// Borrows this half as a [`Reader`], for a function that takes one. Dropping it has no effect.
    #[inline]
    pub fn reader(&mut self) -> Reader<'_> {
        Reader::new(&self.guard, &mut self.local.reader)
    }

    /// Borrows this half as a [`Reader`] whose calls have a
    /// [deadline](Reader::with_deadline).
    pub fn with_deadline(&mut self, deadline: Instant) -> Reader<'_> {
        self.reader().with_deadline(deadline)
    }

    #[inline]
    pub(super) fn reborrow(&mut self) -> Reader<'_> {
        self.reader()
    }

    #[inline]
    pub(super) fn view(&self) -> ReaderView<'_> {
        ReaderView::new(&self.guard, &self.local.reader)
    }

    /// Returns a handle to the connection, for other tasks and threads. No allocation.
    #[must_use]
    pub fn handle(&self) -> ConnectionHandle {
        ConnectionHandle::new(&self.guard)
    }

    /// Returns the peer's address, as it was when the connection was made. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.guard.peer()
    }

    /// Reunites the two halves of a connection. This changes neither the connection nor an open
    /// reservation.
    ///
    /// # Errors
    ///
    /// Both halves, unchanged, if they belong to two connections.
    pub fn reunite(self, mut writer: OwnedWriter) -> Result<Connection, (Self, OwnedWriter)> {
        if !Arc::ptr_eq(&self.guard, &writer.guard) {
            return Err((self, writer));
        }
        let Self { guard, local } = self;
        writer.on_drop = UncommittedPolicy::Keep;
        drop(writer);
        match Arc::try_unwrap(guard) {
            Ok(shared) => Ok(Connection { shared, local }),
            // Unreachable: only the two halves share the guard.
            Err(guard) => {
                let writer = OwnedWriter::of(&guard);
                Err((Self { guard, local }, writer))
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

    /// Borrows this half as a [`Writer`], for a function that takes one. Dropping it has no effect.
    #[inline]
    pub fn writer(&mut self) -> Writer<'_> {
        Writer::new(&self.guard)
    }

    /// Borrows this half as a [`Writer`] whose calls have a
    /// [deadline](Writer::with_deadline).
    pub fn with_deadline(&mut self, deadline: Instant) -> Writer<'_> {
        self.writer().with_deadline(deadline)
    }

    #[inline]
    pub(super) fn reborrow(&mut self) -> Writer<'_> {
        self.writer()
    }

    #[inline]
    pub(super) fn view(&self) -> &Shared {
        &self.guard
    }

    /// Returns a handle to the connection, for other tasks and threads. No allocation.
    #[must_use]
    pub fn handle(&self) -> ConnectionHandle {
        ConnectionHandle::new(&self.guard)
    }

    /// Returns the peer's address, as it was when the connection was made. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.guard.peer()
    }
}
