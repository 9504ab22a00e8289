// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP: keepalive, and what the kernel knows about a connection.
//!
//! ```
//! use std::time::Duration;
//! use netpoll::options::ConnOptions;
//! use netpoll::tcp::Keepalive;
//!
//! let (idle, interval) = (Duration::from_secs(30), Duration::from_secs(10));
//! let options = ConnOptions::default().keepalive(Keepalive::new(idle, interval, 3));
//! ```

#[doc(inline)]
pub use netpoll_sys::options::Keepalive;
#[doc(inline)]
pub use netpoll_sys::{TcpInfo, TcpState};
