// SPDX-License-Identifier: MIT OR Apache-2.0
//! Repeats calls that a signal interrupted.
//!
//! `signal(7)`: a handler installed without `SA_RESTART`, and with some calls even one with it,
//! makes a blocking call fail with `EINTR`. No call of this crate means anything different the
//! second time, so all of them go through [`retry_on_intr`].

use std::io;

use rustix::io::Errno;

/// Repeats `call` until it returns anything but `EINTR`, and turns the errno into an [`io::Error`]
/// that keeps it.
///
/// # Errors
///
/// The error of the call, except `EINTR`.
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
    fn an_interrupted_call_is_repeated() {
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
