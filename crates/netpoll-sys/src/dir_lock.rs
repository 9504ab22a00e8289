// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock on a folder, between threads and processes: `flock(2)` of the folder itself.
//!
//! It leaves no file behind, is there under every name that leads to the folder, and ends with its
//! holder, also with one that is killed. It binds only those who ask for it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::retry::retry_on_intr;
use crate::syscall::Syscall;

/// A lock on a folder, until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    fd: OwnedFd,
}

/// What came of a try to lock a folder.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockOutcome {
    /// It is locked.
    Acquired(DirLock),
    /// Somebody else holds the lock.
    Busy,
}

impl DirLock {
    /// Locks `folder`, unless somebody else has. An `open(2)` and an `flock(2)`, and as many calls when
    /// it is dropped.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR` and `EACCES` for a folder that is none or may not be read; `ENOLCK`,
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
    /// By itself, and not by closing: a child that was forked meanwhile has a duplicate until its
    /// `execve(2)`, and would hold the lock for as long.
    fn drop(&mut self) {
        // The close that follows does the same where there is no duplicate.
        let _unlocked = rustix::fs::flock(&self.fd, FlockOperation::Unlock).ok();
    }
}
