// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be dialed: addresses, and names that have to be resolved first.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::addr::{Addr, ParseAddrError, UnixAddr};
use sealed::{AsTarget, DialTarget};

/// What [`Dialer::dial`](crate::Dialer::dial) takes: addresses of each kind, and names.
///
/// A text is what [`Addr`] parses, `127.0.0.1:80`, `[::1]:80`, `unix:/path` or `unix:@name`; any
/// other is `host:port`, whose host the dialer's [`Resolve`](crate::Resolve) is asked for. A host
/// with its port, `("localhost", 80)`, is the same in two parts. Nothing is resolved for a number.
///
/// It is not for others to implement.
pub trait ToTarget: AsTarget {}

impl<T: AsTarget + ?Sized> ToTarget for T {}

/// In a module of its own, for nobody else to name.
pub(super) mod sealed {
    use std::io;

    use crate::addr::Addr;

    /// What is meant.
    #[expect(
        unnameable_types,
        reason = "what makes a trait that nobody else implements"
    )]
    #[derive(Debug, PartialEq, Eq)]
    pub enum DialTarget {
        /// This address.
        Addr(Addr),
        /// Whatever addresses a name has.
        Name {
            /// The name.
            host: String,
            /// The port at each.
            port: u16,
        },
    }

    /// What has a meaning.
    #[expect(
        unnameable_types,
        reason = "what makes a trait that nobody else implements"
    )]
    pub trait AsTarget {
        /// Says what is meant.
        ///
        /// # Errors
        ///
        /// `InvalidInput` for a text that means nothing.
        fn target(&self) -> io::Result<DialTarget>;
    }
}

impl AsTarget for str {
    fn target(&self) -> io::Result<DialTarget> {
        let wrong = match self.parse::<Addr>() {
            Ok(addr) => return Ok(DialTarget::Addr(addr)),
            Err(wrong) => wrong,
        };
        // Behind the first colon: a host that has one is an address of IPv6 without its brackets.
        match self.split_once(':') {
            Some((host, port)) if !self.starts_with("unix:") => {
                let port = port.parse().map_err(|_| io::Error::from(wrong))?;
                host_target(host, port, self)
            }
            _ => Err(wrong.into()),
        }
    }
}

/// A host by itself, of which `text` says more.
fn host_target(host: &str, port: u16, text: &str) -> io::Result<DialTarget> {
    if host.is_empty() || host.contains('\0') {
        // Such a text is no address: this is how it says so.
        let wrong = text.parse::<Addr>().err();
        return Err(wrong.map_or(io::ErrorKind::InvalidInput.into(), ParseAddrError::into));
    }
    let addr = match host.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, port)),
        Err(_) => parse_ipv6_host(host, port),
    };
    Ok(match addr {
        Some(addr) => DialTarget::Addr(addr.into()),
        None => DialTarget::Name {
            host: host.to_owned(),
            port,
        },
    })
}

/// The address of IPv6 that `host` is with its brackets or with the number of its zone: no name has a
/// colon, and nobody need be asked.
fn parse_ipv6_host(host: &str, port: u16) -> Option<SocketAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let bare = bare.unwrap_or(host);
    let addr = bare
        .contains(':')
        .then(|| format!("[{bare}]:{port}").parse::<SocketAddrV6>());
    addr?.ok().map(SocketAddr::from)
}

impl AsTarget for String {
    fn target(&self) -> io::Result<DialTarget> {
        self.as_str().target()
    }
}

impl AsTarget for (&str, u16) {
    fn target(&self) -> io::Result<DialTarget> {
        host_target(self.0, self.1, self.0)
    }
}

impl AsTarget for (String, u16) {
    fn target(&self) -> io::Result<DialTarget> {
        (self.0.as_str(), self.1).target()
    }
}

impl AsTarget for Addr {
    fn target(&self) -> io::Result<DialTarget> {
        Ok(DialTarget::Addr(*self))
    }
}

/// What is an address already.
macro_rules! addresses {
    ($(|$this:ident: $kind:ty| $addr:expr),+ $(,)?) => {
        $(impl AsTarget for $kind {
            fn target(&self) -> io::Result<DialTarget> {
                let $this = *self;
                Ok(DialTarget::Addr(Addr::from($addr)))
            }
        })+
    };
}

addresses! {
    |this: UnixAddr| this,
    |this: SocketAddr| this,
    |this: SocketAddrV4| SocketAddr::from(this),
    |this: SocketAddrV6| SocketAddr::from(this),
    |this: (IpAddr, u16)| SocketAddr::from(this),
    |this: (Ipv4Addr, u16)| SocketAddr::from(this),
    |this: (Ipv6Addr, u16)| SocketAddr::from(this),
}

impl<T: AsTarget + ?Sized> AsTarget for &T {
    fn target(&self) -> io::Result<DialTarget> {
        (**self).target()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(target: impl ToTarget) -> DialTarget {
        target.target().unwrap()
    }

    #[test]
    fn every_form_of_an_address_is_that_address() {
        let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let expected = || DialTarget::Addr(addr.into());
        assert_eq!(meant("127.0.0.1:80"), expected());
        assert_eq!(meant(String::from("127.0.0.1:80")), expected());
        assert_eq!(meant(addr), expected());
        assert_eq!(meant(Addr::Tcp(addr)), expected());
        assert_eq!(meant(("127.0.0.1", 80)), expected());
        assert_eq!(meant((Ipv4Addr::LOCALHOST, 80)), expected());
        let six: SocketAddr = "[::1]:80".parse().unwrap();
        assert_eq!(meant("[::1]:80"), DialTarget::Addr(six.into()));
        assert_eq!(meant(("::1", 80)), DialTarget::Addr(six.into()));
        assert_eq!(meant(("[::1]", 80)), DialTarget::Addr(six.into()));
        let zoned: SocketAddr = "[fe80::1%2]:80".parse().unwrap();
        for host in ["fe80::1%2", "[fe80::1%2]"] {
            assert_eq!(meant((host, 80)), DialTarget::Addr(zoned.into()));
        }
        let name = UnixAddr::path("/a").unwrap();
        assert_eq!(meant("unix:/a"), DialTarget::Addr(name.into()));
        assert_eq!(meant(name), DialTarget::Addr(name.into()));
        let colon = UnixAddr::path("a:1").unwrap();
        assert_eq!(meant("unix:a:1"), DialTarget::Addr(colon.into()));
    }

    #[test]
    fn any_other_host_is_a_name() {
        let named = || DialTarget::Name {
            host: "a.example".into(),
            port: 80,
        };
        assert_eq!(meant("a.example:80"), named());
        assert_eq!(meant(("a.example", 80)), named());
        assert_eq!(meant((String::from("a.example"), 80)), named());
    }

    #[test]
    fn a_text_that_means_nothing_is_refused() {
        let texts = [
            "",
            ":",
            ":80",
            "host",
            "host:",
            "host:x",
            "host:65536",
            "::1:80",
            "[::1]",
            "h\0:1",
            "unix:",
            "unix:@",
            "host:80:80",
            "host:-1",
        ];
        for text in texts {
            let error = text.target().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{text:?}");
        }
        for host in ["", "h\0"] {
            let error = (host, 80).target().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{host:?}");
        }
    }
}
