// SPDX-License-Identifier: MIT OR Apache-2.0
//! User state that is attached to a connection.
//!
//! One value of any type, dropped with the connection. It is behind a lock that is never taken:
//! access is through `&mut Connection` alone. The lock makes a connection `Sync` with any attached
//! type.

use std::any::{Any, type_name};
use std::io;

use super::Connection;
use super::reader::Reader;
use super::writer::Writer;
use crate::error::ErrorKind;
use crate::foreign::DeferredDrop;
use crate::sync::{Mutex, PoisonError};

/// The value that is attached to a connection.
#[derive(Debug, Default)]
pub(super) struct Attachment(Option<Box<Mutex<AttachedValue>>>);

impl Drop for Attachment {
    /// Catches a panic of the user's drop, since the connection may be dropped during an unwind.
    fn drop(&mut self) {
        if let Some(state) = self.take() {
            drop(DeferredDrop::new(state));
        }
    }
}

type AttachedValue = Box<dyn Any + Send>;

impl Attachment {
    fn is_some(&self) -> bool {
        self.0.is_some()
    }

    fn replace(&mut self, state: AttachedValue) -> Option<AttachedValue> {
        let before = self.take();
        self.0 = Some(Box::new(Mutex::new(state)));
        before
    }

    fn take(&mut self) -> Option<AttachedValue> {
        let state = self.0.take()?.into_inner();
        Some(state.unwrap_or_else(PoisonError::into_inner))
    }

    fn value<T: 'static>(&mut self) -> Option<&mut T> {
        let state = self.0.as_mut()?.get_mut();
        state.unwrap_or_else(PoisonError::into_inner).downcast_mut()
    }
}

impl Connection {
    /// Returns whether a value is attached.
    pub(super) fn has_attachment(&self) -> bool {
        self.local.attachment.is_some()
    }

    /// Attaches `state` to the connection, and returns the value that was attached before, of any
    /// type. Usually called in [`on_connect`](crate::Builder::on_connect). Every later call of the
    /// handler finds the value, and it is dropped with the connection. Two allocations.
    ///
    /// ```no_run
    /// use netpoll::{Connection, EventLoop};
    ///
    /// struct Session { lines: u64 }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// EventLoop::builder()
    ///     .on_connect(async |conn: &mut Connection| {
    ///         conn.attach(Session { lines: 0 });
    ///         Ok(())
    ///     })
    ///     .on_request(async |conn: &mut Connection| {
    ///         let (mut reader, mut writer, session) = conn.split_with::<Session>()?;
    ///         reader.until(b'\n', 1024).await?;
    ///         session.lines += 1;
    ///         writer.put_str(&format!("{} from you\n", session.lines));
    ///         Ok(())
    ///     })
    ///     .on_disconnect(|conn, _reason| {
    ///         let session = conn.take_attached::<Session>();
    ///         println!("{:?} lines", session.map(|session| session.lines));
    ///     })
    ///     .serve("127.0.0.1:8080")
    /// # }
    /// ```
    pub fn attach<T: Send + 'static>(&mut self, state: T) -> Option<Box<dyn Any + Send>> {
        self.local.attachment.replace(Box::new(state))
    }

    /// Returns the attached value if it is a `T`.
    pub fn attached<T: 'static>(&mut self) -> Option<&mut T> {
        self.local.attachment.value()
    }

    /// Removes and returns the attached value if it is a `T`. Otherwise it stays attached.
    pub fn take_attached<T: 'static>(&mut self) -> Option<Box<T>> {
        let attached = &mut self.local.attachment;
        match attached.take()?.downcast() {
            Ok(state) => Some(state),
            Err(other) => {
                attached.replace(other);
                None
            }
        }
    }

    /// Splits the connection into a reader, a writer and the attached value, each with its own
    /// borrow.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotAttached`] if no value is attached, or it is not a `T`.
    pub fn split_with<T: 'static>(&mut self) -> io::Result<(Reader<'_>, Writer<'_>, &mut T)> {
        let Some(state) = self.local.attachment.value() else {
            let expected = type_name::<T>();
            return Err(ErrorKind::NotAttached { expected }.into());
        };
        let reader = Reader::new(&self.shared, &mut self.local.reader);
        Ok((reader, Writer::new(&self.shared), state))
    }
}
