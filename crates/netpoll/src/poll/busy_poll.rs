// SPDX-License-Identifier: MIT OR Apache-2.0
//! Busy polling: a poller polls the kernel without blocking for a while before it sleeps.
//!
//! Sleeping and waking up costs tens of microseconds, most of which the processor needs to leave
//! its idle state. With `Builder::busy_poll`, a poller polls the kernel first, again and again with
//! a timeout of zero, and sleeps only if no event came.
//!
//! ```text
//!  work │ poll  poll  poll … poll │ sleep                │ work
//!       └── at most               ┘ until an event or    └─
//!           `max_duration`, or      a timer is due
//!           until a timer is due
//! ```
//!
//! The poller's notifier is armed before it begins, as before every wait that may be long. So the
//! next poll sees a command of another thread: its write to the eventfd is an event like any other.
//!
//! A busy poll has one of three results:
//!
//! * a **hit** found something after its first poll: without it the poller would have slept;
//! * a **miss** found nothing to its end;
//! * **immediate**: the first poll found something, and a sleep would have ended as soon.
//!
//! Misses waste a processor, and events that come more slowly than `max_duration` make each busy
//! poll one. So a miss has a *penalty*, a number of waits that sleep at once: 0 for the first after
//! a hit, then 1, 3, 7, 15, 31 and at most 63 for misses in a row. Only waits that an event ended
//! count down the penalty, not those that a timer ended. The wait after them is a trial: if events
//! come at a pace where busy polling catches them, it is a hit, and every wait from then on polls
//! first. This gives three bounds:
//!
//! * an idle poller polls once, and sleeps;
//! * where busy polling never catches anything, one wait in 64 polls;
//! * after events have become faster, at most 63 waits pass before the poller notices.
//!
//! The length of a sleep is not used, although it is known: it includes the time that the processor
//! took to wake up. A sleep of 60 µs may have ended for an event that came after 20 µs.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use netpoll_sys::options;

use crate::stats::counters::PollerCounters;

/// The longest busy poll that can be configured. A longer one is most likely a mistake in the unit:
/// one second keeps a poller as awake.
pub(crate) const MAX_BUSY_POLL: Duration = Duration::from_secs(1);

/// The largest penalty of a miss. One miss in 64 waits does not show in the cost of a poller, and
/// 63 events pass quickly where busy polling matters.
const MAX_SKIPPED_WAITS: u32 = 63;

/// Decides which waits poll first.
#[derive(Debug)]
pub(super) struct BusyPoll {
    /// The longest busy poll.
    max_duration: Duration,
    /// Waits left that sleep at once.
    skips_left: u32,
    /// The penalty of the next miss.
    next_penalty: u32,
}

/// The result of a busy poll.
#[derive(Debug, PartialEq, Eq)]
enum BusyPollResult {
    /// Events of the first poll.
    Immediate(usize),
    /// Events of a later poll.
    Hit(usize),
    /// No events for this long.
    Miss(Duration),
}

impl BusyPoll {
    /// Busy polls for at most `longest`; `None` if that is zero.
    pub(super) fn new(longest: Duration) -> Option<Self> {
        (!longest.is_zero()).then_some(Self {
            max_duration: longest,
            skips_left: 0,
            next_penalty: 0,
        })
    }

    /// Waits for at most `timeout`, and polls first unless a penalty is left. `wait` waits for the
    /// kernel and returns the number of events.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        counters: &PollerCounters,
        mut wait: impl FnMut(Option<Duration>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(limit) = self.busy_duration(timeout) else {
            let count = wait(timeout)?;
            self.record_sleep(count);
            return Ok(count);
        };
        match poll_until(limit, Instant::now, || wait(Some(Duration::ZERO)))? {
            BusyPollResult::Immediate(count) => Ok(count),
            BusyPollResult::Hit(count) => {
                counters.busy_polls.add(1);
                counters.busy_poll_hits.add(1);
                self.record_hit();
                Ok(count)
            }
            BusyPollResult::Miss(time) => {
                counters.busy_polls.add(1);
                // One that a timer cut short proves nothing.
                if limit == self.max_duration {
                    self.record_miss();
                }
                wait(timeout.map(|timeout| timeout.saturating_sub(time)))
            }
        }
    }

    /// Returns how long the next wait of at most `timeout` polls; `None` to sleep at once.
    fn busy_duration(&self, timeout: Option<Duration>) -> Option<Duration> {
        let longest = timeout.map_or(self.max_duration, |timeout| timeout.min(self.max_duration));
        (self.skips_left == 0).then_some(longest)
    }

    /// Records that a wait which slept at once returned `events` events.
    fn record_sleep(&mut self, events: usize) {
        if events > 0 {
            self.skips_left -= 1;
        }
    }

    fn record_hit(&mut self) {
        self.next_penalty = 0;
    }

    fn record_miss(&mut self) {
        self.skips_left = self.next_penalty;
        self.next_penalty = (2 * self.next_penalty + 1).min(MAX_SKIPPED_WAITS);
    }
}

/// Has the kernel poll the network card for a TCP socket of a poller that busy polls for `time`.
/// Does nothing if `time` is zero.
pub(crate) fn enable_socket_busy_poll(fd: BorrowedFd<'_>, time: Duration) {
    if !time.is_zero() {
        // Needs a privilege, and many cards do not support it; the poller busy polls without it,
        // too.
        let _set = options::set_busy_poll(fd, time).ok();
    }
}

/// Polls for events until there are some, or `limit` has passed on `clock`. Does not read the clock
/// if the first poll finds events.
fn poll_until(
    limit: Duration,
    mut clock: impl FnMut() -> Instant,
    mut poll: impl FnMut() -> io::Result<usize>,
) -> io::Result<BusyPollResult> {
    let at_once = poll()?;
    if at_once > 0 {
        return Ok(BusyPollResult::Immediate(at_once));
    }
    let start = clock();
    loop {
        let count = poll()?;
        if count > 0 {
            return Ok(BusyPollResult::Hit(count));
        }
        let time = clock().saturating_duration_since(start);
        if time >= limit {
            return Ok(BusyPollResult::Miss(time));
        }
    }
}

#[cfg(test)]
mod tests;
