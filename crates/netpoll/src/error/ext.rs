// SPDX-License-Identifier: MIT OR Apache-2.0
//! The methods that this library adds to `io::Error`.

use std::error::Error;
use std::io;
use std::sync::Arc;

use netpoll_buffer::{NotEnoughData, OutOfRange, TooLarge, WriteOverrun};
use netpoll_sys::addr::{InvalidUnixName, ParseAddrError};

use super::close_reason::{CloseReason, Limit};
use super::kind::ErrorKind;

/// Methods of [`io::Error`] for the errors of this library.
///
/// ```
/// use netpoll::error::{ErrorExt, ErrorKind};
/// use netpoll::buffer::LinkBuffer;
///
/// let error = LinkBuffer::new().read_u32().unwrap_err();
/// assert!(matches!(
///     error.netpoll_kind(),
///     Some(ErrorKind::NotEnoughData { have: 0, need: 4, .. })
/// ));
/// assert!(!error.is_timeout() && !error.is_closed());
/// ```
pub trait ErrorExt: sealed::Sealed {
    /// Returns what this library reports with the error, or `None` for an error of the kernel or of
    /// another library. Clones the values: a reference count or two, a path for
    /// [`ErrorKind::PathTaken`].
    fn netpoll_kind(&self) -> Option<ErrorKind>;

    /// Returns why the connection ended, if the call failed for that. `None` for a connection that
    /// the kernel failed: the error is the kernel's, with its errno.
    fn close_reason(&self) -> Option<CloseReason>;

    /// Returns whether a timeout expired: of the call, of the connection, of a pool, of a dial, or
    /// of the kernel (`ETIMEDOUT`).
    fn is_timeout(&self) -> bool;

    /// Returns whether the call failed because the connection has ended, for any reason. That
    /// includes a reset by the peer and the other ends that the kernel reports as
    /// `ConnectionReset`, `ConnectionAborted` or `BrokenPipe`.
    fn is_closed(&self) -> bool;

    /// Returns the limit of the connection that was exceeded, by this call or when the connection
    /// ended.
    fn limit(&self) -> Option<Limit>;
}

mod sealed {
    #[expect(
        unnameable_types,
        reason = "so that only this crate implements `ErrorExt`"
    )]
    pub trait Sealed {}
    impl Sealed for std::io::Error {}
}

impl ErrorExt for io::Error {
    fn netpoll_kind(&self) -> Option<ErrorKind> {
        let payload = self.get_ref()?;
        if let Some(kind) = payload.downcast_ref::<ErrorKind>() {
            return Some(kind.clone());
        }
        // An error that several calls report.
        if let Some(shared) = payload.downcast_ref::<Arc<Self>>() {
            return shared.netpoll_kind();
        }
        from_other_crate(payload)
    }

    fn close_reason(&self) -> Option<CloseReason> {
        match self.netpoll_kind()? {
            ErrorKind::Closed { reason } => Some(reason),
            _ => None,
        }
    }

    fn is_timeout(&self) -> bool {
        self.kind() == io::ErrorKind::TimedOut
    }

    fn is_closed(&self) -> bool {
        match self.netpoll_kind() {
            Some(kind) => matches!(kind, ErrorKind::Closed { .. }),
            None => matches!(
                self.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            ),
        }
    }

    fn limit(&self) -> Option<Limit> {
        match self.netpoll_kind()? {
            ErrorKind::FrameTooLarge { .. } => Some(Limit::Frame),
            ErrorKind::Closed {
                reason: CloseReason::Limit(limit),
            } => Some(limit),
            _ => None,
        }
    }
}

/// Returns the kind for an error of the buffer, or of an address.
fn from_other_crate(payload: &(dyn Error + Send + Sync + 'static)) -> Option<ErrorKind> {
    if let Some(&NotEnoughData { have, need, .. }) = payload.downcast_ref() {
        Some(ErrorKind::NotEnoughData { have, need })
    } else if let Some(&TooLarge { limit, asked, .. }) = payload.downcast_ref() {
        Some(ErrorKind::TooLarge { size: asked, limit })
    } else if let Some(&OutOfRange {
        uncommitted, asked, ..
    }) = payload.downcast_ref()
    {
        Some(ErrorKind::OutOfRange {
            uncommitted,
            requested: asked,
        })
    } else if let Some(&WriteOverrun { given, claimed, .. }) = payload.downcast_ref() {
        Some(ErrorKind::WriteOverrun { given, claimed })
    } else if let Some(error) = payload.downcast_ref::<ParseAddrError>() {
        Some(ErrorKind::InvalidAddr(error.clone()))
    } else {
        let error = payload.downcast_ref::<InvalidUnixName>()?;
        Some(ErrorKind::InvalidUnixName(*error))
    }
}
