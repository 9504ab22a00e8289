// SPDX-License-Identifier: MIT OR Apache-2.0
//! The path of a Unix listener: created, checked for another server, and removed.
//!
//! `bind(2)` creates a path and the kernel never removes it. So a killed server leaves a stale
//! path, and its successor has to remove it. A wrong address must not cost a user a file. So this
//! module removes only a socket that belongs to the same user and refuses connections, with one
//! `unlink(2)` of exactly that name. At the end the path is removed only if it is still the one
//! that was created here.
//!
//! Another server may start between a check and a removal, or between `bind(2)` and `listen(2)`;
//! each would take the other's socket for a stale one. So these steps, and the removal at the end,
//! run under a [lock](DirLock) on the directory. Of two servers that start at once, one finds the
//! path taken by the other, which listens. The lock is not a file: a killed server leaves nothing
//! behind, and no path is too long for it.
//!
//! For servers that do not use the lock, a path is checked twice, a moment apart. Beyond that, any
//! user with write permission for the directory can replace the path between a check and a removal:
//! protecting the directory is up to its owner. If the directory is not readable, or its file
//! system has no locks, no lock is taken.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use netpoll_sys::socket::{self, ListenOptions};
use netpoll_sys::{Addr, DirLock, LockOutcome, process};

use crate::error::{ErrorKind, TakenBy};

/// How long a start waits for other starts and ends in its directory; each needs a few system
/// calls.
const BIND_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a removal waits. It may run on a poller; the next server finds a remaining path stale.
const REMOVE_LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait before the second check: a new server may not have called `listen(2)` yet.
const RECHECK_DELAY: Duration = Duration::from_millis(2);

/// How often to retry a path that other servers, which use no lock, create and remove.
const MAX_BIND_ATTEMPTS: usize = 8;

/// Listens on `addr`, whose path is `path`. Returns no guard if the path is gone already.
pub(super) fn listen(
    path: &Path,
    addr: Addr,
    options: ListenOptions,
) -> io::Result<(OwnedFd, Option<PathGuard>)> {
    // The working directory may change before the path is removed.
    let path = std::path::absolute(path)?;
    let _lock = lock_directory_of(&path, BIND_LOCK_TIMEOUT)?;
    let fd = bind(&path, addr, options)?;
    // From here on this function owns the path, even if `listen(2)` fails.
    let mut guard = PathGuard::new(path);
    if let Err(error) = socket::listen_on(fd.as_fd(), options) {
        // Not by its drop, which would wait for the lock that is held here.
        if let Some(guard) = &mut guard {
            guard.remove();
        }
        return Err(error);
    }
    Ok((fd, guard))
}

/// Locks the parent directory of `path`. Returns `None` if it cannot be locked.
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
                    "the directory {} is locked by another process",
                    directory.display()
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            // `bind` reports a directory that does not exist.
            Err(_) => return Ok(None),
        }
    }
}

/// Binds a socket to the path, and replaces a stale one.
fn bind(path: &Path, addr: Addr, options: ListenOptions) -> io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match socket::bind(addr, options) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tries += 1;
                // Each attempt found the path missing or stale.
                if tries == MAX_BIND_ATTEMPTS {
                    return Err(error);
                }
                remove_stale(path, addr)?;
            }
            other => return other,
        }
    }
}

/// Removes a stale path, or returns what occupies it.
fn remove_stale(path: &Path, addr: Addr) -> io::Result<()> {
    let Some(identity) = FileIdentity::at(path)? else {
        return Ok(());
    };
    let taken = |by| {
        let path = path.to_owned();
        Err(ErrorKind::PathTaken { path, by }.into())
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

/// Returns whether a server listens on `addr`.
fn has_listener(addr: Addr) -> io::Result<bool> {
    let probe = socket::stream_socket(addr)?;
    match socket::connect(probe.as_fd(), addr) {
        Ok(_) => Ok(true),
        // Refused, or removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The identity of the file at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    owner: u32,
    is_socket: bool,
}

impl FileIdentity {
    /// Returns the identity of the file at `path`, without following a symbolic link.
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

    /// Removes `path` if it still has this identity.
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

/// A path that was created here; drop removes it if it is still the same file.
#[derive(Debug)]
pub(super) struct PathGuard {
    path: PathBuf,
    /// `None` once another owner removes it.
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

    /// Leaves the path in place.
    pub(super) fn keep(mut self) {
        self.identity = None;
    }

    /// Removes the path if it is still the same file. The caller holds the lock of its directory.
    fn remove(&mut self) {
        if let Some(identity) = self.identity.take() {
            // If the removal fails, the next server finds the path stale.
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
