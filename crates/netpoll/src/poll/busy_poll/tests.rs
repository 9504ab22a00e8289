// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often a poller polls busily.

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
