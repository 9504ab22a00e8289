// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many connections an event loop lets in, and how fast.
//!
//! All acceptors of a loop ask here before each `accept(2)`. Who is let in gets a [`Ticket`], and
//! holds it for as long as its descriptor is open. An acceptor that is turned away leaves a waker,
//! looks away from its listener, and so leaves the next connections to the kernel's queue; the
//! next ticket that is given back wakes it. So does an acceptor whose accept failed for want of
//! descriptors, but that one is woken by tickets that had a descriptor only: two that fail would
//! else wake each other without end. The count and the wakers are behind one lock, so a ticket
//! that is given back between the look and the wait is not missed.

use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::budget::Budget;
use crate::event::{Event, Listening, Pause};
use crate::foreign::{NotCloned, Offer, WakerSlot, Wakeups, register};
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// The most connections unless told otherwise, whatever the descriptor limit.
const MOST: usize = 65_536;

/// How long it is between two pauses that are told.
const QUIET: Duration = Duration::from_secs(1);

/// How much earlier than its turn a connection may come: a burst this long is let in at once.
const AHEAD: Duration = Duration::from_millis(100);

/// What an event loop lets in.
#[derive(Debug)]
pub(crate) struct Entrance {
    limit: usize,
    /// The time between two connections, if their rate is bounded.
    interval: Option<Duration>,
    budget: Budget,
    listening: Listening,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// Acceptors that look away until there is room.
    outside: Vec<WakerSlot>,
    /// Acceptors that look away until there is a descriptor.
    starved: Vec<WakerSlot>,
    /// When the next connection's turn is.
    next: Option<Instant>,
    stats: AcceptStats,
    /// The pause that lasts.
    pause: Option<Lasting>,
    /// When a pause was last told.
    told: Option<Instant>,
}

/// A pause that lasts.
#[derive(Clone, Copy, Debug)]
struct Lasting {
    why: Pause,
    since: Instant,
    told: bool,
}

/// What has become of the connections that came to a loop's listeners. A snapshot; the counts
/// begin at the making of the loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptStats {
    /// Connections that were taken.
    pub accepted: u64,
    /// Connections that [`on_accept`](crate::Builder::on_accept) refused.
    pub refused: u64,
    /// How often accepting paused because there were
    /// [`max_connections`](crate::Builder::max_connections).
    pub pauses_at_limit: u64,
    /// How often accepting paused because connections came faster than
    /// [`accept_rate`](crate::Builder::accept_rate).
    pub pauses_for_rate: u64,
    /// How often accepting paused because connections held 98 % of their
    /// [`Budget`].
    pub pauses_for_memory: u64,
    /// Connections that had died in the kernel's queue, or had an error of their own.
    pub died_in_queue: u64,
    /// Accepts that failed because the process has no descriptor left (`EMFILE`).
    pub process_out_of_descriptors: u64,
    /// Accepts that failed because the system has no open file left (`ENFILE`).
    pub system_out_of_files: u64,
    /// Accepts that failed for want of memory (`ENOBUFS`, `ENOMEM`).
    pub out_of_memory: u64,
}

/// What a failed accept says of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Something has run out: the next fails too, until time or an end mends it.
    RunOut(Pause),
    /// It was one connection's own.
    OfOne,
}

impl State {
    /// Accepting pauses. Gives what is to be told of it.
    #[cold]
    fn pause(&mut self, why: Pause) -> Option<Event> {
        let now = Instant::now();
        let pause = self.pause.get_or_insert(Lasting {
            why,
            since: now,
            told: false,
        });
        pause.why = why;
        let quiet = |last| now.saturating_duration_since(last) >= QUIET;
        if pause.told || !self.told.is_none_or(quiet) {
            return None;
        }
        pause.told = true;
        self.told = Some(now);
        Some(Event::AcceptingPaused { why })
    }

    /// Accepting goes on, if what it had paused for is one of those that are over now.
    fn resume(&mut self, is_over: impl FnOnce(Pause) -> bool) -> Option<Event> {
        let Lasting { why, since, told } = self.pause.take_if(|pause| is_over(pause.why))?;
        let after = since.elapsed();
        told.then_some(Event::AcceptingResumed { why, after })
    }
}

impl Pause {
    /// Whether it is over once the entrance lets somebody in, and not only when somebody came.
    fn is_of_the_entrance(self) -> bool {
        matches!(self, Self::Limit | Self::Rate | Self::Budget)
    }
}

impl AcceptStats {
    fn count(&mut self, error: &io::Error) -> Failure {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        const ENOMEM: i32 = 12;
        const ENOBUFS: i32 = 105;
        let run_out = |what| Failure::RunOut(what);
        let (counter, failure) = match error.raw_os_error() {
            Some(EMFILE) => (
                &mut self.process_out_of_descriptors,
                run_out(Pause::Descriptors),
            ),
            Some(ENFILE) => (&mut self.system_out_of_files, run_out(Pause::Files)),
            Some(ENOMEM | ENOBUFS) => (&mut self.out_of_memory, run_out(Pause::Memory)),
            _ => (&mut self.died_in_queue, Failure::OfOne),
        };
        *counter += 1;
        failure
    }
}

/// Why nobody is let in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    /// There are as many as there may be; the waker is woken when there is one less.
    Full,
    /// Connections hold all the memory they may; nobody tells when that is over.
    NoMemory,
    /// Not before this.
    Until(Instant),
}

/// Whether the rate counts: not for what was queued when a shutdown was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Rated,
    Unrated,
}

impl Entrance {
    /// At most `limit` at once, and `rate` a second if that is bounded.
    pub(crate) fn new(
        limit: usize,
        rate: Option<u32>,
        budget: Budget,
        listening: Listening,
    ) -> Self {
        let interval = rate.map(|rate| Duration::from_secs(1) / rate.max(1));
        Self {
            limit,
            interval,
            budget,
            listening,
            state: Mutex::default(),
        }
    }

    /// The most connections that fit a process which may have so many descriptors: seven eighths
    /// of them, so that listeners, pollers and the rest of the program have theirs.
    pub(crate) fn limit_for(descriptors: u64) -> usize {
        let most = usize::try_from(descriptors)
            .unwrap_or(usize::MAX)
            .min(MOST * 2);
        (most / 8 * 7).clamp(1, MOST)
    }

    /// Asks to let one in. `now` is only asked for the time if the rate is bounded.
    pub(crate) fn admit(
        self: &Arc<Self>,
        waker: &Waker,
        pace: Pace,
        mut now: impl FnMut() -> Instant,
    ) -> Result<Ticket, Shut> {
        register(waker, |offer| self.try_admit(offer, pace, &mut now))
    }

    fn try_admit(
        self: &Arc<Self>,
        offer: &mut Offer<'_>,
        pace: Pace,
        now: &mut impl FnMut() -> Instant,
    ) -> Result<Result<Ticket, Shut>, NotCloned> {
        let mut state = lock(&self.state);
        if state.open >= self.limit {
            join(&mut state.outside, offer)?;
            state.stats.pauses_at_limit += 1;
            let event = state.pause(Pause::Limit);
            self.tell(state, event);
            return Ok(Err(Shut::Full));
        }
        if self.budget.is_spent() {
            state.stats.pauses_for_memory += 1;
            let event = state.pause(Pause::Budget);
            self.tell(state, event);
            return Ok(Err(Shut::NoMemory));
        }
        if self.interval.is_some() && pace == Pace::Rated {
            let ahead = now() + AHEAD;
            if let Some(next) = state.next.filter(|&next| next > ahead) {
                state.stats.pauses_for_rate += 1;
                let event = state.pause(Pause::Rate);
                self.tell(state, event);
                return Ok(Err(Shut::Until(next - AHEAD)));
            }
        }
        state.open += 1;
        let event = state.resume(Pause::is_of_the_entrance);
        self.tell(state, event);
        Ok(Ok(Ticket(Some(Arc::clone(self)))))
    }

    /// Somebody came in with `ticket`.
    pub(crate) fn accepted(
        self: &Arc<Self>,
        mut ticket: Ticket,
        now: impl FnOnce() -> Instant,
    ) -> Stay {
        debug_assert!(ticket.0.as_ref().is_some_and(|own| Arc::ptr_eq(own, self)));
        let stay = Stay(ticket.0.take().unwrap_or_else(|| Arc::clone(self)));
        let mut state = lock(&self.state);
        state.stats.accepted += 1;
        if let Some(interval) = self.interval {
            let now = now();
            let turn = state.next.map_or(now, |next| next.max(now));
            state.next = turn.checked_add(interval);
        }
        let event = state.resume(|_| true);
        self.tell(state, event);
        stay
    }

    /// Somebody was refused.
    pub(crate) fn refused(&self) {
        lock(&self.state).stats.refused += 1;
    }

    /// An accept failed. If something has run out, the waker is woken when somebody leaves.
    pub(crate) fn failed(&self, error: &io::Error, waker: &Waker) -> Failure {
        let failure = lock(&self.state).stats.count(error);
        if let Failure::RunOut(what) = failure {
            register(waker, |offer| {
                let mut state = lock(&self.state);
                join(&mut state.starved, offer)?;
                let event = state.pause(what);
                self.tell(state, event);
                Ok(())
            });
        }
        failure
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// When a pause that lasts, and was not told because it followed on another, is to be told.
    pub(crate) fn untold(&self) -> Option<Instant> {
        let state = lock(&self.state);
        let untold = state.pause.is_some_and(|pause| !pause.told);
        state.told.filter(|_| untold)?.checked_add(QUIET)
    }

    /// Tells what there is to tell, under no lock.
    fn tell(&self, state: MutexGuard<'_, State>, event: Option<Event>) {
        drop(state);
        if let Some(event) = event {
            self.listening.tell(&event);
        }
    }

    pub(crate) fn stats(&self) -> AcceptStats {
        lock(&self.state).stats
    }
}

/// Once is enough: an acceptor that tries again and again waits all the time.
fn join(waiting: &mut Vec<WakerSlot>, offer: &mut Offer<'_>) -> Result<(), NotCloned> {
    if !waiting.iter().any(|known| known.has(offer)) {
        waiting.push(offer.slot()?);
    }
    Ok(())
}

/// The right to ask whether somebody is there; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket(Option<Arc<Entrance>>);

/// One connection that came in. Dropped after its descriptor, which is free by then.
#[derive(Debug)]
pub(crate) struct Stay(Arc<Entrance>);

/// What a place was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// To ask whether somebody is there.
    Asked,
    /// By somebody, who had a descriptor.
    Taken,
}

impl Entrance {
    /// A place is free again.
    fn leave(&self, use_of_it: Use) {
        let mut state = lock(&self.state);
        state.open -= 1;
        let mut waiting = std::mem::take(&mut state.outside);
        if use_of_it == Use::Taken {
            waiting.append(&mut state.starved);
        }
        drop(state);
        waiting.into_iter().collect::<Wakeups>().wake();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(entrance) = &self.0 {
            entrance.leave(Use::Asked);
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.leave(Use::Taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn entrance(limit: usize, rate: Option<u32>) -> Arc<Entrance> {
        let (budget, listening) = (Budget::unlimited(), Listening::default());
        Arc::new(Entrance::new(limit, rate, budget, listening))
    }

    fn now() -> Instant {
        unreachable!("the time is not needed")
    }

    #[test]
    fn whoever_was_turned_away_is_woken_by_the_next_who_leaves_and_once() {
        let entrance = entrance(2, None);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let admit = || entrance.admit(&waker, Pace::Rated, now);
        let (one, other) = (admit().unwrap(), admit().unwrap());
        for _ in 0..3 {
            assert_eq!(admit().unwrap_err(), Shut::Full);
        }
        drop(one);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        let third = admit().unwrap();
        drop((other, third));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(entrance.stats().pauses_at_limit, 3);
    }

    #[test]
    fn whoever_starves_is_woken_by_a_descriptor_that_is_free_and_not_by_a_vain_try() {
        let entrance = entrance(9, None);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let ticket = entrance.admit(&waker, Pace::Rated, now).unwrap();
        let with_descriptor = entrance.accepted(ticket, now);
        entrance.failed(&io::Error::from_raw_os_error(24), &waker);
        drop(entrance.admit(Waker::noop(), Pace::Rated, now).unwrap());
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        drop(with_descriptor);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn no_second_has_more_than_the_rate_and_a_tenth() {
        let entrance = entrance(usize::MAX, Some(100));
        let waker = Waker::noop();
        let start = Instant::now();
        let mut arrivals = Vec::new();
        let mut at = start;
        while at < start + Duration::from_secs(3) {
            match entrance.admit(waker, Pace::Rated, || at) {
                Ok(ticket) => {
                    drop(entrance.accepted(ticket, || at));
                    arrivals.push(at);
                }
                Err(Shut::Until(later)) => {
                    assert!(later > at);
                    at = later;
                }
                Err(shut) => panic!("there is no limit: {shut:?}"),
            }
        }
        for &first in &arrivals {
            let second = first..first + Duration::from_secs(1);
            let within = arrivals.iter().filter(|&at| second.contains(at)).count();
            assert!(within <= 111, "{within} in a second");
        }
        assert!((300..=311).contains(&arrivals.len()), "{}", arrivals.len());
        assert!(entrance.admit(waker, Pace::Unrated, now).is_ok());
    }

    #[test]
    fn errors_are_counted_by_kind_and_only_those_of_want_wait() {
        let entrance = entrance(10, None);
        for (errno, failure) in [
            (24, Failure::RunOut(Pause::Descriptors)),
            (23, Failure::RunOut(Pause::Files)),
            (12, Failure::RunOut(Pause::Memory)),
            (105, Failure::RunOut(Pause::Memory)),
            (103, Failure::OfOne),
            (71, Failure::OfOne),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(entrance.failed(&error, Waker::noop()), failure, "{errno}");
        }
        let expected = AcceptStats {
            died_in_queue: 2,
            process_out_of_descriptors: 1,
            system_out_of_files: 1,
            out_of_memory: 2,
            ..AcceptStats::default()
        };
        assert_eq!(entrance.stats(), expected);
    }

    #[test]
    fn a_pause_is_told_once_a_second_and_its_end_if_it_was_told() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&told);
        let listening = Listening::new(move |event| lock(&hears).push(event.to_string()));
        let entrance = Arc::new(Entrance::new(1, None, Budget::unlimited(), listening));
        let admit = || entrance.admit(Waker::noop(), Pace::Rated, now);
        let meet_the_limit = || {
            let ticket = admit().unwrap();
            for _ in 0..3 {
                assert_eq!(admit().unwrap_err(), Shut::Full);
            }
            drop(ticket);
        };
        meet_the_limit();
        assert_eq!(lock(&told).len(), 1, "the pause");
        meet_the_limit();
        assert_eq!(lock(&told).len(), 2, "its end, and no second pause");
        assert!(entrance.untold().is_some());
        drop(admit().unwrap());
        assert_eq!(lock(&told).len(), 2, "nor the end of that");
        assert_eq!(entrance.untold(), None);
        lock(&entrance.state).told = Instant::now().checked_sub(QUIET);
        meet_the_limit();
        let told = lock(&told).join("\n");
        let begins: Vec<_> = told.lines().map(|line| &line[..17]).collect();
        let (paused, resumed) = ("accepting paused:", "accepting resumed");
        assert_eq!(begins, [paused, resumed, paused]);
    }

    #[test]
    fn want_is_over_when_somebody_came_and_not_when_somebody_may() {
        let entrance = entrance(9, None);
        entrance.failed(&io::Error::from_raw_os_error(24), Waker::noop());
        let ticket = entrance.admit(Waker::noop(), Pace::Rated, now).unwrap();
        let pause = lock(&entrance.state).pause;
        assert_eq!(pause.unwrap().why, Pause::Descriptors);
        let _stay = entrance.accepted(ticket, now);
        assert!(lock(&entrance.state).pause.is_none());
    }

    #[test]
    fn an_eighth_of_the_descriptors_is_left_to_others() {
        assert_eq!(Entrance::limit_for(64), 56);
        assert_eq!(Entrance::limit_for(1024), 896);
        assert_eq!(Entrance::limit_for(1 << 20), 65_536);
        assert_eq!(Entrance::limit_for(u64::MAX), 65_536);
        assert_eq!(Entrance::limit_for(0), 1);
    }
}
