// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits how much of one kind of work a poller does in one iteration.
//!
//! Work comes in bulk: ten thousand timers that fire at once, commands of many threads, a shutdown
//! of every connection. One iteration takes at most [`MAX_ITEMS`] items from each such queue, and
//! fewer if these take longer than [`MAX_TIME`]. The rest stays queued, in order, for the next
//! iteration, and the kernel's events are served in between. Each iteration processes at least
//! [`ITEMS_PER_CLOCK_READ`] items, so no item waits forever, and an iteration with little work
//! does not read the clock for this.

use std::time::Duration;

use crate::timestamp::Timestamp;

/// The most items of one queue in one iteration.
pub(super) const MAX_ITEMS: u32 = 256;

/// After this time, no further item of the queue begins.
const MAX_TIME: Duration = Duration::from_millis(1);

/// Items between two clock reads, and before the first.
const ITEMS_PER_CLOCK_READ: u32 = 16;

/// The remaining quota of one queue in one iteration.
#[derive(Debug)]
pub(super) struct Quota {
    remaining: u32,
    /// When the clock was first read.
    started: Option<Timestamp>,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            remaining: MAX_ITEMS,
            started: None,
        }
    }
}

impl Quota {
    /// Takes one item from the quota. Returns `false` if this iteration may process no more.
    #[inline]
    pub(super) fn take(&mut self) -> bool {
        if self.remaining == 0 {
            return false;
        }
        self.remaining -= 1;
        !self.remaining.is_multiple_of(ITEMS_PER_CLOCK_READ) || self.is_in_time()
    }

    fn is_in_time(&mut self) -> bool {
        let now = Timestamp::now();
        let begun = *self.started.get_or_insert(now);
        if now.since(begun) > MAX_TIME {
            self.remaining = 0;
        }
        self.remaining > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::mailbox::Command;
    use crate::poll::notifier::{self, Notice, Notifier};
    use crate::poll::source::{NextAction, ShutdownRequest, Source, SourceContext};
    use crate::poll::{Poller, token::Token};
    use crate::sync::Arc;
    use std::cell::RefCell;
    use std::os::fd::BorrowedFd;
    use std::rc::Rc;
    use std::time::Instant;

    /// The number of sources with work at once.
    const SOURCES: usize = 2_000;

    type CallLog = Rc<RefCell<Vec<usize>>>;

    /// One of many sources: records its number when it is called.
    struct CountedSource {
        number: usize,
        deadline: Option<Instant>,
        log: CallLog,
    }

    impl CountedSource {
        fn record(&self) -> NextAction {
            self.log.borrow_mut().push(self.number);
            NextAction::NoInterest
        }
    }

    impl Source for CountedSource {
        fn fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        fn on_register(&mut self, context: &mut SourceContext) -> NextAction {
            context.set_deadline(self.deadline);
            NextAction::NoInterest
        }

        fn on_notify(&mut self, _context: &mut SourceContext) -> NextAction {
            self.record()
        }

        fn on_shutdown(
            &mut self,
            _request: ShutdownRequest,
            _context: &mut SourceContext,
        ) -> NextAction {
            self.record()
        }
    }

    /// A poller with many sources.
    struct QuotaFixture {
        poller: Poller,
        tokens: Vec<Token>,
        log: CallLog,
    }

    impl QuotaFixture {
        fn new(deadline: impl Fn(usize) -> Option<Instant>) -> Self {
            let mut poller = Poller::for_test();
            let calls = CallLog::default();
            let source = |number| CountedSource {
                number,
                deadline: deadline(number),
                log: Rc::clone(&calls),
            };
            let tokens = (0..SOURCES)
                .map(|number| poller.insert_source(source(number)))
                .collect();
            Self {
                poller,
                tokens,
                log: calls,
            }
        }

        /// Runs the poller until it would wait, and checks the limit of each iteration. Returns the
        /// order of the calls.
        fn run_until_idle(&mut self) -> Vec<usize> {
            let (mut seen, mut iterations) = (0, 0);
            while seen < SOURCES {
                assert_eq!(
                    self.poller.timeout(),
                    Some(Duration::ZERO),
                    "the poller would wait"
                );
                self.poller.process_events(0);
                let now = self.log.borrow().len();
                let called = now - seen;
                assert!(
                    called > 0 && called <= MAX_ITEMS as usize,
                    "{called} in one iteration"
                );
                (seen, iterations) = (now, iterations + 1);
            }
            assert!(iterations >= SOURCES / MAX_ITEMS as usize);
            assert!(!self.poller.has_work());
            self.log.take()
        }

        fn all(&self) -> Vec<usize> {
            (0..SOURCES).collect()
        }
    }

    #[test]
    fn simultaneous_timers_fire_over_several_turns_earliest_first() {
        let begun = Instant::now();
        let at = |number| begun + Duration::from_micros(10 * number as u64);
        let mut fixture = QuotaFixture::new(|number| Some(at(number)));
        while Instant::now() < at(SOURCES) + Duration::from_millis(2) {
            std::thread::yield_now();
        }
        let called = fixture.run_until_idle();
        assert!(
            called.is_sorted_by_key(|&number| number / 100),
            "in the order of their ticks"
        );
        let mut sorted = called;
        sorted.sort_unstable();
        assert_eq!(sorted, fixture.all());
    }

    #[test]
    fn commands_run_over_several_turns_in_order() {
        let mut fixture = QuotaFixture::new(|_| None);
        for &token in &fixture.tokens {
            fixture.poller.mailbox.send(Command::Wake(token));
        }
        assert_eq!(fixture.run_until_idle(), fixture.all());
    }

    #[test]
    fn simultaneous_notifications_are_handled_over_several_turns_in_order() {
        let mut fixture = QuotaFixture::new(|_| None);
        notifier::set_current_mailbox(Arc::clone(&fixture.poller.mailbox));
        for &token in &fixture.tokens {
            Notifier::new(Arc::clone(&fixture.poller.mailbox), token).notify(Notice::Poll);
        }
        assert_eq!(fixture.run_until_idle(), fixture.all());
    }

    #[test]
    fn yielded_sources_run_over_several_turns() {
        let mut fixture = QuotaFixture::new(|_| None);
        for token in fixture.tokens.clone() {
            fixture.poller.schedule_yield(token);
        }
        assert_eq!(fixture.run_until_idle(), fixture.all());
    }

    #[test]
    fn a_shutdown_reaches_each_source_once_over_several_turns() {
        let mut fixture = QuotaFixture::new(|_| None);
        fixture
            .poller
            .mailbox
            .send(Command::Shutdown(ShutdownRequest::Graceful));
        assert_eq!(fixture.run_until_idle(), fixture.all());
    }

    #[test]
    fn registrations_of_one_turn_are_spread_over_several() {
        let mut fixture = QuotaFixture::new(|_| None);
        let before = fixture.poller.registry.tokens().len();
        for _ in 0..SOURCES {
            let factory = |_| -> Box<dyn Source> {
                Box::new(CountedSource {
                    number: 0,
                    deadline: None,
                    log: CallLog::default(),
                })
            };
            fixture.poller.context.register(Box::new(factory));
        }
        fixture.poller.process_events(0);
        let made = fixture.poller.registry.tokens().len() - before;
        assert!(
            made > 0 && made <= MAX_ITEMS as usize,
            "{made} in one iteration"
        );
        while fixture.poller.timeout() == Some(Duration::ZERO) {
            fixture.poller.process_events(0);
        }
        assert_eq!(fixture.poller.registry.tokens().len() - before, SOURCES);
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
        assert!(
            (ITEMS_PER_CLOCK_READ..MAX_ITEMS).contains(&taken),
            "{taken}"
        );
    }

    #[test]
    fn a_turn_takes_few_slow_items() {
        let taken = takes(&mut Quota::default(), Duration::from_millis(1));
        assert!(
            (ITEMS_PER_CLOCK_READ..=2 * ITEMS_PER_CLOCK_READ).contains(&taken),
            "{taken}"
        );
    }
}
