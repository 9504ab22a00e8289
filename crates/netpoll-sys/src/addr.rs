// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses of stream sockets: an internet address, the name of a Unix socket, or no name.
//!
//! Both kinds are one [`Addr`], so that all code above sockets is the same for both. Its text form
//! is the one for command lines:
//!
//! | text | meaning |
//! |---|---|
//! | `127.0.0.1:8080`, `[::1]:8080`, `[fe80::1%2]:8080` | internet |
//! | `unix:/run/app.sock`, `unix:app.sock` | a path in the file system |
//! | `unix:@app` | an abstract name, which has no file |
//!
//! An address is `Copy`: a name is stored in place, as the kernel stores it.

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
    /// A socket without a name, as `socketpair(2)` makes them. Nearly all clients of a Unix socket
    /// are unnamed.
    Unnamed,
}

impl Addr {
    /// Returns the internet address, if it is one.
    #[must_use]
    pub const fn as_tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) | Self::Unnamed => None,
        }
    }

    /// Returns an IPv4-mapped IPv6 address as IPv4, and any other address unchanged. The kernel
    /// reports IPv4 peers of an IPv6 socket in the mapped form: a listener of both families and a
    /// dial of such an address have peers like `[::ffff:127.0.0.1]:80`, which is `127.0.0.1:80`.
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

    /// Returns the name of a Unix socket, if it is one.
    #[must_use]
    pub const fn as_unix(&self) -> Option<&UnixAddr> {
        match self {
            Self::Unix(addr) => Some(addr),
            Self::Tcp(_) | Self::Unnamed => None,
        }
    }

    /// Converts the kernel's address; an address of another family counts as unnamed.
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

    /// Parses the forms of the module's table. Resolves no names.
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

/// The longest path or abstract name, in bytes: what `sockaddr_un` holds beside one NUL.
const MAX_NAME_LEN: usize = 107;

/// The name of a Unix socket: a path, or an abstract name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnixAddr {
    kind: UnixAddrKind,
    length: u8,
    /// Zero behind `length`, so that equal names compare equal.
    name: [u8; MAX_NAME_LEN],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum UnixAddrKind {
    Path,
    Abstract,
}

impl UnixAddr {
    /// Creates a path in the file system, absolute or relative to the current folder of the process
    /// that uses it.
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

    /// Creates an abstract name. It is free as soon as its listener is closed. It has no file and
    /// so no permissions: *every process* in the same network namespace may connect to it.
    ///
    /// # Errors
    ///
    /// [`InvalidUnixName`] for a name that is empty or longer than 107 bytes. It may contain any
    /// byte.
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Result<Self, InvalidUnixName> {
        Self::new(UnixAddrKind::Abstract, name.as_ref())
    }

    /// Parses the text behind `unix:`.
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

    /// Returns the path, if it is one.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        (self.kind == UnixAddrKind::Path).then(|| Path::new(OsStr::from_bytes(self.bytes())))
    }

    /// Returns the abstract name, if it is one.
    #[must_use]
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        (self.kind == UnixAddrKind::Abstract).then(|| self.bytes())
    }

    fn bytes(&self) -> &[u8] {
        &self.name[..usize::from(self.length)]
    }

    /// Converts the kernel's name; `None` for a socket without a name.
    fn from_kernel(addr: &SocketAddrUnix) -> Option<Self> {
        if let Some(name) = addr.abstract_name() {
            return Self::new(UnixAddrKind::Abstract, name).ok();
        }
        // A path that fills all of `sockaddr_un` does not fit here, and counts as unnamed.
        let path = addr.path_bytes()?;
        // For the longest path that fits, rustix includes the NUL.
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
    /// Prints the form that parses back: a path that begins with `@` is printed with `./` before
    /// it. Bytes that are not UTF-8 are printed as the replacement character.
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

/// The bytes cannot name a Unix socket. `InvalidInput` as an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidUnixName {
    /// The name is empty.
    Empty,
    /// The name is longer than the kernel's `sockaddr_un` holds.
    TooLong {
        /// Length of the name, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The path contains a NUL.
    Nul,
}

impl fmt::Display for InvalidUnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name of a Unix socket is empty"),
            Self::TooLong { length, limit } => write!(
                f,
                "the name of a Unix socket has {length} bytes; the limit is {limit}"
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

/// The text is not an address. `InvalidInput` as an [`io::Error`].
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
    fn a_parse_error_quotes_the_text_and_shows_the_valid_forms() {
        let error = "nowhere".parse::<Addr>().unwrap_err().to_string();
        for word in ["'nowhere'", "127.0.0.1:8080", "unix:/path"] {
            assert!(error.contains(word), "{error}");
        }
        let error = "unix:".parse::<Addr>().unwrap_err().to_string();
        assert!(error.contains("empty"), "{error}");
    }

    #[test]
    fn a_name_of_107_bytes_is_accepted_and_of_108_rejected() {
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
    fn a_name_survives_conversion_to_the_kernels_form_and_back() {
        for text in ["unix:/a/b", "unix:@a", &format!("unix:{}", "y".repeat(107))] {
            let addr: Addr = text.parse().unwrap();
            let name = addr.as_unix().unwrap();
            let back = UnixAddr::from_kernel(&name.to_kernel().unwrap());
            assert_eq!(back.as_ref(), Some(name));
        }
        assert_eq!(UnixAddr::from_kernel(&SocketAddrUnix::new_unnamed()), None);
    }
}
