// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protection against events that repeat without effect.
//!
//! The kernel reports a level-triggered condition until it ends. An event made progress if bytes
//! moved, a connection was accepted, or the source was removed or changed its interest. The poller
//! counts events without progress here, and only those:
//!
//! * An error that is no end of the connection is reported whatever the interest is. It lies in the
//!   error queue of the socket: a timestamp (`SO_TIMESTAMPING`), or the completion of a zero-copy
//!   send (`MSG_ZEROCOPY`). When its event comes a second time, no reader has taken it meanwhile,
//!   and the poller drains the queue.
//! * After [`MAX_SPURIOUS`] events in a row without progress, a source is deregistered for a pause,
//!   and called and registered again after it. The pauses grow from [`MIN_BACKOFF`] to
//!   [`MAX_BACKOFF`], and one spurious event is enough for the next, until an event makes progress.
//!   The first pause is reported.
//!
//! The eventfd of the mailbox is handled in the same way if it cannot be cleared: meanwhile the
//! poller reads the mailbox after each pause.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use netpoll_sys::{Interest, Readiness, transfer};

use super::Poller;
use super::token::Token;
use crate::event::Event;
use crate::timestamp::Timestamp;

/// Events in a row without progress before a pause.
const MAX_SPURIOUS: u32 = 64;

/// Errors in a row before the error queue is drained.
const MAX_ERRORS: u32 = 2;

/// The shortest and the longest pause in which a source is not registered.
const MIN_BACKOFF: Duration = Duration::from_millis(10);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// The sources whose last event made no progress.
#[derive(Debug, Default)]
pub(super) struct SpuriousEvents {
    sources: HashMap<Token, SpuriousStreak>,
}

/// The record of one source.
#[derive(Debug, Default)]
struct SpuriousStreak {
    /// Events in a row without progress.
    count: u32,
    /// The last pause; zero if there was none.
    backoff: Duration,
    /// The end of the current pause, if there is one.
    paused_until: Option<Timestamp>,
}

impl SpuriousEvents {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Drops the record of a source: an event made progress, or the source is removed.
    pub(super) fn remove(&mut self, token: Token) {
        self.sources.remove(&token);
    }

    /// Returns whether `token` is in a pause.
    pub(super) fn is_paused(&self, token: Token) -> bool {
        self.sources
            .get(&token)
            .is_some_and(|seen| seen.paused_until.is_some())
    }

    /// Returns the time until the first pause ends; `None` if there is none.
    pub(super) fn until_next(&self) -> Option<Duration> {
        let next = self
            .sources
            .values()
            .filter_map(|seen| seen.paused_until)
            .min()?;
        let now = Timestamp::now();
        Some(if next > now {
            next.since(now)
        } else {
            Duration::ZERO
        })
    }

    /// Returns the sources whose pause is over.
    fn take_due(&mut self) -> Vec<Token> {
        let now = Timestamp::now();
        let is_due =
            |seen: &mut SpuriousStreak| seen.paused_until.take_if(|until| *until <= now).is_some();
        self.sources
            .iter_mut()
            .filter_map(|(token, seen)| is_due(seen).then_some(*token))
            .collect()
    }
}

impl Poller {
    /// Records an event without progress, of a source that is still registered with the same
    /// interest.
    #[cold]
    pub(super) fn record_spurious(&mut self, token: Token, readiness: Readiness) {
        let seen = self.spurious.sources.entry(token).or_default();
        seen.count += 1;
        if readiness.is_error() && seen.count >= MAX_ERRORS && self.drain_error_queue(token) {
            return self.spurious.remove(token);
        }
        self.back_off_if_repeated(token);
    }

    /// Drains the error queue of a source. Returns whether there was anything in it.
    fn drain_error_queue(&mut self, token: Token) -> bool {
        let Some(run) = self.registry.take_out(token) else {
            return false;
        };
        let drained = run
            .source
            .fd()
            .map_or(0, |fd| transfer::drain_error_queue(fd).unwrap_or_default());
        self.registry.put_back(run);
        drained > 0
    }

    fn back_off_if_repeated(&mut self, token: Token) {
        let Some(seen) = self.spurious.sources.get_mut(&token) else {
            return;
        };
        if seen.count < MAX_SPURIOUS {
            return;
        }
        let is_first = seen.backoff.is_zero();
        let longest = match token == Token::MAILBOX {
            // A command may wait for this long.
            true => MIN_BACKOFF,
            false => MAX_BACKOFF,
        };
        seen.backoff = (2 * seen.backoff).clamp(MIN_BACKOFF, longest);
        seen.paused_until = Some(Timestamp::now() + seen.backoff);
        let descriptor = self.deregister_token(token);
        self.mailbox.counters().poller.spurious_events.add(1);
        if is_first && let Some(descriptor) = descriptor {
            let event = Event::SpuriousEvents { descriptor };
            self.event_sink.report(&event);
        }
    }

    fn deregister_token(&mut self, token: Token) -> Option<RawFd> {
        if token == Token::MAILBOX {
            let notifier = self.mailbox.eventfd().as_fd();
            return Some(self.deregister_fd(notifier, token, Some(Interest::READABLE)));
        }
        let mut run = self.registry.take_out(token)?;
        let watched = run.watch.interest.take();
        let descriptor = run
            .source
            .fd()
            .map(|fd| self.deregister_fd(fd, token, watched));
        self.registry.put_back(run);
        descriptor
    }

    fn deregister_fd(&self, fd: BorrowedFd<'_>, token: Token, watched: Option<Interest>) -> RawFd {
        // A descriptor that the kernel has already removed needs no deregistration.
        let _deleted = self
            .driver
            .update_interest(fd, token, watched, None)
            .is_ok();
        fd.as_raw_fd()
    }

    /// Records that the eventfd of the mailbox could not be cleared.
    #[cold]
    pub(super) fn eventfd_not_cleared(&mut self) {
        self.spurious
            .sources
            .entry(Token::MAILBOX)
            .or_default()
            .count += 1;
        self.back_off_if_repeated(Token::MAILBOX);
    }

    /// Calls and registers the sources whose pause is over.
    #[cold]
    pub(super) fn resume_paused(&mut self) {
        for token in self.spurious.take_due() {
            if token == Token::MAILBOX {
                let notifier = self.mailbox.eventfd().as_fd();
                let readable = Some(Interest::READABLE);
                // If registration fails, the mailbox is read after each pause.
                if self
                    .driver
                    .update_interest(notifier, token, None, readable)
                    .is_err()
                {
                    self.back_off_if_repeated(token);
                }
            } else if self.registry.get_mut(token).is_some() {
                self.call(token, |source, context| source.on_yield(context));
            } else {
                self.spurious.remove(token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::source::{NextAction, ShutdownRequest, Source, SourceContext};
    use crate::sync::{Arc, Mutex, lock};
    use netpoll_sys::socket;
    use std::cell::RefCell;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::time::Instant;

    /// A source with a fixed interest, which makes progress only when the test says so.
    struct IdleSource {
        fd: OwnedFd,
        interest: Interest,
        makes_progress: Rc<RefCell<bool>>,
    }

    impl IdleSource {
        fn answer(&self, context: &mut SourceContext) -> NextAction {
            if *self.makes_progress.borrow() {
                context.record_progress();
            }
            NextAction::Wait(self.interest)
        }
    }

    impl Source for IdleSource {
        fn fd(&self) -> Option<BorrowedFd<'_>> {
            Some(self.fd.as_fd())
        }

        fn on_register(&mut self, context: &mut SourceContext) -> NextAction {
            self.answer(context)
        }

        fn on_notify(&mut self, context: &mut SourceContext) -> NextAction {
            self.answer(context)
        }

        fn on_shutdown(
            &mut self,
            _request: ShutdownRequest,
            _context: &mut SourceContext,
        ) -> NextAction {
            NextAction::Remove
        }
    }

    /// The thread ran so late that a pause was over before the test could see it.
    struct Late;

    /// Handles one event that makes no progress. Returns whether the source is deregistered for a
    /// pause after it.
    fn run_spurious(poller: &mut Poller, token: Token) -> Result<bool, Late> {
        let begun = Instant::now();
        poller.run_ready();
        let is_paused = poller.interest_of(token).interest.is_none();
        if !is_paused && begun.elapsed() >= MIN_BACKOFF {
            return Err(Late);
        }
        Ok(is_paused)
    }

    fn back_off_until_an_event_makes_progress(interest: Interest) -> Result<(), Late> {
        let (ours, theirs) = socket::pair().unwrap();
        let mut theirs = UnixStream::from(theirs);
        theirs.write_all(b"x").unwrap();
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let reported = Arc::clone(&events);
        let mut poller = Poller::for_test();
        poller.event_sink =
            crate::event::EventSink::new(move |event| lock(&reported).push(event.clone()));
        let descriptor = ours.as_raw_fd();
        let makes_progress = Rc::<RefCell<bool>>::default();
        let token = poller.insert_source(IdleSource {
            fd: ours,
            interest,
            makes_progress: Rc::clone(&makes_progress),
        });
        for number in 1..=MAX_SPURIOUS {
            assert_eq!(poller.interest_of(token).interest, Some(interest));
            let is_paused = run_spurious(&mut poller, token)?;
            assert_eq!(is_paused, number == MAX_SPURIOUS, "after event {number}");
        }
        let mut last = Duration::ZERO;
        for _ in 0..4 {
            let pause = poller.timeout().unwrap();
            assert!(pause <= MAX_BACKOFF, "{pause:?}");
            if pause <= last / 2 {
                return Err(Late);
            }
            last = pause;
            std::thread::sleep(pause);
            poller.process_events(0);
            assert_eq!(
                poller.interest_of(token).interest,
                Some(interest),
                "registered after the pause"
            );
            let is_paused = run_spurious(&mut poller, token)?;
            assert!(is_paused, "one event is enough");
        }
        assert_eq!(*lock(&events), [Event::SpuriousEvents { descriptor }]);
        let counted = poller.mailbox.counters().poller.snapshot();
        assert_eq!(counted.spurious_events, 5);
        *makes_progress.borrow_mut() = true;
        std::thread::sleep(poller.timeout().unwrap());
        poller.process_events(0);
        for _ in 0..2 * MAX_SPURIOUS {
            poller.run_ready();
        }
        assert_eq!(
            poller.interest_of(token).interest,
            Some(interest),
            "its events make progress"
        );
        assert!(poller.spurious.is_empty());
        Ok(())
    }

    #[test]
    fn spurious_events_back_off_until_an_event_makes_progress() {
        for interest in [Interest::READABLE, Interest::WRITABLE] {
            let in_time = |_: &u32| back_off_until_an_event_makes_progress(interest).is_ok();
            let attempt = (0..100).find(in_time);
            assert!(attempt.is_some(), "the thread ran late in each attempt");
        }
    }
}
