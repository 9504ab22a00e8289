// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses as they are written on a command line: `host:port`, `unix:/path` or `unix:@name`.
//!
//! The host is an IPv4 address, an IPv6 address in brackets, or a name. Whether the text *is* an
//! address is decided when the command line is read (a usage error if not); what a name stands for
//! is asked only when the address is used, because that may fail for reasons of the day.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use netpoll_sys::{Addr, UnixAddr};

use crate::error::CliError;

/// An address that has been read but not yet resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Of the internet.
    Host {
        /// An address without its brackets, or a name; never empty.
        host: String,
        port: u16,
    },
    /// Of a Unix socket, which needs no resolving.
    Unix(UnixAddr),
}

impl Address {
    /// Where the address leads. Of several that a name has it is the first IPv4 one, else the first:
    /// a server and a load that are given the same name must mean the same. Asks the system's
    /// resolver when the host is a name, and then may take seconds.
    ///
    /// # Errors
    ///
    /// A name that nobody knows.
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
            let name = addr.as_unix().ok_or("no name of a Unix socket")?;
            return Ok(Self::Unix(*name));
        }
        let wrong =
            || String::from("an address is host:port, such as 127.0.0.1:8080, or unix:/path");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => {
                return Err("an IPv6 address stands in brackets, such as [::1]:8080".into());
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
    fn an_address_survives_being_printed() {
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
    fn what_is_no_address_is_refused() {
        for text in [
            "", "8080", ":80", "a:", "a:65536", "a:-1", "::1:80", "[::1:80", "a b:1", "[]:1",
            "unix:", "unix:@", "@x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_resolve_to_themselves() {
        let v6: Address = "[::1]:9".parse().unwrap();
        assert_eq!(v6.resolve().unwrap(), "[::1]:9".parse().unwrap());
        let unix: Address = "unix:/a".parse().unwrap();
        assert_eq!(unix.resolve().unwrap(), "unix:/a".parse().unwrap());
        let v4: Address = "10.1.2.3:9".parse().unwrap();
        assert_eq!(v4.resolve().unwrap(), "10.1.2.3:9".parse().unwrap());
    }
}
