// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shuts sockets down from outside of the thread that owns them.
//!
//! A thread that user code blocks cannot close the sockets it drives. So it keeps a [`SocketSet`]
//! of them: a bit for each descriptor, set while its owner has it open. A thread that abandons the
//! blocked one shuts all of them down, under the lock that an owner takes before it closes one: a
//! number whose bit is set is the descriptor that it was set for. A listener's socket is closed
//! with [`replace_fd`], which puts another file in its place and leaves the number with its owner.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::retry::retry_on_intr;
use crate::syscall::Syscall;

/// The descriptors of one thread, one bit each.
#[derive(Debug, Default)]
pub struct SocketSet {
    bits: Mutex<Vec<u64>>,
}

impl SocketSet {
    /// Inserts a socket. Its owner has to [`remove`](Self::remove) it before it closes it.
    pub fn insert(&self, fd: BorrowedFd<'_>) {
        let (word, bit) = bit_position(fd.as_raw_fd());
        let mut bits = self.lock();
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        bits[word] |= bit;
    }

    /// Removes a socket. A descriptor that is not in the set is ignored.
    pub fn remove(&self, fd: RawFd) {
        let (word, bit) = bit_position(fd);
        if let Some(bits) = self.lock().get_mut(word) {
            *bits &= !bit;
        }
    }

    /// Shuts down both directions of every socket of the set, and returns their number. They stay
    /// open, and in the set. A `shutdown(2)` for each.
    pub fn shut_down_all(&self) -> usize {
        let bits = self.lock();
        let mut count = 0;
        for (word, &bits) in bits.iter().enumerate() {
            for bit in (0..64).filter(|bit| bits & (1 << bit) != 0) {
                let fd = (word * 64 + bit) as RawFd;
                // An error means that the peer has torn the connection down already.
                let _ended = shut_down(fd).is_ok();
                count += 1;
            }
        }
        count
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.bits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bit_position(fd: RawFd) -> (usize, u64) {
    // An open descriptor is not negative.
    let fd = fd.unsigned_abs() as usize;
    (fd / 64, 1 << (fd % 64))
}

fn shut_down(fd: RawFd) -> Result<(), Errno> {
    Syscall::Shutdown.call(|| {
        // SAFETY: a system call that takes two numbers and touches no memory. The lock of the set
        // ensures that the number is the intended socket, and open.
        let ended = unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        match ended {
            0 => Ok(()),
            _ => Err(last_errno()),
        }
    })
}

/// Replaces the file behind `fd` by that of `by`: the number stays open and its owner's, and its
/// previous socket is closed, unless there is a duplicate of it. One `dup3(2)`.
///
/// # Errors
///
/// `EBUSY` in a race with an open of the same number, which the owner of `fd` rules out.
pub fn replace_fd(fd: BorrowedFd<'_>, by: BorrowedFd<'_>) -> io::Result<()> {
    retry_on_intr(|| {
        Syscall::Dup.call(|| {
            // SAFETY: a system call that takes numbers of open descriptors, as the borrows ensure,
            // and touches no memory.
            let moved = unsafe { libc::dup3(by.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) };
            match moved {
                -1 => Err(last_errno()),
                _ => Ok(()),
            }
        })
    })
}

fn last_errno() -> Errno {
    let errno = io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(errno.unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventFd, socket, transfer};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn shut_down_all_shuts_down_the_sockets_of_the_set_only() {
        let set = SocketSet::default();
        let pairs: Vec<_> = (0..70).map(|_| socket::pair().unwrap()).collect();
        for (ours, _) in &pairs {
            set.insert(ours.as_fd());
        }
        set.remove(pairs[3].0.as_raw_fd());
        set.remove(pairs[3].1.as_raw_fd());
        assert_eq!(set.shut_down_all(), 69);
        for (index, (_, theirs)) in pairs.iter().enumerate() {
            let ended = transfer::receive(theirs.as_fd(), &mut [0]);
            assert_eq!(matches!(ended, Ok(0)), index != 3, "{index}: {ended:?}");
        }
    }

    #[test]
    fn replace_fd_frees_the_port_and_keeps_the_descriptor_number() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let by = EventFd::new().unwrap();
        replace_fd(listener.as_fd(), by.as_fd()).unwrap();
        assert!(TcpStream::connect(addr).is_err());
        assert!(listener.accept().is_err());
        TcpListener::bind(addr).unwrap();
        by.clear().unwrap();
    }
}
