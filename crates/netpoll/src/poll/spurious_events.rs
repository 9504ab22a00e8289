// SPDX-License-Identifier: MIT OR Apache-2.0
//! No event comes again and again while nothing can be done about it.
//!
//! The kernel reports what is so until it is no more. An event is of use if bytes moved, a connection
//! was accepted, or the source is gone or wants to hear of something else. Of an event that was of no
//! use the poller keeps count here, and only of those:
//!
//! * An error that is no end, which the kernel reports whatever is watched, lies in the error queue of
//!   the socket: a timestamp (`SO_TIMESTAMPING`), the end of a send without a copy (`MSG_ZEROCOPY`). When
//!   its event comes a second time nobody has read the queue meanwhile, and the poller empties it.
//! * A source whose event was of no use [`MAX_SPURIOUS`] times in a row is not watched for a pause, and is
//!   called and watched again after it. The pauses grow from [`MIN_BACKOFF`] to [`MAX_BACKOFF`], and
//!   one useless event is enough for the next, until an event is of use. The first is reported.
//!
//! The eventfd of the mailbox is treated alike, if it cannot be cleared: meanwhile the mailbox is read
//! after each pause.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use netpoll_sys::{Interest, Readiness, transfer};

use super::Poller;
use super::token::Token;
use crate::event::Event;
use crate::timestamp::Timestamp;

/// How many events in a row may be of no use.
const MAX_SPURIOUS: u32 = 64;

/// How many errors in a row, before the error queue is emptied.
const MAX_ERRORS: u32 = 2;

/// The first pause in which a source is not watched, and the longest.
const MIN_BACKOFF: Duration = Duration::from_millis(10);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// The sources whose last event was of no use.
#[derive(Debug, Default)]
pub(super) struct SpuriousEvents {
    sources: HashMap<Token, SpuriousStreak>,
}

/// What is known of one of them.
#[derive(Debug, Default)]
struct SpuriousStreak {
    /// How many events in a row were of no use.
    count: u32,
    /// The last pause; none yet if it is zero.
    backoff: Duration,
    /// Until when it is not watched, if it is not.
    paused_until: Option<Timestamp>,
}

impl SpuriousEvents {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// An event was of use, or the source is gone.
    pub(super) fn remove(&mut self, token: Token) {
        self.sources.remove(&token);
    }

    /// Whether `token` is not to be watched now.
    pub(super) fn is_paused(&self, token: Token) -> bool {
        self.sources
            .get(&token)
            .is_some_and(|seen| seen.paused_until.is_some())
    }

    /// How long no pause ends; `None` if there is none.
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

    /// The sources whose pause is over.
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
    /// An event of a source that is still there, and wants what it wanted before, moved nothing.
    #[cold]
    pub(super) fn record_spurious(&mut self, token: Token, readiness: Readiness) {
        let seen = self.spurious.sources.entry(token).or_default();
        seen.count += 1;
        if readiness.is_error() && seen.count >= MAX_ERRORS && self.drain_error_queue(token) {
            return self.spurious.remove(token);
        }
        self.back_off_if_repeated(token);
    }

    /// Whether there was anything in the error queue of a source.
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
            // So long may a letter wait.
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
        // What the kernel has forgotten needs no deleting.
        let _deleted = self
            .driver
            .update_interest(fd, token, watched, None)
            .is_ok();
        fd.as_raw_fd()
    }

    /// The eventfd of the mailbox was to be cleared, and still is to be.
    #[cold]
    pub(super) fn eventfd_not_cleared(&mut self) {
        self.spurious
            .sources
            .entry(Token::MAILBOX)
            .or_default()
            .count += 1;
        self.back_off_if_repeated(Token::MAILBOX);
    }

    /// Calls and watches the sources again whose pause is over.
    #[cold]
    pub(super) fn resume_paused(&mut self) {
        for token in self.spurious.take_due() {
            if token == Token::MAILBOX {
                let notifier = self.mailbox.eventfd().as_fd();
                let readable = Some(Interest::READABLE);
                // If there is no room for it, its letters are looked for after each pause.
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

    /// Hears of its descriptor what it wants to, and does nothing about it unless it is to.
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

        fn on_shutdown(&mut self, _ask: ShutdownRequest, _turn: &mut SourceContext) -> NextAction {
            NextAction::Remove
        }
    }

    #[test]
    fn spurious_events_back_off_until_an_event_makes_progress() {
        for wants in [Interest::READABLE, Interest::WRITABLE] {
            let (ours, theirs) = socket::pair().unwrap();
            let mut theirs = UnixStream::from(theirs);
            theirs.write_all(b"x").unwrap();
            let events = Arc::<Mutex<Vec<Event>>>::default();
            let told = Arc::clone(&events);
            let mut poller = Poller::for_test();
            poller.event_sink =
                crate::event::EventSink::new(move |event| lock(&told).push(event.clone()));
            let descriptor = ours.as_raw_fd();
            let heeds = Rc::<RefCell<bool>>::default();
            let token = poller.insert_source(IdleSource {
                fd: ours,
                interest: wants,
                makes_progress: Rc::clone(&heeds),
            });
            for _ in 0..MAX_SPURIOUS {
                assert_eq!(poller.interest_of(token).interest, Some(wants));
                poller.run_ready();
            }
            assert_eq!(poller.interest_of(token).interest, None);
            let mut last = Duration::ZERO;
            for _ in 0..4 {
                let pause = poller.timeout().unwrap();
                assert!(pause > last / 2 && pause <= MAX_BACKOFF, "{pause:?}");
                last = pause;
                std::thread::sleep(pause);
                poller.process_events(0);
                assert_eq!(
                    poller.interest_of(token).interest,
                    Some(wants),
                    "after the pause"
                );
                poller.run_ready();
                assert_eq!(poller.interest_of(token).interest, None, "one was enough");
            }
            assert_eq!(*lock(&events), [Event::SpuriousEvents { descriptor }]);
            let counted = poller.mailbox.counters().poller.snapshot();
            assert_eq!(counted.spurious_events, 5);
            *heeds.borrow_mut() = true;
            std::thread::sleep(poller.timeout().unwrap());
            poller.process_events(0);
            for _ in 0..2 * MAX_SPURIOUS {
                poller.run_ready();
            }
            assert_eq!(
                poller.interest_of(token).interest,
                Some(wants),
                "it is of use"
            );
            assert!(poller.spurious.is_empty());
        }
    }
}
