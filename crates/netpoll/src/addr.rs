// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where something listens or is connected.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// An address of a stream socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Addr {
    /// An internet address and port.
    Tcp(SocketAddr),
    /// A socket without a name, as `socketpair(2)` makes them.
    Unnamed,
}

impl Addr {
    /// The internet address, if it is one.
    #[must_use]
    pub const fn as_tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unnamed => None,
        }
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl From<Option<SocketAddr>> for Addr {
    fn from(addr: Option<SocketAddr>) -> Self {
        addr.map_or(Self::Unnamed, Self::Tcp)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unnamed => f.write_str("(unnamed)"),
        }
    }
}

/// A text is not an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseAddrError {
    text: String,
}

impl fmt::Display for ParseAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is not an address; write IP:PORT, such as 127.0.0.1:8080",
            self.text
        )
    }
}

impl std::error::Error for ParseAddrError {}

impl From<ParseAddrError> for std::io::Error {
    fn from(error: ParseAddrError) -> Self {
        Self::new(std::io::ErrorKind::InvalidInput, error)
    }
}

impl FromStr for Addr {
    type Err = ParseAddrError;

    /// `127.0.0.1:8080`, `[::1]:8080`, with a zone `[fe80::1%2]:8080`.
    fn from_str(text: &str) -> Result<Self, ParseAddrError> {
        text.parse().map(Self::Tcp).map_err(|_| ParseAddrError {
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_parse_and_print_alike() {
        for text in ["127.0.0.1:8080", "[::1]:0", "[fe80::1%2]:443"] {
            assert_eq!(text.parse::<Addr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_an_address_is_quoted_with_what_would_be_right() {
        let error = "nowhere".parse::<Addr>().unwrap_err().to_string();
        assert!(
            error.contains("'nowhere'") && error.contains("127.0.0.1:8080"),
            "{error}"
        );
    }
}
