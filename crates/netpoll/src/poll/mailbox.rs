// SPDX-License-Identifier: MIT OR Apache-2.0
//! What other threads ask of a poller, and the bell that wakes it for that.
//!
//! The queue and the flag `asleep` are behind one lock. A sender pushes and takes the flag; only
//! if it was set does it ring, outside the lock. The poller sets the flag only when it has found
//! the queue empty under the same lock. So a letter is either seen before the poller sleeps or
//! rings: at most once between two looks at the queue, and not at all while sources have work.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use netpoll_sys::{EventFd, Roll};

use super::source::{Ask, Birth};
use super::token::Token;
use crate::budget::LoopMemory;
use crate::guard::guard;
use crate::stats::counters::Counters;
use crate::sync::{Arc, AtomicU8, Mutex, Ordering, lock};

/// What can be asked of a poller.
pub(crate) enum Letter {
    /// The source named has work.
    Wake(Token),
    /// A new source.
    Register(Birth),
    /// Something every source should hear.
    Everyone(Ask),
    /// End the thread. Sources that are left are forced to end, and dropped.
    Stop,
}

/// The way into a poller from outside. One per poller.
#[derive(Debug)]
pub(crate) struct Mailbox {
    post: Mutex<Post>,
    bell: EventFd,
    /// What the poller counts; written on its thread only.
    counters: Arc<Counters>,
    /// For how long the poller waits awake.
    busy_poll: Duration,
    /// What the poller's loop may use.
    memory: LoopMemory,
    /// The sockets of its connections, for who has to end them without it.
    roll: Roll,
    /// Whether every source was asked to end at once; see [`Mailbox::has_forced`].
    forced: AtomicU8,
}

#[derive(Default)]
struct Post {
    letters: VecDeque<Letter>,
    asleep: bool,
    /// Nobody reads letters any more.
    gone: Gone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gone {
    #[default]
    No,
    Yes,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} letters, asleep: {}", self.letters.len(), self.asleep)
    }
}

impl Mailbox {
    pub(crate) fn new(counters: Arc<Counters>) -> io::Result<Self> {
        Ok(Self {
            post: Mutex::default(),
            bell: EventFd::new()?,
            counters,
            busy_poll: Duration::ZERO,
            memory: LoopMemory::default(),
            roll: Roll::default(),
            forced: AtomicU8::new(0),
        })
    }

    /// The same of a poller that waits awake for `time` before it sleeps.
    pub(crate) fn busy_polling(self, time: Duration) -> Self {
        Self {
            busy_poll: time,
            ..self
        }
    }

    /// The same of a poller whose loop may use `memory`.
    pub(crate) fn within(self, memory: LoopMemory) -> Self {
        Self { memory, ..self }
    }

    /// What the poller's loop may use.
    pub(crate) fn memory(&self) -> LoopMemory {
        self.memory
    }

    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// For how long the poller waits awake before it sleeps; zero if it does not.
    pub(crate) fn busy_poll(&self) -> Duration {
        self.busy_poll
    }

    pub(crate) fn bell(&self) -> &EventFd {
        &self.bell
    }

    /// The sockets of the poller's connections.
    pub(crate) fn roll(&self) -> &Roll {
        &self.roll
    }

    /// Leaves a letter, and wakes the poller if it sleeps. Any thread; a system call only then. A
    /// letter to a poller that has ended is dropped.
    pub(crate) fn post(&self, letter: Letter) {
        let mut post = lock(&self.post);
        if post.gone == Gone::Yes {
            drop(post);
            return drop_letter(letter);
        }
        post.letters.push_back(letter);
        let asleep = std::mem::take(&mut post.asleep);
        drop(post);
        if asleep {
            // The one way this fails is a descriptor that is gone, and so is the poller then.
            let _rung = self.bell.ring().ok();
        }
    }

    /// Every source was asked this.
    pub(super) fn complete(&self, ask: Ask) {
        if ask == Ask::Force {
            // Release: pairs with `has_forced`.
            self.forced.store(1, Ordering::Release);
        }
    }

    /// Whether every source was asked to end at once.
    pub(super) fn has_forced(&self) -> bool {
        // Acquire: pairs with `complete`; what the poller did before is seen.
        self.forced.load(Ordering::Acquire) != 0
    }

    /// Whether the poller reads no more.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.post).gone == Gone::Yes
    }

    /// The poller reads no more: drops what it was not told.
    pub(crate) fn close(&self) {
        let mut post = lock(&self.post);
        post.gone = Gone::Yes;
        let letters = std::mem::take(&mut post.letters);
        drop(post);
        letters.into_iter().for_each(drop_letter);
    }

    /// Takes all letters into `letters`, which is empty. Says whether the poller may sleep: only
    /// if there were none, and then every later letter will ring.
    pub(crate) fn collect(&self, letters: &mut VecDeque<Letter>, sleep: MaySleep) -> bool {
        let mut post = lock(&self.post);
        std::mem::swap(&mut post.letters, letters);
        post.asleep = letters.is_empty() && sleep == MaySleep::Yes;
        post.asleep
    }
}

/// A birth that is never to be holds what is its maker's.
fn drop_letter(letter: Letter) {
    let _panicked = guard(|| drop(letter)).is_err();
}

/// Whether a poller that finds no letters is about to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaySleep {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{AtomicUsize, Ordering};
    use netpoll_sys::{Epoll, Events, Interest};
    use std::os::fd::AsFd;

    fn rung(mailbox: &Mailbox) -> bool {
        let epoll = Epoll::new().unwrap();
        epoll
            .add(mailbox.bell().as_fd(), 1, Interest::READABLE)
            .unwrap();
        epoll
            .wait(&mut Events::with_capacity(1), Some(Duration::ZERO))
            .unwrap()
            == 1
    }

    #[test]
    fn a_letter_to_a_poller_that_is_awake_does_not_ring() {
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        mailbox.post(Letter::Stop);
        assert!(!rung(&mailbox));
    }

    #[test]
    fn a_letter_to_a_sleeping_poller_rings_once() {
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        let mut letters = VecDeque::new();
        assert!(mailbox.collect(&mut letters, MaySleep::Yes));
        mailbox.post(Letter::Stop);
        assert!(rung(&mailbox));
        mailbox.bell().clear().unwrap();
        mailbox.post(Letter::Stop);
        assert!(!rung(&mailbox), "the flag was taken by the first letter");
    }

    #[test]
    fn a_letter_to_a_poller_that_has_ended_is_dropped_whenever_it_comes() {
        struct Told(Arc<AtomicUsize>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        let dropped = Arc::<AtomicUsize>::default();
        let letter = || {
            let told = Told(Arc::clone(&dropped));
            Letter::Register(Box::new(move |_| {
                unreachable!("{}", told.0.load(Ordering::Relaxed))
            }))
        };
        mailbox.post(letter());
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        mailbox.close();
        mailbox.post(letter());
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_poller_with_letters_may_not_sleep() {
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        mailbox.post(Letter::Stop);
        let mut letters = VecDeque::new();
        assert!(!mailbox.collect(&mut letters, MaySleep::Yes));
        assert_eq!(letters.len(), 1);
        letters.clear();
        assert!(mailbox.collect(&mut letters, MaySleep::Yes));
    }

    #[test]
    fn a_poller_that_will_not_sleep_is_not_rung_for() {
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        assert!(!mailbox.collect(&mut VecDeque::new(), MaySleep::No));
        mailbox.post(Letter::Stop);
        assert!(!rung(&mailbox));
    }
}
