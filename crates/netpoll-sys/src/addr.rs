// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a stream socket is: an internet address, the name of a Unix socket, or nowhere that has a
//! name.
//!
//! Both kinds are one [`Addr`], so that everything above sockets is the same for both. Its text
//! is what people write on a command line:
//!
//! | text | what it means |
//! |---|---|
//! | `127.0.0.1:8080`, `[::1]:8080`, `[fe80::1%2]:8080` | internet |
//! | `unix:/run/app.sock`, `unix:app.sock` | a path in the file system |
//! | `unix:@app` | an abstract name, which no file stands for |
//!
//! An address is `Copy`: a name is kept in place, as the kernel keeps it.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

use rustix::net::{SocketAddrAny, SocketAddrUnix};

/// An address of a stream socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Addr {
    /// An internet address and port.
    Tcp(SocketAddr),
    /// The name of a Unix socket.
    Unix(UnixAddr),
    /// A socket without a name, as `socketpair(2)` makes them. So are nearly all that connect to a
    /// Unix socket.
    Unnamed,
}

impl Addr {
    /// The internet address, if it is one.
    #[must_use]
    pub const fn as_tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) | Self::Unnamed => None,
        }
    }

    /// The same address, where it is IPv4 written as IPv6 in the form of IPv4: a listener of both
    /// families and a dial of such an address have peers like `[::ffff:127.0.0.1]:80`, as the kernel
    /// says of a socket of IPv6, and that is `127.0.0.1:80`. Any other address as it is.
    ///
    /// ```
    /// use netpoll_sys::Addr;
    ///
    /// let mapped: Addr = "[::ffff:127.0.0.1]:80".parse().unwrap();
    /// assert_eq!(mapped.to_canonical().to_string(), "127.0.0.1:80");
    /// ```
    #[must_use]
    pub fn to_canonical(self) -> Self {
        match self {
            Self::Tcp(addr) => match addr.ip().to_canonical() {
                std::net::IpAddr::V4(ip) => Self::Tcp((ip, addr.port()).into()),
                std::net::IpAddr::V6(_) => self,
            },
            Self::Unix(_) | Self::Unnamed => self,
        }
    }

    /// The name of a Unix socket, if it is one.
    #[must_use]
    pub const fn as_unix(&self) -> Option<&UnixAddr> {
        match self {
            Self::Unix(addr) => Some(addr),
            Self::Tcp(_) | Self::Unnamed => None,
        }
    }

    /// What the kernel says; another family than the two has no name here.
    pub(crate) fn from_kernel(addr: Option<SocketAddrAny>) -> Self {
        let Some(addr) = addr else {
            return Self::Unnamed;
        };
        if let Ok(addr) = SocketAddrUnix::try_from(addr.clone()) {
            return UnixAddr::from_kernel(&addr).map_or(Self::Unnamed, Self::Unix);
        }
        SocketAddr::try_from(addr).map_or(Self::Unnamed, Self::Tcp)
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl From<UnixAddr> for Addr {
    fn from(addr: UnixAddr) -> Self {
        Self::Unix(addr)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(addr) => addr.fmt(f),
            Self::Unnamed => f.write_str("(unnamed)"),
        }
    }
}

impl FromStr for Addr {
    type Err = ParseAddrError;

    /// The texts that the module's table has. No name is resolved.
    fn from_str(text: &str) -> Result<Self, ParseAddrError> {
        let wrong = |name| ParseAddrError {
            text: text.to_owned(),
            name,
        };
        match text.strip_prefix("unix:") {
            Some(name) => UnixAddr::named(name)
                .map(Self::Unix)
                .map_err(|name| wrong(Some(name))),
            None => text.parse().map(Self::Tcp).map_err(|_| wrong(None)),
        }
    }
}

/// The longest path or abstract name: what `sockaddr_un` holds beside one NUL.
const MAX_NAME_LEN: usize = 107;

/// The name of a Unix socket: a path, or an abstract name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnixAddr {
    kind: UnixAddrKind,
    length: u8,
    /// Zero behind `length`, so that equal names are equal.
    name: [u8; MAX_NAME_LEN],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum UnixAddrKind {
    Path,
    Abstract,
}

impl UnixAddr {
    /// A path in the file system, absolute or relative to the current folder of whoever uses it.
    ///
    /// # Errors
    ///
    /// [`InvalidUnixName`] for a path that is empty, longer than 107 bytes, or contains NUL.
    pub fn path(path: impl AsRef<Path>) -> Result<Self, InvalidUnixName> {
        let path = path.as_ref().as_os_str().as_bytes();
        if path.contains(&0) {
            return Err(InvalidUnixName::Nul);
        }
        Self::new(UnixAddrKind::Path, path)
    }

    /// An abstract name: it is free as soon as nobody listens, and *everybody on the machine* who
    /// shares the network namespace may connect to it, since it has no file and so no permissions.
    ///
    /// # Errors
    ///
    /// [`InvalidUnixName`] for a name that is empty or longer than 107 bytes. Any byte may be in
    /// it.
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Result<Self, InvalidUnixName> {
        Self::new(UnixAddrKind::Abstract, name.as_ref())
    }

    /// What stands behind `unix:`.
    fn named(text: &str) -> Result<Self, InvalidUnixName> {
        match text.strip_prefix('@') {
            Some(name) => Self::abstract_name(name),
            None => Self::path(text),
        }
    }

    fn new(kind: UnixAddrKind, bytes: &[u8]) -> Result<Self, InvalidUnixName> {
        if bytes.is_empty() {
            return Err(InvalidUnixName::Empty);
        }
        let mut name = [0; MAX_NAME_LEN];
        let Some(room) = name.get_mut(..bytes.len()) else {
            return Err(InvalidUnixName::TooLong {
                length: bytes.len(),
                limit: MAX_NAME_LEN,
            });
        };
        room.copy_from_slice(bytes);
        Ok(Self {
            kind,
            length: bytes.len() as u8,
            name,
        })
    }

    /// The path, if it is one.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        (self.kind == UnixAddrKind::Path).then(|| Path::new(OsStr::from_bytes(self.bytes())))
    }

    /// The abstract name, if it is one.
    #[must_use]
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        (self.kind == UnixAddrKind::Abstract).then(|| self.bytes())
    }

    fn bytes(&self) -> &[u8] {
        &self.name[..usize::from(self.length)]
    }

    /// `None` for a socket without a name.
    fn from_kernel(addr: &SocketAddrUnix) -> Option<Self> {
        if let Some(name) = addr.abstract_name() {
            return Self::new(UnixAddrKind::Abstract, name).ok();
        }
        // The one path that fills all of `sockaddr_un` has no room here, and so no name.
        let path = addr.path_bytes()?;
        // Of the longest that has room, rustix gives its NUL too.
        Self::new(UnixAddrKind::Path, path.strip_suffix(&[0]).unwrap_or(path)).ok()
    }

    pub(crate) fn to_kernel(self) -> io::Result<SocketAddrUnix> {
        Ok(match self.kind {
            UnixAddrKind::Path => SocketAddrUnix::new(self.bytes())?,
            UnixAddrKind::Abstract => SocketAddrUnix::new_abstract_name(self.bytes())?,
        })
    }
}

impl fmt::Display for UnixAddr {
    /// As it is written: a path that begins with `@` gets a `./` before it, and what is not UTF-8
    /// is shown by its replacement character.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.kind {
            UnixAddrKind::Abstract => "@",
            UnixAddrKind::Path if self.bytes().starts_with(b"@") => "./",
            UnixAddrKind::Path => "",
        };
        write!(f, "unix:{mark}{}", String::from_utf8_lossy(self.bytes()))
    }
}

impl fmt::Debug for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes cannot name a Unix socket. `InvalidInput` as an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidUnixName {
    /// There are none.
    Empty,
    /// More than the kernel's `sockaddr_un` holds.
    TooLong {
        /// How many there are.
        length: usize,
        /// How many there may be.
        limit: usize,
    },
    /// There is a NUL in a path.
    Nul,
}

impl fmt::Display for InvalidUnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name of a Unix socket is empty"),
            Self::TooLong { length, limit } => write!(
                f,
                "the name of a Unix socket has {length} bytes, and may have {limit}"
            ),
            Self::Nul => f.write_str("the path of a Unix socket contains NUL"),
        }
    }
}

impl std::error::Error for InvalidUnixName {}

impl From<InvalidUnixName> for io::Error {
    fn from(error: InvalidUnixName) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// A text is not an address. `InvalidInput` as an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseAddrError {
    text: String,
    name: Option<InvalidUnixName>,
}

impl fmt::Display for ParseAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not an address; ", self.text)?;
        match self.name {
            Some(name) => name.fmt(f),
            None => {
                f.write_str("write IP:PORT, such as 127.0.0.1:8080, or unix:/path, or unix:@name")
            }
        }
    }
}

impl std::error::Error for ParseAddrError {}

impl From<ParseAddrError> for io::Error {
    fn from(error: ParseAddrError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_parses_and_prints_alike() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:0",
            "[fe80::1%2]:443",
            "unix:/run/app.sock",
            "unix:app.sock",
            "unix:@app",
            "unix:./@app",
        ] {
            assert_eq!(text.parse::<Addr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_path_is_never_printed_as_an_abstract_name() {
        let path = UnixAddr::path("@app").unwrap();
        let name = UnixAddr::abstract_name("app").unwrap();
        assert_ne!(path, name);
        let printed = path.to_string().parse::<Addr>().unwrap();
        let printed = printed.as_unix().and_then(UnixAddr::as_path).unwrap();
        assert_eq!(printed, Path::new("./@app"));
    }

    #[test]
    fn what_is_not_an_address_is_quoted_with_what_would_be_right() {
        let error = "nowhere".parse::<Addr>().unwrap_err().to_string();
        for word in ["'nowhere'", "127.0.0.1:8080", "unix:/path"] {
            assert!(error.contains(word), "{error}");
        }
        let error = "unix:".parse::<Addr>().unwrap_err().to_string();
        assert!(error.contains("empty"), "{error}");
    }

    #[test]
    fn a_name_is_as_long_as_the_kernel_takes_and_no_longer() {
        let path = |name: &str| UnixAddr::path(name);
        let abstract_name = |name: &str| UnixAddr::abstract_name(name);
        let kinds: [&dyn Fn(&str) -> _; 2] = [&path, &abstract_name];
        for named in kinds {
            assert!(named(&"x".repeat(107)).is_ok());
            let too_long = InvalidUnixName::TooLong {
                length: 108,
                limit: 107,
            };
            assert_eq!(named(&"x".repeat(108)), Err(too_long));
            assert_eq!(named(""), Err(InvalidUnixName::Empty));
        }
        assert_eq!(UnixAddr::path("a\0b"), Err(InvalidUnixName::Nul));
        assert!(UnixAddr::abstract_name("a\0b").is_ok());
    }

    #[test]
    fn a_name_survives_the_way_through_the_kernels_form() {
        for text in ["unix:/a/b", "unix:@a", &format!("unix:{}", "y".repeat(107))] {
            let addr: Addr = text.parse().unwrap();
            let name = addr.as_unix().unwrap();
            let back = UnixAddr::from_kernel(&name.to_kernel().unwrap());
            assert_eq!(back.as_ref(), Some(name));
        }
        assert_eq!(UnixAddr::from_kernel(&SocketAddrUnix::new_unnamed()), None);
    }
}
