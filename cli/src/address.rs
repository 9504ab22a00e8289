// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses as they are written on a command line: `host:port`.
//!
//! The host is an IPv4 address, an IPv6 address in brackets, or a name. Whether the text *is* an
//! address is decided when the command line is read (a usage error if not); what a name stands for
//! is asked only when the address is used, because that may fail for reasons of the day.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::failure::Failure;

/// A host and a port that have been read but not yet resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// An address without its brackets, or a name; never empty.
    host: String,
    port: u16,
}

impl Address {
    /// Where the address leads. Of several that a name has it is the first IPv4 one, else the first:
    /// a server and a load that are given the same name must mean the same. Asks the system's
    /// resolver when the host is a name, and then may take seconds.
    ///
    /// # Errors
    ///
    /// A name that nobody knows.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, Failure> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let found = found.map(|list| {
            let list: Vec<SocketAddr> = list.collect();
            let v4 = list.iter().find(|addr| addr.is_ipv4());
            v4.or(list.first()).copied()
        });
        match found {
            Ok(Some(addr)) => Ok(addr),
            Ok(None) => Err(Failure::new(format!("{} has no address", self.host))),
            Err(error) => Err(Failure::while_trying(
                format_args!("resolve {}", self.host),
                &error,
            )),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || String::from("an address is host:port, such as 127.0.0.1:8080");
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
        Ok(Self {
            host: host.into(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_being_printed() {
        for text in ["127.0.0.1:8080", "[::1]:0", "localhost:65535"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_host_and_port_is_refused() {
        for text in [
            "",
            "8080",
            ":80",
            "a:",
            "a:65536",
            "a:-1",
            "::1:80",
            "[::1:80",
            "a b:1",
            "[]:1",
            "unix:/tmp/x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_resolve_to_themselves() {
        let v6: Address = "[::1]:9".parse().unwrap();
        assert_eq!(v6.resolve().unwrap(), "[::1]:9".parse().unwrap());
        let v4: Address = "10.1.2.3:9".parse().unwrap();
        assert_eq!(v4.resolve().unwrap(), "10.1.2.3:9".parse().unwrap());
    }
}
