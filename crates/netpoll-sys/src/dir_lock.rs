// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock on a folder, between threads and processes: `flock(2)` of the folder itself.
//!
//! The lock leaves no file behind, applies to every path that leads to the folder, and ends with
//! its holder, also with one that is killed. It is advisory: it binds only processes that use it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::retry::retry_on_intr;
use crate::syscall::Syscall;

/// A lock on a folder, held until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    fd: OwnedFd,
}

/// The result of [`DirLock::try_lock`].
#[derive(Debug)]
#[non_exhaustive]
pub enum LockOutcome {
    /// The folder is locked.
    Acquired(DirLock),
    /// Another holder has the lock.
    Busy,
}

impl DirLock {
    /// Locks `folder`, unless it is locked already. An `open(2)` and an `flock(2)`, and two calls
    /// when it is dropped.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR` and `EACCES` for a path that is no folder or may not be read; `ENOLCK`,
    /// `EOPNOTSUPP` or `EBADF` from a file system without such locks.
    pub fn try_lock(folder: &Path) -> io::Result<LockOutcome> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| {
            Syscall::OpenDir.call(|| rustix::fs::open(folder, flags, Mode::empty()))
        })?;
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        match Syscall::Flock.call(|| rustix::fs::flock(&fd, exclusive)) {
            Ok(()) => Ok(LockOutcome::Acquired(Self { fd })),
            // The same number as EAGAIN.
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(LockOutcome::Busy),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for DirLock {
    /// Unlocks explicitly instead of by closing: a child that was forked meanwhile has a duplicate
    /// until its `execve(2)`, and would hold the lock for as long.
    fn drop(&mut self) {
        // The close that follows unlocks too where there is no duplicate.
        let _unlocked = rustix::fs::flock(&self.fd, FlockOperation::Unlock).ok();
    }
}
