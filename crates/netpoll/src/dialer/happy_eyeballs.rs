// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of several addresses is tried when (RFC 8305, section 5), without a clock or a socket.
//!
//! The families take turns, beginning with that of the first address. The next attempt begins
//! 250 ms after the last one did, or at once when one has failed; whoever connects first wins. An
//! address that swallows what it is sent so costs a quarter of a second, not the whole deadline.
//!
//! Whoever drives this says what time it is and what has failed, and is told what to do. One error
//! is told of all: the first, unless that says only that there is no way there from here (no route,
//! no such family, no address to come from) and another says more.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long an attempt is alone before the next one begins.
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A plan of attempts.
#[derive(Debug)]
pub(super) struct HappyEyeballs {
    waiting: VecDeque<SocketAddr>,
    in_progress: usize,
    /// When the next attempt begins; `None` is at once.
    next_at: Option<Instant>,
    deadline: Option<Instant>,
    failure: Option<io::Error>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum EyeballsStep {
    /// Begin to connect to this address.
    Connect(SocketAddr),
    /// Wait for an attempt to end, and no longer than this.
    Wait(Option<Instant>),
    /// It has failed.
    Failed(io::Error),
}

impl HappyEyeballs {
    /// A plan for `addrs`, best first. `None` if there are none.
    pub(super) fn new(addrs: Vec<SocketAddr>, deadline: Option<Instant>) -> Option<Self> {
        let first = addrs.first()?.is_ipv6();
        let (own, other): (Vec<_>, _) = addrs.iter().partition(|addr| addr.is_ipv6() == first);
        Some(Self {
            waiting: interleave(own, other),
            in_progress: 0,
            next_at: None,
            deadline,
            failure: None,
        })
    }

    /// What is to be done at `now`. A step that begins an attempt is done before this is asked
    /// again.
    pub(super) fn next_step(&mut self, now: Instant) -> EyeballsStep {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return EyeballsStep::Failed(ErrorKind::TimedOut.into());
        }
        if self.next_at.is_none_or(|at| at <= now)
            && let Some(addr) = self.waiting.pop_front()
        {
            self.in_progress += 1;
            self.next_at = now.checked_add(ATTEMPT_DELAY);
            return EyeballsStep::Connect(addr);
        }
        if self.in_progress > 0 {
            return EyeballsStep::Wait(self.next_timer());
        }
        let nothing = || ErrorKind::NotFound.into();
        EyeballsStep::Failed(self.failure.take().unwrap_or_else(nothing))
    }

    /// An attempt has failed.
    pub(super) fn attempt_failed(&mut self, error: io::Error) {
        self.in_progress = self.in_progress.saturating_sub(1);
        self.next_at = None;
        match &self.failure {
            Some(first) if !is_unreachable(first) || is_unreachable(&error) => {}
            _ => self.failure = Some(error),
        }
    }

    /// When there is something to do though no attempt has ended: each of those has the deadline
    /// for itself.
    fn next_timer(&self) -> Option<Instant> {
        let next = self.next_at.filter(|_| !self.waiting.is_empty())?;
        Some(self.deadline.map_or(next, |deadline| deadline.min(next)))
    }
}

/// One of each in turn, and then the rest of the longer.
fn interleave(own: Vec<SocketAddr>, other: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let mut interleaved = VecDeque::with_capacity(own.len() + other.len());
    let (mut own, mut other) = (own.into_iter(), other.into_iter());
    loop {
        let pair = (own.next(), other.next());
        if pair == (None, None) {
            return interleaved;
        }
        interleaved.extend(pair.0.into_iter().chain(pair.1));
    }
}

/// Whether it tells of this side alone: nobody was asked.
fn is_unreachable(error: &io::Error) -> bool {
    let unreachable = [
        ErrorKind::NetworkUnreachable,
        ErrorKind::HostUnreachable,
        ErrorKind::AddrNotAvailable,
    ];
    /// `EAFNOSUPPORT`, which has no kind.
    const NO_SUCH_FAMILY: i32 = 97;
    unreachable.contains(&error.kind()) || error.raw_os_error() == Some(NO_SUCH_FAMILY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        let parse = |text: &&str| text.parse().unwrap();
        texts.iter().map(parse).collect()
    }

    fn plan(texts: &[&str], deadline: Option<Instant>) -> HappyEyeballs {
        HappyEyeballs::new(addrs(texts), deadline).unwrap()
    }

    const THREE: [&str; 3] = ["127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"];

    /// The address of the attempt that begins at `now`.
    fn begun(plan: &mut HappyEyeballs, now: Instant) -> String {
        match plan.next_step(now) {
            EyeballsStep::Connect(addr) => addr.to_string(),
            step => panic!("{step:?}"),
        }
    }

    fn waits(plan: &mut HappyEyeballs, now: Instant) -> Option<Instant> {
        match plan.next_step(now) {
            EyeballsStep::Wait(until) => until,
            step => panic!("{step:?}"),
        }
    }

    fn over(plan: &mut HappyEyeballs, now: Instant) -> io::Error {
        match plan.next_step(now) {
            EyeballsStep::Failed(error) => error,
            step => panic!("{step:?}"),
        }
    }

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn families_take_turns_beginning_with_the_first_addresses() {
        let now = Instant::now();
        let order = |texts: &[&str]| {
            let mut plan = plan(texts, None);
            let mut order = Vec::new();
            for _ in texts {
                order.push(begun(&mut plan, now));
                plan.attempt_failed(errno(111));
            }
            order
        };
        let six_first = ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"];
        let turns = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"];
        assert_eq!(order(&six_first), turns);
        let four_first = ["1.0.0.1:1", "1.0.0.2:1", "[::1]:1"];
        assert_eq!(order(&four_first), ["1.0.0.1:1", "[::1]:1", "1.0.0.2:1"]);
        assert_eq!(order(&THREE), THREE);
    }

    #[test]
    fn no_address_is_no_plan() {
        assert!(HappyEyeballs::new(Vec::new(), None).is_none());
    }

    #[test]
    fn the_next_attempt_begins_a_head_start_after_the_last() {
        let (start, mut plan) = (Instant::now(), plan(&THREE, None));
        assert_eq!(begun(&mut plan, start), THREE[0]);
        let second = start + ATTEMPT_DELAY;
        assert_eq!(waits(&mut plan, start), Some(second));
        let before = second.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(waits(&mut plan, before), Some(second));
        let late = second + Duration::from_millis(7);
        assert_eq!(begun(&mut plan, late), THREE[1]);
        assert_eq!(waits(&mut plan, late), Some(late + ATTEMPT_DELAY));
        assert_eq!(begun(&mut plan, late + ATTEMPT_DELAY), THREE[2]);
        assert_eq!(waits(&mut plan, late + ATTEMPT_DELAY), None, "none is left");
    }

    #[test]
    fn the_next_attempt_begins_at_once_when_any_has_failed_and_has_a_head_start_of_its_own() {
        let (start, mut plan) = (Instant::now(), plan(&THREE, None));
        assert_eq!(begun(&mut plan, start), THREE[0]);
        let soon = start + Duration::from_millis(3);
        plan.attempt_failed(errno(111));
        assert_eq!(begun(&mut plan, soon), THREE[1]);
        assert_eq!(waits(&mut plan, soon), Some(soon + ATTEMPT_DELAY));
    }

    #[test]
    fn it_is_over_when_all_have_failed_and_not_before() {
        let (now, mut plan) = (Instant::now(), plan(&THREE[..2], None));
        begun(&mut plan, now);
        begun(&mut plan, now + ATTEMPT_DELAY);
        plan.attempt_failed(errno(104));
        assert_eq!(
            waits(&mut plan, now + ATTEMPT_DELAY),
            None,
            "one is under way"
        );
        plan.attempt_failed(errno(111));
        let error = over(&mut plan, now + ATTEMPT_DELAY);
        assert_eq!(error.raw_os_error(), Some(104), "the first failure");
    }

    #[test]
    fn an_answer_is_told_rather_than_that_there_is_no_way() {
        let now = Instant::now();
        let told = |errnos: [i32; 3]| {
            let mut plan = plan(&THREE, None);
            for number in errnos {
                begun(&mut plan, now);
                plan.attempt_failed(errno(number));
            }
            over(&mut plan, now).raw_os_error()
        };
        let (unreachable, no_family, not_available) = (101, 97, 99);
        assert_eq!(told([unreachable, 111, 104]), Some(111));
        assert_eq!(told([no_family, 111, unreachable]), Some(111));
        assert_eq!(told([not_available, 113, 110]), Some(110));
        assert_eq!(told([111, unreachable, 104]), Some(111));
        assert_eq!(told([unreachable, no_family, 99]), Some(unreachable));
    }

    #[test]
    fn the_deadline_ends_it_whatever_is_left() {
        let start = Instant::now();
        let deadline = start + ATTEMPT_DELAY / 2;
        let mut plan = plan(&THREE, Some(deadline));
        begun(&mut plan, start);
        assert_eq!(waits(&mut plan, start), Some(deadline));
        assert_eq!(over(&mut plan, deadline).kind(), ErrorKind::TimedOut);
        plan.attempt_failed(errno(111));
        assert_eq!(over(&mut plan, deadline).kind(), ErrorKind::TimedOut);
    }
}
