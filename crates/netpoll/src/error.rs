// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of calls, and the reasons why connections end.
//!
//! Calls return [`std::io::Error`]. Its `kind()` fits `std`'s conventions, and an error of the
//! kernel keeps its errno. [`ErrorExt`] adds the details: one `match` on [`ErrorKind`]
//! distinguishes all errors of this library.
//!
//! ```
//! use netpoll::error::{ErrorExt, ErrorKind};
//!
//! fn describe(error: &std::io::Error) -> String {
//!     match error.netpoll_kind() {
//!         Some(ErrorKind::Closed { reason }) => format!("closed: {reason}"),
//!         Some(ErrorKind::FrameTooLarge { limit, .. }) => format!("send at most {limit} bytes"),
//!         Some(ErrorKind::PoolFull { waiting, .. }) => format!("busy: {waiting} callers wait"),
//!         Some(other) => other.to_string(),
//!         // The kernel's, or another library's.
//!         None if error.is_timeout() => "timed out".to_owned(),
//!         None => error.to_string(),
//!     }
//! }
//!
//! let error = netpoll::EventLoop::builder().build().unwrap_err();
//! assert_eq!(describe(&error), "listeners: must contain at least one");
//! assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
//! ```
//!
//! The *end* of a connection is a [`CloseReason`]: its first cause, reported once.

mod close_reason;
mod ext;
mod kind;
#[cfg(test)]
mod tests;
mod text;

use std::error::Error;
use std::io;

pub use close_reason::{CloseReason, Limit, Timeout};
pub use ext::ErrorExt;
pub use kind::{ErrorKind, TakenBy};
#[doc(inline)]
pub use netpoll_buffer::{NotEnoughData, OutOfRange, TooLarge, WriteOverrun};
#[doc(inline)]
pub use netpoll_sys::addr::{InvalidUnixName, ParseAddrError};
pub(crate) use text::Size;

pub use crate::codec::EncodeError;

/// The error type of handlers. Concrete, so that `Ok(())` needs no annotation.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// An option with an invalid value: [`ErrorKind::InvalidConfig`] before it becomes an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidConfig {
    pub(crate) option: &'static str,
    pub(crate) expected: &'static str,
}

impl InvalidConfig {
    pub(crate) const fn new(option: &'static str, expected: &'static str) -> Self {
        Self { option, expected }
    }
}

impl From<InvalidConfig> for io::Error {
    #[cold]
    fn from(InvalidConfig { option, expected }: InvalidConfig) -> Self {
        ErrorKind::InvalidConfig { option, expected }.into()
    }
}
