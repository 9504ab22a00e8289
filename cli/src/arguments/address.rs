// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses on the command line: `host:port`, `unix:/path` or `unix:@name`.
//!
//! The host is an IPv4 address, an IPv6 address in brackets, or a name. The syntax is checked when
//! the command line is parsed; an error is a usage error. A name is resolved when the address is
//! used, since a lookup may fail for reasons that have nothing to do with the text.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use netpoll_sys::{Addr, UnixAddr};

use crate::error::CliError;

/// A parsed address that is not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A TCP address.
    Host {
        /// An IP address without brackets, or a name; never empty.
        host: String,
        port: u16,
    },
    /// A Unix socket address, which needs no lookup.
    Unix(UnixAddr),
}

impl Address {
    /// Returns the socket address. If a name has several, this is the first IPv4 address, else the
    /// first one, so that a server and a load with the same name use the same address. Queries the
    /// system's resolver if the host is a name, and may then block for seconds.
    ///
    /// # Errors
    ///
    /// A name that does not resolve.
    pub(crate) fn resolve(&self) -> Result<Addr, CliError> {
        let (host, port) = match self {
            Self::Host { host, port } => (host.as_str(), *port),
            Self::Unix(name) => return Ok(Addr::Unix(*name)),
        };
        let found = (host, port).to_socket_addrs();
        let found = found.map(|list| {
            let list: Vec<SocketAddr> = list.collect();
            let v4 = list.iter().find(|addr| addr.is_ipv4());
            v4.or(list.first()).copied()
        });
        match found {
            Ok(Some(addr)) => Ok(Addr::Tcp(addr)),
            Ok(None) => Err(CliError::new(format!("{host} has no address"))),
            Err(error) => Err(CliError::io(format_args!("resolve {host}"), &error)),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("unix:") {
            let addr: Addr = text.parse().map_err(|wrong| format!("{wrong}"))?;
            let name = addr.as_unix().ok_or("not a Unix socket address")?;
            return Ok(Self::Unix(*name));
        }
        let wrong =
            || String::from("an address is host:port, such as 127.0.0.1:8080, or unix:/path");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => {
                return Err("an IPv6 address needs brackets, such as [::1]:8080".into());
            }
            None => host,
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/[]@".contains(c)) {
            return Err(wrong());
        }
        let port = port
            .parse()
            .map_err(|_| String::from("a port is a number from 0 to 65535"))?;
        let host = host.into();
        Ok(Self::Host { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_address_parses_to_itself() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:0",
            "localhost:65535",
            "unix:/tmp/x",
            "unix:@x",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        for text in [
            "", "8080", ":80", "a:", "a:65536", "a:-1", "::1:80", "[::1:80", "a b:1", "[]:1",
            "unix:", "unix:@", "@x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn numeric_addresses_resolve_to_themselves() {
        let v6: Address = "[::1]:9".parse().unwrap();
        assert_eq!(v6.resolve().unwrap(), "[::1]:9".parse().unwrap());
        let unix: Address = "unix:/a".parse().unwrap();
        assert_eq!(unix.resolve().unwrap(), "unix:/a".parse().unwrap());
        let v4: Address = "10.1.2.3:9".parse().unwrap();
        assert_eq!(v4.resolve().unwrap(), "10.1.2.3:9".parse().unwrap());
    }
}
