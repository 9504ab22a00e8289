// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses: TCP and Unix sockets, and the forms that users write.
//!
//! ```
//! use netpoll::addr::{Addr, UnixAddr};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tcp: Addr = "127.0.0.1:8080".parse()?;
//! let unix: Addr = "unix:/run/app.sock".parse()?;
//! assert_eq!(unix, Addr::Unix(UnixAddr::path("/run/app.sock")?));
//! assert_eq!(tcp.to_string(), "127.0.0.1:8080");
//! # Ok(()) }
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

pub use crate::error::{InvalidUnixName, ParseAddrError};
#[doc(inline)]
pub use netpoll_sys::addr::{Addr, UnixAddr};

/// Types that convert to listen addresses: every [`ToSocketAddrs`], and Unix sockets.
///
/// A string is `host:port`, `unix:/path` or `unix:@abstract-name`. The host is an IP address or a
/// name. The system's resolver looks up names, which may block for seconds.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an address to listen on",
    label = "not an address",
    note = "an address is a string such as \"127.0.0.1:8080\" or \"unix:/run/app.sock\", a \
            `SocketAddr`, a `(host, port)` pair, an `Addr` or a `UnixAddr`"
)]
pub trait ToAddrs {
    /// Returns the addresses, in the order to try them.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a string that is not an address; the errors of the resolver.
    fn to_addrs(&self) -> io::Result<Vec<Addr>>;
}

impl ToAddrs for Addr {
    fn to_addrs(&self) -> io::Result<Vec<Addr>> {
        Ok(vec![*self])
    }
}

impl ToAddrs for UnixAddr {
    fn to_addrs(&self) -> io::Result<Vec<Addr>> {
        Ok(vec![Addr::Unix(*self)])
    }
}

impl ToAddrs for str {
    fn to_addrs(&self) -> io::Result<Vec<Addr>> {
        if self.starts_with("unix:") {
            return Ok(vec![self.parse()?]);
        }
        tcp_addrs(self)
    }
}

impl ToAddrs for String {
    fn to_addrs(&self) -> io::Result<Vec<Addr>> {
        self.as_str().to_addrs()
    }
}

impl ToAddrs for [SocketAddr] {
    fn to_addrs(&self) -> io::Result<Vec<Addr>> {
        Ok(self.iter().copied().map(Addr::Tcp).collect())
    }
}

impl<T: ToAddrs + ?Sized> ToAddrs for &T {
    fn to_addrs(&self) -> io::Result<Vec<Addr>> {
        (**self).to_addrs()
    }
}

/// Types that convert exactly as in the standard library.
macro_rules! impl_to_addrs {
    ($($kind:ty),+) => {
        $(impl ToAddrs for $kind {
            fn to_addrs(&self) -> io::Result<Vec<Addr>> {
                tcp_addrs(self)
            }
        })+
    };
}

impl_to_addrs!(SocketAddr, SocketAddrV4, SocketAddrV6);
impl_to_addrs!((IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));
impl_to_addrs!((&str, u16), (String, u16));

fn tcp_addrs(addr: &(impl ToSocketAddrs + ?Sized)) -> io::Result<Vec<Addr>> {
    Ok(addr.to_socket_addrs()?.map(Addr::Tcp).collect())
}

/// The address of a connection, in two words; rarer forms are boxed.
#[derive(Debug)]
pub(crate) enum CompactAddr {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
    Unix(Box<UnixAddr>),
    Unnamed,
}

impl From<Addr> for CompactAddr {
    fn from(addr: Addr) -> Self {
        match addr {
            Addr::Tcp(SocketAddr::V4(addr)) => Self::V4(addr),
            Addr::Tcp(SocketAddr::V6(addr)) => Self::V6(Box::new(addr)),
            Addr::Unix(name) => Self::Unix(Box::new(name)),
            // A variant that a later version of the address type may add.
            _ => Self::Unnamed,
        }
    }
}

impl CompactAddr {
    #[inline]
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self, Self::V4(_) | Self::V6(_))
    }

    pub(crate) fn addr(&self) -> Addr {
        match self {
            Self::V4(addr) => Addr::Tcp((*addr).into()),
            Self::V6(addr) => Addr::Tcp((**addr).into()),
            Self::Unix(name) => Addr::Unix(**name),
            Self::Unnamed => Addr::Unnamed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_form_parses_to_the_same_address() {
        let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let forms: [&dyn ToAddrs; 6] = [
            &"127.0.0.1:80",
            &String::from("127.0.0.1:80"),
            &addr,
            &("127.0.0.1", 80),
            &(Ipv4Addr::LOCALHOST, 80),
            &Addr::Tcp(addr),
        ];
        for form in forms {
            assert_eq!(form.to_addrs().unwrap(), [Addr::Tcp(addr)]);
        }
        let name = UnixAddr::path("/a").unwrap();
        for form in [&"unix:/a" as &dyn ToAddrs, &name, &Addr::from(name)] {
            assert_eq!(form.to_addrs().unwrap(), [Addr::Unix(name)]);
        }
        for wrong in ["nowhere", "unix:", "unix:@"] {
            let error = wrong.to_addrs().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{wrong}");
        }
    }

    #[test]
    fn compact_addr_takes_two_words() {
        assert!(size_of::<CompactAddr>() <= 16);
        for text in ["[::1]:80", "unix:/a", "unix:@a"] {
            let addr: Addr = text.parse().unwrap();
            assert_eq!(CompactAddr::from(addr).addr(), addr);
        }
        assert_eq!(CompactAddr::from(Addr::Unnamed).addr(), Addr::Unnamed);
    }
}
