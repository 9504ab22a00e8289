// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Resolve`]: resolves names to addresses.
//!
//! The default is the system's resolver, `getaddrinfo(3)`. It blocks its thread for as long as the
//! name server takes, so it runs on [threads](super::lookup_pool) of its own. It is not called for
//! `localhost`, whose addresses are known.

use std::future::{Future, ready};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;

use super::lookup_pool::{LookupPool, LookupResult};
use crate::sync::Arc;

/// The future of [`Resolve::resolve`].
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Resolves names to addresses. Set with [`Dialer::resolver`](crate::Dialer::resolver).
///
/// ```no_run
/// use std::io::{Error, ErrorKind};
/// use std::net::SocketAddr;
/// use netpoll::dialer::{Resolve, Resolving};
/// use netpoll::Dialer;
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a resolver of host names",
    label = "does not implement `netpoll::dialer::Resolve`",
    note = "implement `Resolve` for a type of yours that passes the name to the resolver"
)]
pub trait Resolve: Send + Sync {
    /// Returns the addresses of `host`, best first, each with the port to dial, which is `port`
    /// unless the resolver knows a better one. An error ends the dial and is returned unchanged. An
    /// empty list is [`ErrorKind::NoAddress`](crate::error::ErrorKind::NoAddress).
    ///
    /// The future is polled with the dial's future, possibly on a poller, so it must not block. It
    /// is dropped with the dial, or at the dial's deadline.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

impl<R: Resolve + ?Sized> Resolve for Arc<R> {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        (**self).resolve(host, port)
    }
}

/// Resolves with the system's resolver, except for `localhost`.
pub(super) struct SystemResolver {
    /// The most lookups that may run at once.
    pub(super) max_concurrent: usize,
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        static LOOKUPS: LookupPool = LookupPool::new(getaddrinfo);
        if is_localhost(host) {
            return Box::pin(ready(Ok(loopback(port))));
        }
        Box::pin(LOOKUPS.start(host.to_owned(), port, self.max_concurrent))
    }
}

/// Returns whether `host` is `localhost` or ends with `.localhost`. RFC 6761, section 6.3, lets
/// these names be answered without a name server.
fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let (before, last) = host.rsplit_once('.').unwrap_or(("any", host));
    !before.is_empty() && last.eq_ignore_ascii_case("localhost")
}

/// Returns the addresses of `localhost`, in the system's order.
fn loopback(port: u16) -> Vec<SocketAddr> {
    vec![
        (Ipv6Addr::LOCALHOST, port).into(),
        (Ipv4Addr::LOCALHOST, port).into(),
    ]
}

fn getaddrinfo(host: &str, port: u16) -> LookupResult {
    Ok((host, port).to_socket_addrs()?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_recognized_in_every_form() {
        for host in [
            "localhost",
            "LocalHost",
            "localhost.",
            "a.localhost",
            "a.b.LOCALHOST.",
        ] {
            assert!(is_localhost(host), "{host}");
        }
        let others = [
            "",
            ".",
            "localhost..",
            ".localhost",
            "alocalhost",
            "localhost.a",
            "host",
        ];
        for host in others {
            assert!(!is_localhost(host), "{host}");
        }
    }
}
