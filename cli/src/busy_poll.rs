// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting awake, of the loops that stand on the kernel alone: the reference and the load.
//!
//! The plainest form there is: every wait begins awake, for as long as was said. The framework's
//! pollers are choosier; these are what theirs is compared with, and the other end of what is
//! measured.

use std::io;
use std::time::{Duration, Instant};

use netpoll_sys::{Epoll, Events};

/// As [`Epoll::wait`], where the thread asks again and again for `awake` before it sleeps.
///
/// # Errors
///
/// Those of [`Epoll::wait`].
pub(crate) fn wait(
    epoll: &Epoll,
    events: &mut Events,
    awake: Duration,
    timeout: Option<Duration>,
) -> io::Result<usize> {
    if awake.is_zero() {
        return epoll.wait(events, timeout);
    }
    let start = Instant::now();
    let awake = timeout.map_or(awake, |timeout| awake.min(timeout));
    loop {
        let count = epoll.wait(events, Some(Duration::ZERO))?;
        let time = start.elapsed();
        if count > 0 {
            return Ok(count);
        }
        if time >= awake {
            return epoll.wait(events, timeout.map(|timeout| timeout.saturating_sub(time)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use netpoll_sys::{EventFd, Interest};

    use super::*;

    /// Waits on a bell that is rung or not, and says how many events came and how long it took.
    fn wait_for(rung: bool, awake: Duration, timeout: Duration) -> (usize, Duration) {
        let (epoll, bell) = (Epoll::new().unwrap(), EventFd::new().unwrap());
        epoll.add(bell.as_fd(), 1, Interest::READABLE).unwrap();
        if rung {
            bell.notify().unwrap();
        }
        let start = Instant::now();
        let mut events = Events::with_capacity(1);
        let count = wait(&epoll, &mut events, awake, Some(timeout)).unwrap();
        (count, start.elapsed())
    }

    #[test]
    fn a_wait_ends_at_an_event_or_at_its_timeout_however_long_it_is_awake() {
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(3600));
        for awake in [Duration::ZERO, short, long] {
            assert_eq!(wait_for(true, awake, long).0, 1, "{awake:?}");
            let (count, took) = wait_for(false, awake, 2 * short);
            assert!(count == 0 && took >= 2 * short, "{awake:?}: {took:?}");
        }
    }
}
