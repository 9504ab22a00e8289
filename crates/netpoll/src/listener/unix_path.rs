// SPDX-License-Identifier: MIT OR Apache-2.0
//! The path of a Unix listener: made, found taken, and removed.
//!
//! The kernel makes a path with `bind(2)` and never removes it, so a server that was killed leaves
//! one to which nobody answers, and its successor has to take it away. A wrong address must not
//! cost anybody a file, so this removes one thing only: a socket, our own, that refuses to be
//! connected to, by one `unlink(2)` of just that name. At the end the path goes only if it is
//! still the one we made.
//!
//! Whoever may write to the folder can put something else there between a look and the removal;
//! the look is taken again right before, and the folder is the owner's to guard.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use netpoll_sys::socket::{self, ListenOptions};
use netpoll_sys::{Addr, process};

/// Somebody or something has the path that was to be listened on. `AddrInUse` as an
/// [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathTaken {
    /// The path, absolute.
    pub path: PathBuf,
    /// By what.
    pub by: TakenBy,
}

/// What has a path that was to be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TakenBy {
    /// A server that takes connections there.
    Listener,
    /// A file that is no socket, a folder, a symbolic link: it is left alone.
    NotASocket,
    /// A socket of another user's: it is left alone, whether or not somebody listens.
    OtherUser,
}

impl fmt::Display for PathTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            TakenBy::Listener => "a server that listens there",
            TakenBy::NotASocket => "something that is no socket",
            TakenBy::OtherUser => "a socket of another user's",
        };
        write!(f, "{} is taken by {by}", self.path.display())
    }
}

impl Error for PathTaken {}

impl From<PathTaken> for io::Error {
    fn from(error: PathTaken) -> Self {
        Self::new(io::ErrorKind::AddrInUse, error)
    }
}

/// Listens on `addr`, which is `path`. There is no path to remove if somebody else was faster.
pub(super) fn listen(
    path: &Path,
    addr: Addr,
    options: ListenOptions,
) -> io::Result<(OwnedFd, Option<OwnPath>)> {
    // The current folder may be another one by the time the path is to be removed.
    let path = std::path::absolute(path)?;
    let fd = match socket::bind(addr, options) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_dead(&path, addr)?;
            socket::bind(addr, options)?
        }
        other => other?,
    };
    // From here on the path goes with us, also if nobody will ever listen there.
    let path = OwnPath::made(path);
    socket::start_to_listen(fd.as_fd(), options)?;
    Ok((fd, path))
}

/// Takes away the path of a server that is no more, or says by what it is taken.
fn remove_dead(path: &Path, addr: Addr) -> io::Result<()> {
    let Some(node) = Node::at(path)? else {
        return Ok(());
    };
    let taken = |by| {
        let path = path.to_owned();
        Err(PathTaken { path, by }.into())
    };
    if !node.is_socket {
        return taken(TakenBy::NotASocket);
    }
    if node.owner != process::effective_user() {
        return taken(TakenBy::OtherUser);
    }
    let probe = socket::stream_socket(addr)?;
    match socket::connect(probe.as_fd(), addr) {
        Ok(_) => taken(TakenBy::Listener),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => node.remove(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    device: u64,
    inode: u64,
    owner: u32,
    is_socket: bool,
}

impl Node {
    /// A symbolic link is what it is, not what it leads to.
    fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(found) => Ok(Some(Self {
                device: found.dev(),
                inode: found.ino(),
                owner: found.uid(),
                is_socket: found.file_type().is_socket(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes `path` if it is still this.
    fn remove(self, path: &Path) -> io::Result<()> {
        match Self::at(path)? {
            Some(now) if now == self => fs::remove_file(path),
            _ => Ok(()),
        }
    }
}

/// A path that we have made; removed when dropped, if it is still ours.
#[derive(Debug)]
pub(super) struct OwnPath {
    path: PathBuf,
    /// `None` once it is somebody else's to remove.
    node: Option<Node>,
}

impl OwnPath {
    fn made(path: PathBuf) -> Option<Self> {
        let node = Node::at(&path).ok()??;
        node.is_socket.then_some(Self {
            path,
            node: Some(node),
        })
    }

    /// Leaves the path where it is.
    pub(super) fn leave(mut self) {
        self.node = None;
    }
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        if let Some(node) = self.node {
            // What cannot be removed is found dead by the next server.
            let _removed = node.remove(&self.path).is_ok();
        }
    }
}
