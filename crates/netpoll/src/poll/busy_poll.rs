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
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn busy_poll(longest: Duration) -> BusyPoll {
        BusyPoll::new(longest).expect("a time to stay awake")
    }

    /// Returns for each of `waits` waits whether it polls first. `outcome` gets that and records
    /// the result.
    fn waits(
        busy_poll: &mut BusyPoll,
        waits: usize,
        mut outcome: impl FnMut(&mut BusyPoll, bool),
    ) -> Vec<bool> {
        (0..waits)
            .map(|_| {
                let awake = busy_poll.busy_duration(None).is_some();
                outcome(busy_poll, awake);
                awake
            })
            .collect()
    }

    /// Events that come too late for any busy poll.
    fn too_late(busy_poll: &mut BusyPoll, awake: bool) {
        match awake {
            true => busy_poll.record_miss(),
            false => busy_poll.record_sleep(1),
        }
    }

    /// Returns the result of `wait`, the timeouts it slept with and the busy polls it counted,
    /// where only a sleep finds an event.
    fn quiet(
        busy_poll: &mut BusyPoll,
        timeout: Option<Duration>,
    ) -> (usize, Vec<Option<Duration>>, u64) {
        let (mut slept, counters) = (Vec::new(), PollerCounters::default());
        let count = busy_poll.wait(timeout, &counters, |timeout| {
            if timeout == Some(Duration::ZERO) {
                return Ok(0);
            }
            slept.push(timeout);
            Ok(1)
        });
        assert_eq!(counters.busy_poll_hits.get(), 0);
        (count.unwrap(), slept, counters.busy_polls.get())
    }

    #[test]
    fn a_busy_poll_cut_short_by_a_timer_has_no_penalty() {
        let mut busy_poll = busy_poll(Duration::from_millis(2));
        let short = Some(Duration::from_micros(10));
        for _ in 0..5 {
            assert_eq!(quiet(&mut busy_poll, short).2, 1, "it polls each time");
        }
        quiet(&mut busy_poll, None);
        quiet(&mut busy_poll, None);
        assert_eq!(
            quiet(&mut busy_poll, short).2,
            0,
            "two complete misses have a penalty"
        );
    }

    #[test]
    fn a_zero_duration_disables_busy_polling() {
        assert!(BusyPoll::new(Duration::ZERO).is_none());
        assert!(BusyPoll::new(Duration::from_nanos(1)).is_some());
    }

    #[test]
    fn consecutive_misses_back_off_to_63_waits() {
        let mut busy_poll = busy_poll(LONG);
        let awake = waits(&mut busy_poll, 1000, too_late);
        let at: Vec<usize> = (0..1000).filter(|&wait| awake[wait]).collect();
        let rests: Vec<usize> = at.windows(2).map(|two| two[1] - two[0] - 1).collect();
        assert_eq!(rests[..9], [0, 1, 3, 7, 15, 31, 63, 63, 63]);
        assert!(rests[9..].iter().all(|&rest| rest == 63), "{rests:?}");
    }

    #[test]
    fn a_hit_resets_the_penalty() {
        let mut busy_poll = busy_poll(LONG);
        waits(&mut busy_poll, 1000, too_late);
        let back = waits(&mut busy_poll, 64, |busy_poll, awake| match awake {
            true => busy_poll.record_hit(),
            false => busy_poll.record_sleep(1),
        });
        let first = back.iter().position(|&awake| awake).expect("a trial");
        assert!(back[first..].iter().all(|&awake| awake), "{back:?}");
        let awake = waits(&mut busy_poll, 7, too_late);
        assert_eq!(awake, [true, true, false, true, false, false, false]);
    }

    #[test]
    fn only_waits_ended_by_an_event_reduce_the_penalty() {
        let mut busy_poll = busy_poll(LONG);
        waits(&mut busy_poll, 2, too_late);
        let timers = waits(&mut busy_poll, 1000, |busy_poll, _| {
            busy_poll.record_sleep(0)
        });
        assert!(timers.iter().all(|awake| !awake));
        assert_eq!(waits(&mut busy_poll, 2, too_late), [false, true]);
    }

    #[test]
    fn a_busy_poll_ends_when_a_timer_is_due() {
        let short = Duration::from_nanos(1);
        assert_eq!(busy_poll(LONG).busy_duration(Some(short)), Some(short));
        assert_eq!(busy_poll(short).busy_duration(Some(LONG)), Some(short));
        assert_eq!(busy_poll(short).busy_duration(None), Some(short));
        // The timer is due when the busy poll ends: no sleep follows.
        assert_eq!(quiet(&mut busy_poll(LONG), Some(short)), (0, vec![], 1));
    }

    #[test]
    fn a_miss_sleeps_for_the_remaining_timeout() {
        let short = Duration::from_nanos(1);
        assert_eq!(quiet(&mut busy_poll(short), None), (1, vec![None], 1));
        let (count, slept, busy_polls) = quiet(&mut busy_poll(short), Some(LONG));
        assert_eq!((count, slept.len(), busy_polls), (1, 1, 1));
        let left = slept[0].expect("an end");
        assert!(left < LONG && left > LONG / 2, "{left:?}");
    }

    #[test]
    fn a_skipped_wait_sleeps_at_once_and_is_not_counted() {
        let mut busy_poll = busy_poll(Duration::from_nanos(1));
        quiet(&mut busy_poll, None);
        quiet(&mut busy_poll, None);
        assert_eq!(quiet(&mut busy_poll, Some(LONG)), (1, vec![Some(LONG)], 0));
        assert_eq!(quiet(&mut busy_poll, None).2, 1);
    }

    #[test]
    fn events_found_at_once_are_neither_hit_nor_miss() {
        let mut busy_poll = busy_poll(LONG);
        waits(&mut busy_poll, 2, too_late);
        waits(&mut busy_poll, 1, |busy_poll, _| busy_poll.record_sleep(1));
        let counters = PollerCounters::default();
        assert_eq!(busy_poll.wait(None, &counters, |_| Ok(3)).unwrap(), 3);
        assert_eq!(
            (counters.busy_polls.get(), counters.busy_poll_hits.get()),
            (0, 0)
        );
        // The trial is still to come, with the same penalty.
        let awake = waits(&mut busy_poll, 5, too_late);
        assert_eq!(awake, [true, false, false, false, true]);
    }

    #[test]
    fn events_found_while_polling_are_a_hit() {
        let mut busy_poll = busy_poll(LONG);
        let (mut polls, counters) = (0, PollerCounters::default());
        let count = busy_poll.wait(None, &counters, |timeout| {
            assert_eq!(timeout, Some(Duration::ZERO));
            polls += 1;
            Ok(if polls < 5 { 0 } else { 2 })
        });
        assert_eq!((count.unwrap(), polls), (2, 5));
        assert_eq!(
            (counters.busy_polls.get(), counters.busy_poll_hits.get()),
            (1, 1)
        );
    }

    #[test]
    fn the_clock_ends_a_miss_and_is_not_read_before_the_second_poll() {
        let start = Instant::now();
        let (mut ticks, mut polls) = (0, 0);
        let clock = || {
            ticks += 1;
            start + Duration::from_millis(10) * (ticks - 1)
        };
        let ended = poll_until(Duration::from_millis(25), clock, || {
            polls += 1;
            Ok(0)
        });
        assert_eq!(
            ended.unwrap(),
            BusyPollResult::Miss(Duration::from_millis(30))
        );
        assert_eq!((ticks, polls), (4, 4));
        let unread = || panic!("the clock is read without need");
        let ended = poll_until(LONG, unread, || Ok(7));
        assert_eq!(ended.unwrap(), BusyPollResult::Immediate(7));
    }

    #[test]
    fn an_error_of_any_poll_ends_the_wait() {
        for good in 0..3 {
            let mut polls = 0;
            let failed = busy_poll(LONG).wait(None, &PollerCounters::default(), |_| {
                polls += 1;
                match polls > good {
                    true => Err(io::ErrorKind::OutOfMemory.into()),
                    false => Ok(0),
                }
            });
            assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        }
    }
}
