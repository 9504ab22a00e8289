// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides which of several addresses is tried when (RFC 8305, section 5), without a clock or a
//! socket.
//!
//! The address families alternate, starting with that of the first address. The next attempt starts
//! 250 ms after the last one, or at once when an attempt fails. The first attempt to connect wins.
//! An address that drops all packets thus costs a quarter of a second and not the whole deadline.
//!
//! The caller passes the time and the failures, and receives the next step. If all attempts fail,
//! the plan returns one error: the first, unless that error only means that this host has no way to
//! the address (no route, no such family, no local address) and a later one means more.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The delay between the starts of two attempts: the Connection Attempt Delay of RFC 8305.
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The plan of the attempts of one dial.
#[derive(Debug)]
pub(super) struct HappyEyeballs {
    waiting: VecDeque<SocketAddr>,
    in_progress: usize,
    /// The time at which the next attempt starts; `None` is at once.
    next_at: Option<Instant>,
    deadline: Option<Instant>,
    failure: Option<io::Error>,
}

/// The next step of a dial.
#[derive(Debug)]
pub(super) enum EyeballsStep {
    /// Start to connect to this address.
    Connect(SocketAddr),
    /// Wait for an attempt to end, at most until this time.
    Wait(Option<Instant>),
    /// All attempts failed, or the deadline has passed.
    Failed(io::Error),
}

impl HappyEyeballs {
    /// Returns a plan for `addrs`, best first, or `None` if there are none.
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

    /// Returns the step for the time `now`. The caller performs a step before it asks for the next.
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

    /// Records a failed attempt. The next attempt starts at once.
    pub(super) fn attempt_failed(&mut self, error: io::Error) {
        self.in_progress = self.in_progress.saturating_sub(1);
        self.next_at = None;
        match &self.failure {
            Some(first) if !is_unreachable(first) || is_unreachable(&error) => {}
            _ => self.failure = Some(error),
        }
    }

    /// Returns the time of the next step if no attempt ends before. Without a next attempt it is
    /// `None`: each attempt has the deadline itself.
    fn next_timer(&self) -> Option<Instant> {
        let next = self.next_at.filter(|_| !self.waiting.is_empty())?;
        Some(self.deadline.map_or(next, |deadline| deadline.min(next)))
    }
}

/// Alternates the two lists, and appends the rest of the longer one.
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

/// Returns whether the error was found on this host, so that no packet reached the address.
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

    /// Returns the address of the attempt that starts at `now`.
    fn connects(plan: &mut HappyEyeballs, now: Instant) -> String {
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

    fn fails(plan: &mut HappyEyeballs, now: Instant) -> io::Error {
        match plan.next_step(now) {
            EyeballsStep::Failed(error) => error,
            step => panic!("{step:?}"),
        }
    }

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn address_families_alternate_from_the_first_address() {
        let now = Instant::now();
        let order = |texts: &[&str]| {
            let mut plan = plan(texts, None);
            let mut order = Vec::new();
            for _ in texts {
                order.push(connects(&mut plan, now));
                plan.attempt_failed(errno(111));
            }
            order
        };
        let six_first = ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"];
        let interleaved = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"];
        assert_eq!(order(&six_first), interleaved);
        let four_first = ["1.0.0.1:1", "1.0.0.2:1", "[::1]:1"];
        assert_eq!(order(&four_first), ["1.0.0.1:1", "[::1]:1", "1.0.0.2:1"]);
        assert_eq!(order(&THREE), THREE);
    }

    #[test]
    fn empty_address_list_has_no_plan() {
        assert!(HappyEyeballs::new(Vec::new(), None).is_none());
    }

    #[test]
    fn next_attempt_starts_after_the_attempt_delay() {
        let (start, mut plan) = (Instant::now(), plan(&THREE, None));
        assert_eq!(connects(&mut plan, start), THREE[0]);
        let second = start + ATTEMPT_DELAY;
        assert_eq!(waits(&mut plan, start), Some(second));
        let before = second.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(waits(&mut plan, before), Some(second));
        let late = second + Duration::from_millis(7);
        assert_eq!(connects(&mut plan, late), THREE[1]);
        assert_eq!(waits(&mut plan, late), Some(late + ATTEMPT_DELAY));
        assert_eq!(connects(&mut plan, late + ATTEMPT_DELAY), THREE[2]);
        assert_eq!(waits(&mut plan, late + ATTEMPT_DELAY), None, "none is left");
    }

    #[test]
    fn failure_starts_the_next_attempt_at_once_with_a_new_delay() {
        let (start, mut plan) = (Instant::now(), plan(&THREE, None));
        assert_eq!(connects(&mut plan, start), THREE[0]);
        let soon = start + Duration::from_millis(3);
        plan.attempt_failed(errno(111));
        assert_eq!(connects(&mut plan, soon), THREE[1]);
        assert_eq!(waits(&mut plan, soon), Some(soon + ATTEMPT_DELAY));
    }

    #[test]
    fn plan_fails_after_the_last_attempt_fails() {
        let (now, mut plan) = (Instant::now(), plan(&THREE[..2], None));
        connects(&mut plan, now);
        connects(&mut plan, now + ATTEMPT_DELAY);
        plan.attempt_failed(errno(104));
        assert_eq!(
            waits(&mut plan, now + ATTEMPT_DELAY),
            None,
            "one is in progress"
        );
        plan.attempt_failed(errno(111));
        let error = fails(&mut plan, now + ATTEMPT_DELAY);
        assert_eq!(error.raw_os_error(), Some(104), "the first failure");
    }

    #[test]
    fn remote_error_is_preferred_to_local_unreachable() {
        let now = Instant::now();
        let returned = |errnos: [i32; 3]| {
            let mut plan = plan(&THREE, None);
            for number in errnos {
                connects(&mut plan, now);
                plan.attempt_failed(errno(number));
            }
            fails(&mut plan, now).raw_os_error()
        };
        let (unreachable, no_family, not_available) = (101, 97, 99);
        assert_eq!(returned([unreachable, 111, 104]), Some(111));
        assert_eq!(returned([no_family, 111, unreachable]), Some(111));
        assert_eq!(returned([not_available, 113, 110]), Some(110));
        assert_eq!(returned([111, unreachable, 104]), Some(111));
        assert_eq!(returned([unreachable, no_family, 99]), Some(unreachable));
    }

    #[test]
    fn deadline_ends_all_attempts() {
        let start = Instant::now();
        let deadline = start + ATTEMPT_DELAY / 2;
        let mut plan = plan(&THREE, Some(deadline));
        connects(&mut plan, start);
        assert_eq!(waits(&mut plan, start), Some(deadline));
        assert_eq!(fails(&mut plan, deadline).kind(), ErrorKind::TimedOut);
        plan.attempt_failed(errno(111));
        assert_eq!(fails(&mut plan, deadline).kind(), ErrorKind::TimedOut);
    }
}
