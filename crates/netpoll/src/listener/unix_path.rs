// SPDX-License-Identifier: MIT OR Apache-2.0
//! The path of a Unix listener: made, found taken, and removed.
//!
//! The kernel makes a path with `bind(2)` and never removes it, so a server that was killed leaves
//! one to which nobody answers, and its successor has to take it away. A wrong address must not
//! cost anybody a file, so this removes one thing only: a socket, our own, that refuses to be
//! connected to, by one `unlink(2)` of just that name. At the end the path goes only if it is
//! still the one we made.
//!
//! Between a look and a removal, and between `bind(2)` and `listen(2)`, another server may start: each
//! would take the other's socket for a dead one. So all of it, and the removal at the end, is done
//! under a [lock](DirLock) on the folder. Of two servers that start at once one finds the path
//! taken, by the other that listens. The lock is no file: nothing is left behind by a server that was
//! killed, and no path is too long for it.
//!
//! A server that does not know of the lock is looked at twice, a moment apart. Beyond that, whoever may
//! write to the folder can put something else there between a look and the removal: the folder is the
//! owner's to guard. Where the folder may not be read, or its file system has no locks, there is none.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use netpoll_sys::socket::{self, ListenOptions};
use netpoll_sys::{Addr, DirLock, LockOutcome, process};

/// How long a start waits for others that start or end in its folder: each needs a few system calls.
const BIND_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an end does. It may be on a poller; a path that stays is found dead by the next server.
const REMOVE_LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a socket that refuses is left to a server that has yet to listen on it.
const RECHECK_DELAY: Duration = Duration::from_millis(2);

/// How often a path that comes and goes is tried for: by servers that know of no lock.
const MAX_BIND_ATTEMPTS: usize = 8;

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
) -> io::Result<(OwnedFd, Option<PathGuard>)> {
    // The current folder may be another one by the time the path is to be removed.
    let path = std::path::absolute(path)?;
    let _lock = lock_directory_of(&path, BIND_LOCK_TIMEOUT)?;
    let fd = bind(&path, addr, options)?;
    // From here on the path goes with us, also if nobody will ever listen there.
    let mut guard = PathGuard::new(path);
    if let Err(error) = socket::listen_on(fd.as_fd(), options) {
        // Not by its drop, which would wait for the lock.
        if let Some(guard) = &mut guard {
            guard.remove();
        }
        return Err(error);
    }
    Ok((fd, guard))
}

/// Locks the folder that `path` is in. `None` where it cannot be locked.
fn lock_directory_of(path: &Path, timeout: Duration) -> io::Result<Option<DirLock>> {
    let Some(directory) = path.parent() else {
        return Ok(None);
    };
    let begun = Instant::now();
    let mut pause = Duration::from_micros(20);
    loop {
        match DirLock::try_lock(directory) {
            Ok(LockOutcome::Acquired(lock)) => return Ok(Some(lock)),
            Ok(_) if begun.elapsed() < timeout => {
                std::thread::sleep(pause);
                pause = (2 * pause).min(Duration::from_millis(1));
            }
            Ok(_) => {
                let why = format!(
                    "the folder {} is locked by another process",
                    directory.display()
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            // A folder that is none is for `bind` to tell of.
            Err(_) => return Ok(None),
        }
    }
}

/// A socket that has the path, which is taken from a server that is no more.
fn bind(path: &Path, addr: Addr, options: ListenOptions) -> io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match socket::bind(addr, options) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tries += 1;
                // It is gone, or dead, each time that it is looked at.
                if tries == MAX_BIND_ATTEMPTS {
                    return Err(error);
                }
                remove_stale(path, addr)?;
            }
            other => return other,
        }
    }
}

/// Takes away the path of a server that is no more, or says by what it is taken.
fn remove_stale(path: &Path, addr: Addr) -> io::Result<()> {
    let Some(identity) = FileIdentity::at(path)? else {
        return Ok(());
    };
    let taken = |by| {
        let path = path.to_owned();
        Err(PathTaken { path, by }.into())
    };
    if !identity.is_socket {
        return taken(TakenBy::NotASocket);
    }
    if identity.owner != process::effective_user() {
        return taken(TakenBy::OtherUser);
    }
    if has_listener(addr)? {
        return taken(TakenBy::Listener);
    }
    std::thread::sleep(RECHECK_DELAY);
    if has_listener(addr)? {
        return taken(TakenBy::Listener);
    }
    identity.remove(path)
}

/// Whether somebody listens there.
fn has_listener(addr: Addr) -> io::Result<bool> {
    let probe = socket::stream_socket(addr)?;
    match socket::connect(probe.as_fd(), addr) {
        Ok(_) => Ok(true),
        // Refused, or gone meanwhile.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    owner: u32,
    is_socket: bool,
}

impl FileIdentity {
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
            Some(now) if now == self => match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
            _ => Ok(()),
        }
    }
}

/// A path that we have made; removed when dropped, if it is still ours.
#[derive(Debug)]
pub(super) struct PathGuard {
    path: PathBuf,
    /// `None` once it is somebody else's to remove.
    identity: Option<FileIdentity>,
}

impl PathGuard {
    fn new(path: PathBuf) -> Option<Self> {
        let identity = FileIdentity::at(&path).ok()??;
        identity.is_socket.then_some(Self {
            path,
            identity: Some(identity),
        })
    }

    /// Leaves the path where it is.
    pub(super) fn keep(mut self) {
        self.identity = None;
    }

    /// Removes the path, if it is still ours. Under the lock of its folder.
    fn remove(&mut self) {
        if let Some(identity) = self.identity.take() {
            // What cannot be removed is found dead by the next server.
            let _removed = identity.remove(&self.path).is_ok();
        }
    }
}

impl Drop for PathGuard {
    fn drop(&mut self) {
        if self.identity.is_some()
            && let Ok(_lock) = lock_directory_of(&self.path, REMOVE_LOCK_TIMEOUT)
        {
            self.remove();
        }
    }
}
