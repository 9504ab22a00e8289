// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of one kind of work a poller does in one turn.
//!
//! Work comes in crowds: ten thousand timers that run out at once, letters of many threads, a shutdown
//! that every connection is asked for. Each such queue gives at most [`ITEMS`] of its items to one turn,
//! and fewer if these take longer than [`TIME`]; the rest stays in its place, in its order, for the next
//! turn, and the kernel's events are served in between. At least [`UNTIMED`] items are done in each turn,
//! so nothing waits for ever, and a turn with little work never reads the clock for this.

use std::time::Duration;

use crate::moment::Moment;

/// The most items of one queue in one turn.
pub(super) const ITEMS: u32 = 256;

/// No more of them are begun after this time.
const TIME: Duration = Duration::from_millis(1);

/// How many items are done between two looks at the clock, and before the first.
const UNTIMED: u32 = 16;

/// What is left of one turn's part of one queue.
#[derive(Debug)]
pub(super) struct Quota {
    left: u32,
    /// When the clock was first looked at.
    begun: Option<Moment>,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            left: ITEMS,
            begun: None,
        }
    }
}

impl Quota {
    /// Whether one more item may be done in this turn.
    #[inline]
    pub(super) fn take(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        !self.left.is_multiple_of(UNTIMED) || self.is_in_time()
    }

    fn is_in_time(&mut self) -> bool {
        let now = Moment::now();
        let begun = *self.begun.get_or_insert(now);
        if now.since(begun) > TIME {
            self.left = 0;
        }
        self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::bell::{self, Bell, Signal};
    use crate::poll::mailbox::Letter;
    use crate::poll::source::{Ask, Next, Source, Turn};
    use crate::poll::{Poller, token::Token};
    use crate::sync::Arc;
    use std::cell::RefCell;
    use std::os::fd::BorrowedFd;
    use std::rc::Rc;
    use std::time::Instant;

    /// How many there are at once.
    const CROWD: usize = 2_000;

    type Calls = Rc<RefCell<Vec<usize>>>;

    /// One of a crowd: has its number written down when it is called.
    struct Member {
        number: usize,
        deadline: Option<Instant>,
        calls: Calls,
    }

    impl Member {
        fn note(&self) -> Next {
            self.calls.borrow_mut().push(self.number);
            Next::Unwatched
        }
    }

    impl Source for Member {
        fn fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        fn born(&mut self, turn: &mut Turn) -> Next {
            turn.expire_at(self.deadline);
            Next::Unwatched
        }

        fn woken(&mut self, _turn: &mut Turn) -> Next {
            self.note()
        }

        fn asked(&mut self, _ask: Ask, _turn: &mut Turn) -> Next {
            self.note()
        }
    }

    /// A poller with a crowd of sources.
    struct Scene {
        poller: Poller,
        tokens: Vec<Token>,
        calls: Calls,
    }

    impl Scene {
        fn new(deadline: impl Fn(usize) -> Option<Instant>) -> Self {
            let mut poller = Poller::by_hand();
            let calls = Calls::default();
            let member = |number| Member {
                number,
                deadline: deadline(number),
                calls: Rc::clone(&calls),
            };
            let tokens = (0..CROWD)
                .map(|number| poller.take_in(member(number)))
                .collect();
            Self {
                poller,
                tokens,
                calls,
            }
        }

        /// Turns until the poller would wait, and holds each turn to its bound. Gives the order of calls.
        fn turn_until_idle(&mut self) -> Vec<usize> {
            let (mut seen, mut turns) = (0, 0);
            while seen < CROWD {
                assert_eq!(self.poller.timeout(), Some(Duration::ZERO), "it waits");
                self.poller.work(0);
                let now = self.calls.borrow().len();
                let called = now - seen;
                assert!(
                    called > 0 && called <= ITEMS as usize,
                    "{called} in one turn"
                );
                (seen, turns) = (now, turns + 1);
            }
            assert!(turns >= CROWD / ITEMS as usize);
            assert!(!self.poller.is_busy());
            self.calls.take()
        }

        fn all(&self) -> Vec<usize> {
            (0..CROWD).collect()
        }
    }

    #[test]
    fn timers_that_run_out_at_once_are_called_in_several_turns_the_earliest_first() {
        let begun = Instant::now();
        let at = |number| begun + Duration::from_micros(10 * number as u64);
        let mut scene = Scene::new(|number| Some(at(number)));
        while Instant::now() < at(CROWD) + Duration::from_millis(2) {
            std::thread::yield_now();
        }
        let called = scene.turn_until_idle();
        assert!(
            called.is_sorted_by_key(|&number| number / 100),
            "by their ticks"
        );
        let mut sorted = called;
        sorted.sort_unstable();
        assert_eq!(sorted, scene.all());
    }

    #[test]
    fn letters_are_carried_out_in_several_turns_in_their_order() {
        let mut scene = Scene::new(|_| None);
        for &token in &scene.tokens {
            scene.poller.mailbox.post(Letter::Wake(token));
        }
        assert_eq!(scene.turn_until_idle(), scene.all());
    }

    #[test]
    fn bells_that_ring_at_once_are_heard_in_several_turns_in_their_order() {
        let mut scene = Scene::new(|_| None);
        bell::settle_here(Arc::clone(&scene.poller.mailbox));
        for &token in &scene.tokens {
            Bell::new(Arc::clone(&scene.poller.mailbox), token).ring(Signal::Poll);
        }
        assert_eq!(scene.turn_until_idle(), scene.all());
    }

    #[test]
    fn sources_that_are_to_be_called_again_are_called_in_several_turns() {
        let mut scene = Scene::new(|_| None);
        for token in scene.tokens.clone() {
            scene.poller.call_again(token);
        }
        assert_eq!(scene.turn_until_idle(), scene.all());
    }

    #[test]
    fn a_crowd_is_asked_in_several_turns_and_each_member_once() {
        let mut scene = Scene::new(|_| None);
        scene.poller.mailbox.post(Letter::Everyone(Ask::Drain));
        assert_eq!(scene.turn_until_idle(), scene.all());
    }

    #[test]
    fn sources_that_one_turn_asks_for_are_made_in_several() {
        let mut scene = Scene::new(|_| None);
        let before = scene.poller.registry.tokens().len();
        for _ in 0..CROWD {
            let birth = |_| -> Box<dyn Source> {
                Box::new(Member {
                    number: 0,
                    deadline: None,
                    calls: Calls::default(),
                })
            };
            scene.poller.turn.register(Box::new(birth));
        }
        scene.poller.work(0);
        let made = scene.poller.registry.tokens().len() - before;
        assert!(made > 0 && made <= ITEMS as usize, "{made} in one turn");
        while scene.poller.timeout() == Some(Duration::ZERO) {
            scene.poller.work(0);
        }
        assert_eq!(scene.poller.registry.tokens().len() - before, CROWD);
    }

    fn takes(quota: &mut Quota, each: Duration) -> u32 {
        let mut taken = 0;
        while quota.take() {
            std::thread::sleep(each);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_turn_takes_a_bounded_number_of_items() {
        let taken = takes(&mut Quota::default(), Duration::ZERO);
        assert!((UNTIMED..ITEMS).contains(&taken), "{taken}");
    }

    #[test]
    fn a_turn_takes_few_items_that_last_long() {
        let taken = takes(&mut Quota::default(), Duration::from_millis(1));
        assert!((UNTIMED..=2 * UNTIMED).contains(&taken), "{taken}");
    }
}
