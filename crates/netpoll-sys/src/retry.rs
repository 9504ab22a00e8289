// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that a signal interrupted are made again.
//!
//! `signal(7)`: a handler installed without `SA_RESTART`, and some calls even with it, make a
//! blocking call fail with `EINTR`. None of the calls of this crate means anything different the
//! second time, so they all go through [`retry_on_intr`].

use std::io;

use rustix::io::Errno;

/// Makes `call` until it ends in anything but `EINTR`, and turns the errno into an
/// [`io::Error`] that keeps it.
///
/// # Errors
///
/// Whatever the call fails with, except `EINTR`.
#[inline]
pub fn retry_on_intr<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_made_again() {
        let mut calls = 0;
        let answer = retry_on_intr(|| {
            calls += 1;
            if calls < 3 {
                Err(Errno::INTR)
            } else {
                Ok(calls)
            }
        });
        assert_eq!(answer.unwrap(), 3);
    }

    #[test]
    fn another_errno_is_kept() {
        let error = retry_on_intr(|| Err::<(), _>(Errno::CONNRESET)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::CONNRESET.raw_os_error()));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
