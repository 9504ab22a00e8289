// SPDX-License-Identifier: MIT OR Apache-2.0
//! Quotas: how much one turn of a poller does.

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
