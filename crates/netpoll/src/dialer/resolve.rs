// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Resolve`]: who is asked for the addresses of a name.
//!
//! Unless somebody else is, the system is: `getaddrinfo(3)`, which blocks its thread for as long as
//! a name server keeps it waiting, and so runs on [threads](super::lookups) of its own.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;

use super::lookups::{Found, Lookups};
use crate::sync::Arc;

/// What [`Resolve::resolve`] gives.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Knows the addresses of names. Given to [`Dialer::resolver`](crate::Dialer::resolver).
///
/// ```no_run
/// use std::io::{Error, ErrorKind};
/// use std::net::SocketAddr;
/// use netpoll::{Dialer, Resolve, Resolving};
///
/// /// Knows one service.
/// struct Fixed(SocketAddr);
///
/// impl Resolve for Fixed {
///     fn resolve<'a>(&'a self, host: &'a str, _port: u16) -> Resolving<'a> {
///         Box::pin(async move {
///             match host {
///                 "users" => Ok(vec![self.0]),
///                 _ => Err(Error::new(ErrorKind::NotFound, format!("no service {host}"))),
///             }
///         })
///     }
/// }
///
/// # async fn example() -> std::io::Result<()> {
/// let dialer = Dialer::new().resolver(Fixed(([10, 0, 0, 7], 9000).into()));
/// let conn = dialer.dial("users:0").await?;
/// # Ok(()) }
/// ```
pub trait Resolve: Send + Sync {
    /// The addresses of `host`, best first, each with the port to dial there, which is `port` unless
    /// the resolver knows better. An error ends the dial, and is told as it is; no address at all is
    /// [`NoAddress`](crate::NoAddress).
    ///
    /// The future is polled wherever the dial is, which may be a poller, so it must not block. It is
    /// dropped with the dial, or at its deadline.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

impl<R: Resolve + ?Sized> Resolve for Arc<R> {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        (**self).resolve(host, port)
    }
}

/// Asks the system.
pub(super) struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        static LOOKUPS: Lookups = Lookups::new(getaddrinfo);
        Box::pin(LOOKUPS.begin(host.to_owned(), port))
    }
}

fn getaddrinfo(host: &str, port: u16) -> Found {
    Ok((host, port).to_socket_addrs()?.collect())
}
