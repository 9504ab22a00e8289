// SPDX-License-Identifier: MIT OR Apache-2.0
//! Busy polling: which waits of a poller begin awake, and what a wait is that does.
//!
//! To sleep and to be woken costs tens of microseconds, most of which the processor needs to come
//! out of its rest. A poller that is told to (`Builder::busy_poll`) stays awake for a while first:
//! it asks the kernel again and again, without waiting, and sleeps only if nothing came.
//!
//! ```text
//!  work │ look  look  look … look │ sleep                │ work
//!       └── at most `longest` ────┘ until an event or    └─
//!           or until a timer is due  a timer is due
//! ```
//!
//! The poller's bell is armed before it begins, as before every wait that may be long. So what
//! other threads ask is seen by the next look: their ring is an event like any other.
//!
//! A spin is one of three:
//!
//! * a **hit**, which found something after its first look: without it the poller would have slept;
//! * a **miss**, which found nothing to its end;
//! * **nothing**, if the first look had something: a sleep would have ended as soon.
//!
//! Misses are what a processor is wasted by, and events that come more slowly than `longest` make
//! each spin one. So a miss *costs*: the first after a hit nothing, the next in a row one wait that
//! sleeps at once, then 3, 7, 15, 31 and at most 63. Only waits that an event ended pay for it, not
//! those that a timer did. Then the next wait is spun again and is the proof: if events come at a
//! pace where spinning catches them, it is a hit, and every wait is spun from then on. What this is
//! held to:
//!
//! * a poller that nothing happens to spins once, and sleeps;
//! * where spinning never catches anything, one wait in 64 is spun;
//! * after the pace has quickened, at most 63 waits go by before it is noticed.
//!
//! The length of a sleep is not looked at, though it costs nothing to know: it has the time in it
//! that the processor took to wake up, and a sleep of 60 us may have ended for an event that came
//! after 20.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use netpoll_sys::options;

use crate::stats::counters::PollerCounters;

/// The longest that a poller may be told to stay awake. Who says more has meant another unit: it
/// would be as awake with a second.
pub(crate) const MAX_BUSY_POLL: Duration = Duration::from_secs(1);

/// The most waits that a miss has slept through. One look in 64 that may be in vain is not seen in
/// what a poller costs, and 63 events are gone in no time where it matters.
const MAX_SKIPPED_WAITS: u32 = 63;

/// Decides which waits begin awake.
#[derive(Debug)]
pub(super) struct BusyPoll {
    /// How long a wait is spent awake at most.
    max_duration: Duration,
    /// How many more waits sleep at once.
    skips_left: u32,
    /// How many the next miss will cost.
    next_penalty: u32,
}

/// What being awake came to.
#[derive(Debug, PartialEq, Eq)]
enum BusyPollResult {
    /// So many events at the first look.
    Immediate(usize),
    /// So many events at a later one.
    Hit(usize),
    /// None, for so long.
    Miss(Duration),
}

impl BusyPoll {
    /// Spins of at most `longest`; none at all, if that is zero.
    pub(super) fn new(longest: Duration) -> Option<Self> {
        (!longest.is_zero()).then_some(Self {
            max_duration: longest,
            skips_left: 0,
            next_penalty: 0,
        })
    }

    /// Waits with `wait`, a wait for the kernel that says how many events there are, as if it were
    /// `wait(timeout)`: awake for a while first, or not.
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
                // One that a timer cut short shows nothing.
                if limit == self.max_duration {
                    self.record_miss();
                }
                wait(timeout.map(|timeout| timeout.saturating_sub(time)))
            }
        }
    }

    /// How long the next wait is to be spent awake, of one that is at most `timeout` long.
    fn busy_duration(&self, timeout: Option<Duration>) -> Option<Duration> {
        let longest = timeout.map_or(self.max_duration, |timeout| timeout.min(self.max_duration));
        (self.skips_left == 0).then_some(longest)
    }

    /// A wait that slept at once brought `events`.
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

/// Has the kernel ask the network card itself for what comes on a TCP socket of a poller that stays
/// awake for `time`; nothing, if that is zero.
pub(crate) fn enable_socket_busy_poll(fd: BorrowedFd<'_>, time: Duration) {
    if !time.is_zero() {
        // Refused to who may not, and of no use on many a card: the poller stays awake all the same.
        let _set = options::set_busy_poll(fd, time).ok();
    }
}

/// Looks for events until there are some, or `limit` has passed on `clock`. The clock is not read
/// for what the first look finds.
fn poll_until(
    limit: Duration,
    mut clock: impl FnMut() -> Instant,
    mut look: impl FnMut() -> io::Result<usize>,
) -> io::Result<BusyPollResult> {
    let at_once = look()?;
    if at_once > 0 {
        return Ok(BusyPollResult::Immediate(at_once));
    }
    let start = clock();
    loop {
        let count = look()?;
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

    fn spin(longest: Duration) -> BusyPoll {
        BusyPoll::new(longest).expect("a time to stay awake")
    }

    /// Whether each of `waits` waits begins awake, where `outcome` is told of each and says what
    /// comes of it.
    fn waits(
        spin: &mut BusyPoll,
        waits: usize,
        mut outcome: impl FnMut(&mut BusyPoll, bool),
    ) -> Vec<bool> {
        (0..waits)
            .map(|_| {
                let awake = spin.busy_duration(None).is_some();
                outcome(spin, awake);
                awake
            })
            .collect()
    }

    /// Events that come too late for any spin.
    fn too_late(spin: &mut BusyPoll, awake: bool) {
        match awake {
            true => spin.record_miss(),
            false => spin.record_sleep(1),
        }
    }

    /// What `wait` returns, which timeouts it slept with, and what it counted, where the kernel has
    /// nothing for who does not sleep.
    fn quiet(
        spin: &mut BusyPoll,
        timeout: Option<Duration>,
    ) -> (usize, Vec<Option<Duration>>, u64) {
        let (mut slept, counters) = (Vec::new(), PollerCounters::default());
        let count = spin.wait(timeout, &counters, |timeout| {
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
        let mut spin = spin(Duration::from_millis(2));
        let short = Some(Duration::from_micros(10));
        for _ in 0..5 {
            assert_eq!(quiet(&mut spin, short).2, 1, "awake each time");
        }
        quiet(&mut spin, None);
        quiet(&mut spin, None);
        assert_eq!(quiet(&mut spin, short).2, 0, "two whole ones in vain cost");
    }

    #[test]
    fn a_zero_duration_disables_busy_polling() {
        assert!(BusyPoll::new(Duration::ZERO).is_none());
        assert!(BusyPoll::new(Duration::from_nanos(1)).is_some());
    }

    #[test]
    fn consecutive_misses_back_off_to_63_waits() {
        let mut spin = spin(LONG);
        let awake = waits(&mut spin, 1000, too_late);
        let at: Vec<usize> = (0..1000).filter(|&wait| awake[wait]).collect();
        let rests: Vec<usize> = at.windows(2).map(|two| two[1] - two[0] - 1).collect();
        assert_eq!(rests[..9], [0, 1, 3, 7, 15, 31, 63, 63, 63]);
        assert!(rests[9..].iter().all(|&rest| rest == 63), "{rests:?}");
    }

    #[test]
    fn a_hit_resets_the_penalty() {
        let mut spin = spin(LONG);
        waits(&mut spin, 1000, too_late);
        let back = waits(&mut spin, 64, |spin, awake| match awake {
            true => spin.record_hit(),
            false => spin.record_sleep(1),
        });
        let first = back.iter().position(|&awake| awake).expect("a trial");
        assert!(back[first..].iter().all(|&awake| awake), "{back:?}");
        let awake = waits(&mut spin, 7, too_late);
        assert_eq!(awake, [true, true, false, true, false, false, false]);
    }

    #[test]
    fn only_waits_ended_by_an_event_reduce_the_penalty() {
        let mut spin = spin(LONG);
        waits(&mut spin, 2, too_late);
        let timers = waits(&mut spin, 1000, |spin, _| spin.record_sleep(0));
        assert!(timers.iter().all(|awake| !awake));
        assert_eq!(waits(&mut spin, 2, too_late), [false, true]);
    }

    #[test]
    fn a_busy_poll_ends_when_a_timer_is_due() {
        let short = Duration::from_nanos(1);
        assert_eq!(spin(LONG).busy_duration(Some(short)), Some(short));
        assert_eq!(spin(short).busy_duration(Some(LONG)), Some(short));
        assert_eq!(spin(short).busy_duration(None), Some(short));
        // The timer's time has come when the spin ends: nobody sleeps past it.
        assert_eq!(quiet(&mut spin(LONG), Some(short)), (0, vec![], 1));
    }

    #[test]
    fn a_miss_sleeps_for_the_remaining_timeout() {
        let short = Duration::from_nanos(1);
        assert_eq!(quiet(&mut spin(short), None), (1, vec![None], 1));
        let (count, slept, spins) = quiet(&mut spin(short), Some(LONG));
        assert_eq!((count, slept.len(), spins), (1, 1, 1));
        let left = slept[0].expect("an end");
        assert!(left < LONG && left > LONG / 2, "{left:?}");
    }

    #[test]
    fn a_skipped_wait_sleeps_at_once_and_is_not_counted() {
        let mut spin = spin(Duration::from_nanos(1));
        quiet(&mut spin, None);
        quiet(&mut spin, None);
        assert_eq!(quiet(&mut spin, Some(LONG)), (1, vec![Some(LONG)], 0));
        assert_eq!(quiet(&mut spin, None).2, 1);
    }

    #[test]
    fn events_found_at_once_are_neither_hit_nor_miss() {
        let mut spin = spin(LONG);
        waits(&mut spin, 2, too_late);
        waits(&mut spin, 1, |spin, _| spin.record_sleep(1));
        let counters = PollerCounters::default();
        assert_eq!(spin.wait(None, &counters, |_| Ok(3)).unwrap(), 3);
        assert_eq!(
            (counters.busy_polls.get(), counters.busy_poll_hits.get()),
            (0, 0)
        );
        // The trial is still to come, and costs what it would have.
        let awake = waits(&mut spin, 5, too_late);
        assert_eq!(awake, [true, false, false, false, true]);
    }

    #[test]
    fn events_found_while_polling_are_a_hit() {
        let mut spin = spin(LONG);
        let (mut looks, counters) = (0, PollerCounters::default());
        let count = spin.wait(None, &counters, |timeout| {
            assert_eq!(timeout, Some(Duration::ZERO));
            looks += 1;
            Ok(if looks < 5 { 0 } else { 2 })
        });
        assert_eq!((count.unwrap(), looks), (2, 5));
        assert_eq!(
            (counters.busy_polls.get(), counters.busy_poll_hits.get()),
            (1, 1)
        );
    }

    #[test]
    fn the_clock_ends_a_miss_and_is_not_read_before_the_second_poll() {
        let start = Instant::now();
        let (mut ticks, mut looks) = (0, 0);
        let clock = || {
            ticks += 1;
            start + Duration::from_millis(10) * (ticks - 1)
        };
        let ended = poll_until(Duration::from_millis(25), clock, || {
            looks += 1;
            Ok(0)
        });
        assert_eq!(
            ended.unwrap(),
            BusyPollResult::Miss(Duration::from_millis(30))
        );
        assert_eq!((ticks, looks), (4, 4));
        let unread = || panic!("a clock that nobody needs");
        let ended = poll_until(LONG, unread, || Ok(7));
        assert_eq!(ended.unwrap(), BusyPollResult::Immediate(7));
    }

    #[test]
    fn an_error_of_any_poll_ends_the_wait() {
        for good in 0..3 {
            let mut looks = 0;
            let failed = spin(LONG).wait(None, &PollerCounters::default(), |_| {
                looks += 1;
                match looks > good {
                    true => Err(io::ErrorKind::OutOfMemory.into()),
                    false => Ok(0),
                }
            });
            assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        }
    }
}
