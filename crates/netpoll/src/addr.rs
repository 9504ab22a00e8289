// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where something listens or is connected: what people write for it, and what a connection keeps
//! of it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

pub use netpoll_sys::addr::{Addr, InvalidUnixName, ParseAddrError, UnixAddr};

/// What can be listened on: everything that is a [`ToSocketAddrs`], and Unix sockets besides.
///
/// A text is `host:port`, where the host is a number or a name (which the system's resolver is
/// asked for, and that may take seconds), or `unix:/path`, or `unix:@abstract-name`.
pub trait ToAddrs {
    /// The addresses that are meant, in the order in which they are to be tried.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a text that is no address; what the resolver fails with.
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

/// What has no other meaning than the standard library's.
macro_rules! of_the_internet {
    ($($kind:ty),+) => {
        $(impl ToAddrs for $kind {
            fn to_addrs(&self) -> io::Result<Vec<Addr>> {
                tcp_addrs(self)
            }
        })+
    };
}

of_the_internet!(SocketAddr, SocketAddrV4, SocketAddrV6);
of_the_internet!((IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));
of_the_internet!((&str, u16), (String, u16));

fn tcp_addrs(addr: &(impl ToSocketAddrs + ?Sized)) -> io::Result<Vec<Addr>> {
    Ok(addr.to_socket_addrs()?.map(Addr::Tcp).collect())
}

/// An address as each connection keeps it: in two words, and elsewhere if it needs more.
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
            // What a later version of the kernel's side may know.
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
    fn every_form_means_the_same_address() {
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
    fn an_address_is_kept_in_two_words() {
        assert!(size_of::<CompactAddr>() <= 16);
        for text in ["[::1]:80", "unix:/a", "unix:@a"] {
            let addr: Addr = text.parse().unwrap();
            assert_eq!(CompactAddr::from(addr).addr(), addr);
        }
        assert_eq!(CompactAddr::from(Addr::Unnamed).addr(), Addr::Unnamed);
    }
}
