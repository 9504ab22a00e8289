// SPDX-License-Identifier: MIT OR Apache-2.0
//! The targets of a dial: addresses, and names that have to be resolved first.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::addr::{Addr, UnixAddr};
use crate::error::ParseAddrError;
use sealed::{AsTarget, DialTarget};

/// A target of [`Dialer::dial`](crate::Dialer::dial): an address of any kind, or a name with a
/// port.
///
/// A text is either one that [`Addr`] parses (`127.0.0.1:80`, `[::1]:80`, `unix:/path`,
/// `unix:@name`), or `host:port`, whose host the dialer's [`Resolve`](crate::dialer::Resolve)
/// resolves. A host with its port, `("localhost", 80)`, is the same in two parts. Numeric hosts are
/// not resolved.
///
/// This trait is sealed: other crates cannot implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a target to dial",
    label = "not a target",
    note = "a target is a string such as \"localhost:8080\" or \"unix:/run/app.sock\", a \
            `(host, port)` pair, a `SocketAddr`, an `Addr` or a `UnixAddr`"
)]
pub trait ToTarget: AsTarget {}

#[diagnostic::do_not_recommend]
impl<T: AsTarget + ?Sized> ToTarget for T {}

/// A private module, which seals [`ToTarget`].
pub(super) mod sealed {
    use std::io;

    use crate::addr::Addr;

    /// A parsed target.
    #[expect(
        unnameable_types,
        reason = "seals a trait against other implementations"
    )]
    #[derive(Debug, PartialEq, Eq)]
    pub enum DialTarget {
        /// An address.
        Addr(Addr),
        /// A name to resolve.
        Name {
            /// The name.
            host: String,
            /// The port to dial.
            port: u16,
        },
    }

    /// Parses into a target.
    #[expect(
        unnameable_types,
        reason = "seals a trait against other implementations"
    )]
    pub trait AsTarget {
        /// Returns the target.
        ///
        /// # Errors
        ///
        /// `InvalidInput` for a text that is no target.
        fn target(&self) -> io::Result<DialTarget>;
    }
}

impl AsTarget for str {
    fn target(&self) -> io::Result<DialTarget> {
        let wrong = match self.parse::<Addr>() {
            Ok(addr) => return Ok(DialTarget::Addr(addr)),
            Err(wrong) => wrong,
        };
        // The first colon ends the host: a host with colons is an IPv6 address without its
        // brackets, which is no valid text.
        match self.split_once(':') {
            Some((host, port)) if !self.starts_with("unix:") => {
                let port = port.parse().map_err(|_| io::Error::from(wrong))?;
                host_target(host, port, self)
            }
            _ => Err(wrong.into()),
        }
    }
}

/// Parses a host. `text` is the whole text, for the error.
fn host_target(host: &str, port: u16, text: &str) -> io::Result<DialTarget> {
    if host.is_empty() || host.contains('\0') {
        // Such a text is no address either, so parsing it returns the right error.
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

/// Returns the IPv6 address that `host` is in brackets or with a zone number. A name has no colon,
/// so such a host is never resolved.
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

/// Implements [`AsTarget`] for types that are addresses.
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

    fn target_of(target: impl ToTarget) -> DialTarget {
        target.target().unwrap()
    }

    #[test]
    fn every_address_form_parses() {
        let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let expected = || DialTarget::Addr(addr.into());
        assert_eq!(target_of("127.0.0.1:80"), expected());
        assert_eq!(target_of(String::from("127.0.0.1:80")), expected());
        assert_eq!(target_of(addr), expected());
        assert_eq!(target_of(Addr::Tcp(addr)), expected());
        assert_eq!(target_of(("127.0.0.1", 80)), expected());
        assert_eq!(target_of((Ipv4Addr::LOCALHOST, 80)), expected());
        let six: SocketAddr = "[::1]:80".parse().unwrap();
        assert_eq!(target_of("[::1]:80"), DialTarget::Addr(six.into()));
        assert_eq!(target_of(("::1", 80)), DialTarget::Addr(six.into()));
        assert_eq!(target_of(("[::1]", 80)), DialTarget::Addr(six.into()));
        let zoned: SocketAddr = "[fe80::1%2]:80".parse().unwrap();
        for host in ["fe80::1%2", "[fe80::1%2]"] {
            assert_eq!(target_of((host, 80)), DialTarget::Addr(zoned.into()));
        }
        let name = UnixAddr::path("/a").unwrap();
        assert_eq!(target_of("unix:/a"), DialTarget::Addr(name.into()));
        assert_eq!(target_of(name), DialTarget::Addr(name.into()));
        let colon = UnixAddr::path("a:1").unwrap();
        assert_eq!(target_of("unix:a:1"), DialTarget::Addr(colon.into()));
    }

    #[test]
    fn other_hosts_are_names() {
        let named = || DialTarget::Name {
            host: "a.example".into(),
            port: 80,
        };
        assert_eq!(target_of("a.example:80"), named());
        assert_eq!(target_of(("a.example", 80)), named());
        assert_eq!(target_of((String::from("a.example"), 80)), named());
    }

    #[test]
    fn invalid_target_is_rejected() {
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
