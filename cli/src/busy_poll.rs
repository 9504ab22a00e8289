// SPDX-License-Identifier: MIT OR Apache-2.0
//! Busy polling for the loops on the bare kernel layer: the reference server and the load.
//!
//! Every wait busy-polls for the full time given before it sleeps. The framework's pollers
//! busy-poll only when it is likely to pay; this plain form is what they are compared with, and it
//! drives the client side of a measurement.

use std::io;
use std::time::{Duration, Instant};

use netpoll_sys::{Epoll, Events};

/// Waits as [`Epoll::wait`], but polls without sleeping for the first `awake` of the wait.
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

    /// Waits on an event fd, notified or not. Returns the number of events and the time it took.
    fn wait_for(notified: bool, awake: Duration, timeout: Duration) -> (usize, Duration) {
        let (epoll, event_fd) = (Epoll::new().unwrap(), EventFd::new().unwrap());
        epoll.add(event_fd.as_fd(), 1, Interest::READABLE).unwrap();
        if notified {
            event_fd.notify().unwrap();
        }
        let start = Instant::now();
        let mut events = Events::with_capacity(1);
        let count = wait(&epoll, &mut events, awake, Some(timeout)).unwrap();
        (count, start.elapsed())
    }

    #[test]
    fn a_busy_polling_wait_ends_at_an_event_or_its_timeout() {
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(3600));
        for awake in [Duration::ZERO, short, long] {
            assert_eq!(wait_for(true, awake, long).0, 1, "{awake:?}");
            let (count, took) = wait_for(false, awake, 2 * short);
            assert!(count == 0 && took >= 2 * short, "{awake:?}: {took:?}");
        }
    }
}
