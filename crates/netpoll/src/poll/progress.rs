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
//! * A source whose event was of no use [`TIMES`] times in a row is not watched for a pause, and is
//!   called and watched again after it. The pauses grow from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`], and
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
use crate::moment::Moment;

/// How many events in a row may be of no use.
const TIMES: u32 = 64;

/// How many errors in a row, before the error queue is emptied.
const ERRORS: u32 = 2;

/// The first pause in which a source is not watched, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The sources whose last event was of no use.
#[derive(Debug, Default)]
pub(super) struct Useless {
    sources: HashMap<Token, Seen>,
}

/// What is known of one of them.
#[derive(Debug, Default)]
struct Seen {
    /// How many events in a row were of no use.
    times: u32,
    /// The last pause; none yet if it is zero.
    pause: Duration,
    /// Until when it is not watched, if it is not.
    until: Option<Moment>,
}

impl Useless {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// An event was of use, or the source is gone.
    pub(super) fn forget(&mut self, token: Token) {
        self.sources.remove(&token);
    }

    /// Whether `token` is not to be watched now.
    pub(super) fn is_off(&self, token: Token) -> bool {
        self.sources
            .get(&token)
            .is_some_and(|seen| seen.until.is_some())
    }

    /// How long no pause ends; `None` if there is none.
    pub(super) fn until_next(&self) -> Option<Duration> {
        let next = self.sources.values().filter_map(|seen| seen.until).min()?;
        let now = Moment::now();
        Some(if next > now {
            next.since(now)
        } else {
            Duration::ZERO
        })
    }

    /// The sources whose pause is over.
    fn take_due(&mut self) -> Vec<Token> {
        let now = Moment::now();
        let is_due = |seen: &mut Seen| seen.until.take_if(|until| *until <= now).is_some();
        self.sources
            .iter_mut()
            .filter_map(|(token, seen)| is_due(seen).then_some(*token))
            .collect()
    }
}

impl Poller {
    /// An event of a source that is still there, and wants what it wanted before, moved nothing.
    #[cold]
    pub(super) fn no_progress(&mut self, token: Token, readiness: Readiness) {
        let seen = self.useless.sources.entry(token).or_default();
        seen.times += 1;
        if readiness.is_error() && seen.times >= ERRORS && self.empty_error_queue(token) {
            return self.useless.forget(token);
        }
        self.take_off_if_useless(token);
    }

    /// Whether there was anything in the error queue of a source.
    fn empty_error_queue(&mut self, token: Token) -> bool {
        let Some(run) = self.registry.take_out(token) else {
            return false;
        };
        let drained = run
            .source
            .fd()
            .map_or(0, |fd| transfer::empty_error_queue(fd).unwrap_or_default());
        self.registry.put_back(run);
        drained > 0
    }

    fn take_off_if_useless(&mut self, token: Token) {
        let Some(seen) = self.useless.sources.get_mut(&token) else {
            return;
        };
        if seen.times < TIMES {
            return;
        }
        let is_first = seen.pause.is_zero();
        let longest = match token == Token::MAILBOX {
            // So long may a letter wait.
            true => FIRST_PAUSE,
            false => LONGEST_PAUSE,
        };
        seen.pause = (2 * seen.pause).clamp(FIRST_PAUSE, longest);
        seen.until = Some(Moment::now() + seen.pause);
        let descriptor = self.cease_to_watch(token);
        self.mailbox.counters().poller.useless_events.add(1);
        if is_first && let Some(descriptor) = descriptor {
            let event = Event::UselessEvents { descriptor };
            self.listening.tell(&event);
        }
    }

    fn cease_to_watch(&mut self, token: Token) -> Option<RawFd> {
        if token == Token::MAILBOX {
            let bell = self.mailbox.bell().as_fd();
            return Some(self.forget_fd(bell, token, Some(Interest::READABLE)));
        }
        let mut run = self.registry.take_out(token)?;
        let watched = run.watch.interest.take();
        let descriptor = run.source.fd().map(|fd| self.forget_fd(fd, token, watched));
        self.registry.put_back(run);
        descriptor
    }

    fn forget_fd(&self, fd: BorrowedFd<'_>, token: Token, watched: Option<Interest>) -> RawFd {
        // What the kernel has forgotten needs no deleting.
        let _deleted = self.driver.watch(fd, token, watched, None).is_ok();
        fd.as_raw_fd()
    }

    /// The eventfd of the mailbox was to be cleared, and still is to be.
    #[cold]
    pub(super) fn bell_stays(&mut self) {
        self.useless
            .sources
            .entry(Token::MAILBOX)
            .or_default()
            .times += 1;
        self.take_off_if_useless(Token::MAILBOX);
    }

    /// Calls and watches the sources again whose pause is over.
    #[cold]
    pub(super) fn watch_again(&mut self) {
        for token in self.useless.take_due() {
            if token == Token::MAILBOX {
                let bell = self.mailbox.bell().as_fd();
                let readable = Some(Interest::READABLE);
                // If there is no room for it, its letters are looked for after each pause.
                if self.driver.watch(bell, token, None, readable).is_err() {
                    self.take_off_if_useless(token);
                }
            } else if self.registry.get_mut(token).is_some() {
                self.call(token, |source, turn| source.again(turn));
            } else {
                self.useless.forget(token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::source::{Ask, Next, Source, Turn};
    use crate::sync::{Arc, Mutex, lock};
    use netpoll_sys::socket;
    use std::cell::RefCell;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;

    /// Hears of its descriptor what it wants to, and does nothing about it unless it is to.
    struct Stubborn {
        fd: OwnedFd,
        wants: Interest,
        heeds: Rc<RefCell<bool>>,
    }

    impl Stubborn {
        fn answer(&self, turn: &mut Turn) -> Next {
            if *self.heeds.borrow() {
                turn.progressed();
            }
            Next::Wait(self.wants)
        }
    }

    impl Source for Stubborn {
        fn fd(&self) -> Option<BorrowedFd<'_>> {
            Some(self.fd.as_fd())
        }

        fn born(&mut self, turn: &mut Turn) -> Next {
            self.answer(turn)
        }

        fn woken(&mut self, turn: &mut Turn) -> Next {
            self.answer(turn)
        }

        fn asked(&mut self, _ask: Ask, _turn: &mut Turn) -> Next {
            Next::Gone
        }
    }

    #[test]
    fn a_source_whose_event_is_of_no_use_is_watched_less_and_less_until_one_is() {
        for wants in [Interest::READABLE, Interest::WRITABLE] {
            let (ours, theirs) = socket::pair().unwrap();
            let mut theirs = UnixStream::from(theirs);
            theirs.write_all(b"x").unwrap();
            let events = Arc::<Mutex<Vec<Event>>>::default();
            let told = Arc::clone(&events);
            let mut poller = Poller::by_hand();
            poller.listening =
                crate::event::Listening::new(move |event| lock(&told).push(event.clone()));
            let descriptor = ours.as_raw_fd();
            let heeds = Rc::<RefCell<bool>>::default();
            let token = poller.take_in(Stubborn {
                fd: ours,
                wants,
                heeds: Rc::clone(&heeds),
            });
            for _ in 0..TIMES {
                assert_eq!(poller.watch_of(token).interest, Some(wants));
                poller.turn_by_hand();
            }
            assert_eq!(poller.watch_of(token).interest, None);
            let mut last = Duration::ZERO;
            for _ in 0..4 {
                let pause = poller.timeout().unwrap();
                assert!(pause > last / 2 && pause <= LONGEST_PAUSE, "{pause:?}");
                last = pause;
                std::thread::sleep(pause);
                poller.work(0);
                assert_eq!(
                    poller.watch_of(token).interest,
                    Some(wants),
                    "after the pause"
                );
                poller.turn_by_hand();
                assert_eq!(poller.watch_of(token).interest, None, "one was enough");
            }
            assert_eq!(*lock(&events), [Event::UselessEvents { descriptor }]);
            let counted = poller.mailbox.counters().poller.snapshot();
            assert_eq!(counted.useless_events, 5);
            *heeds.borrow_mut() = true;
            std::thread::sleep(poller.timeout().unwrap());
            poller.work(0);
            for _ in 0..2 * TIMES {
                poller.turn_by_hand();
            }
            assert_eq!(poller.watch_of(token).interest, Some(wants), "it is of use");
            assert!(poller.useless.is_empty());
        }
    }
}
