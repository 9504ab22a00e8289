// SPDX-License-Identifier: MIT OR Apache-2.0
//! When which source is to be told that its time is up.
//!
//! A deadline lives in the source's entry; the heap here only says when to look. It may look too
//! early, when a deadline was moved, and never looks late. So a deadline that is moved again and
//! again costs one entry, not one each time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::token::Token;

/// The looks to be taken, earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    looks: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Timers {
    /// Looks at `token` at `when`, if that is earlier than the look there is (`looking`).
    pub(super) fn look_at(&mut self, token: Token, when: Instant, looking: Option<Instant>) {
        if looking.is_none_or(|earlier| when < earlier) {
            self.looks.push(Reverse((when, token.bits())));
        }
    }

    /// How long until the next look; `None` if there is none.
    pub(super) fn until_next(&self, now: Instant) -> Option<Duration> {
        self.looks
            .peek()
            .map(|Reverse((when, _))| when.saturating_duration_since(now))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    /// The next look that is due.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Token> {
        let Reverse((when, _)) = self.looks.peek()?;
        if *when > now {
            return None;
        }
        self.looks
            .pop()
            .map(|Reverse((_, bits))| Token::from_bits(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_earliest_first_and_never_early() {
        let mut timers = Timers::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for (slot, ms) in [(1, 30), (2, 10), (3, 20)] {
            timers.look_at(Token::source(slot, 0), at(ms), None);
        }
        assert_eq!(timers.until_next(start), Some(Duration::from_millis(10)));
        assert_eq!(timers.next_due(at(9)), None);
        assert_eq!(timers.next_due(at(25)), Some(Token::source(2, 0)));
        assert_eq!(timers.next_due(at(25)), Some(Token::source(3, 0)));
        assert_eq!(timers.next_due(at(25)), None);
    }

    #[test]
    fn a_later_deadline_needs_no_second_look() {
        let mut timers = Timers::default();
        let start = Instant::now();
        timers.look_at(Token::source(1, 0), start, None);
        timers.look_at(
            Token::source(1, 0),
            start + Duration::from_secs(1),
            Some(start),
        );
        assert!(timers.next_due(start).is_some());
        assert!(timers.is_empty());
    }
}
