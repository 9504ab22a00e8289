// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sockets that can be ended from outside of the thread that has them.
//!
//! A thread that user code holds up cannot end the sockets it drives. So it keeps a [`SocketSet`] of them: a
//! bit for each descriptor, set while its owner has it open. Whoever gives the thread up shuts all of
//! them down, under the lock that an owner takes before it closes one: a number whose bit is set is the
//! descriptor that it was set for. And a listener gives its socket up by [`replace_fd`], which puts
//! another file in its place and leaves the number with its owner.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::retry::retry_on_intr;
use crate::syscall::Syscall;

/// The descriptors of one thread, a bit each.
#[derive(Debug, Default)]
pub struct SocketSet {
    bits: Mutex<Vec<u64>>,
}

impl SocketSet {
    /// Takes a socket in. Its owner has to [`remove`](Self::remove) it off before it is closed.
    pub fn insert(&self, fd: BorrowedFd<'_>) {
        let (word, bit) = bit_position(fd.as_raw_fd());
        let mut bits = self.lock();
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        bits[word] |= bit;
    }

    /// Lets a socket go. One that is not on the roll is left alone.
    pub fn remove(&self, fd: RawFd) {
        let (word, bit) = bit_position(fd);
        if let Some(bits) = self.lock().get_mut(word) {
            *bits &= !bit;
        }
    }

    /// Ends both streams of every socket on the roll, and says how many there were. They stay open, and
    /// on the roll. A `shutdown(2)` for each.
    pub fn shut_down_all(&self) -> usize {
        let bits = self.lock();
        let mut count = 0;
        for (word, &bits) in bits.iter().enumerate() {
            for bit in (0..64).filter(|bit| bits & (1 << bit) != 0) {
                let fd = (word * 64 + bit) as RawFd;
                // One that the peer has torn down already is no less ended.
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
    // A descriptor that is open is not negative.
    let fd = fd.unsigned_abs() as usize;
    (fd / 64, 1 << (fd % 64))
}

fn shut_down(fd: RawFd) -> Result<(), Errno> {
    Syscall::Shutdown.call(|| {
        // SAFETY: a system call that is given two numbers and touches no memory. That the number is
        // the socket that is meant, and open, is what the lock of the roll is for.
        let ended = unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        match ended {
            0 => Ok(()),
            _ => Err(last_errno()),
        }
    })
}

/// Puts what `by` is in the place of what `fd` is: the number stays open and its owner's, and the
/// socket that it was is closed, unless there is a duplicate of it. One `dup3(2)`.
///
/// # Errors
///
/// `EBUSY` in a race with the opening of the same number, which the owner of `fd` rules out.
pub fn replace_fd(fd: BorrowedFd<'_>, by: BorrowedFd<'_>) -> io::Result<()> {
    retry_on_intr(|| {
        Syscall::Dup.call(|| {
            // SAFETY: a system call that is given numbers of open descriptors, as the borrows say,
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
    fn every_socket_on_the_roll_is_shut_down_and_no_other() {
        let roll = SocketSet::default();
        let pairs: Vec<_> = (0..70).map(|_| socket::pair().unwrap()).collect();
        for (ours, _) in &pairs {
            roll.insert(ours.as_fd());
        }
        roll.remove(pairs[3].0.as_raw_fd());
        roll.remove(pairs[3].1.as_raw_fd());
        assert_eq!(roll.shut_down_all(), 69);
        for (index, (_, theirs)) in pairs.iter().enumerate() {
            let ended = transfer::receive(theirs.as_fd(), &mut [0]);
            assert_eq!(matches!(ended, Ok(0)), index != 3, "{index}: {ended:?}");
        }
    }

    #[test]
    fn a_listener_that_is_displaced_frees_its_port_and_its_number_stays() {
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
