// SPDX-License-Identifier: MIT OR Apache-2.0
//! How anybody tells a source that it has work.
//!
//! A bell knows its poller's mailbox and its source's token. Rung on the poller's own thread it
//! puts the token on that thread's run queue, without a lock or a system call; from elsewhere it
//! leaves a letter. What has rung and was not yet heard is not queued twice: each [`Signal`] is a
//! bit that is taken *before* the source looks at its work, so work that comes meanwhile rings
//! again. One that was [taken back](Bell::take_back_put) leaves the token in the queue, where it may
//! stand twice then: a source that is called and finds nothing rung has nothing to do.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::mailbox::{Letter, Mailbox};
use super::token::Token;
use crate::fairness;
use crate::stats::counters::Counters;
use crate::sync::{Arc, AtomicU8, Ordering, thread_local};

/// Why a bell rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Signal {
    /// A future wants to be polled.
    Poll = 1,
    /// There is output.
    Send = 2,
    /// The end was asked for.
    Close = 4,
    /// A deadline was set or changed.
    Clock = 8,
    /// Input is wanted again.
    Resume = 16,
    /// There is output, put on the poller's thread. It may be sent before this is heard.
    Put = 32,
}

/// How often a source may go on in one run where it could let others run.
const ROUNDS: u8 = 8;

/// The signals that had rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signals(u8);

impl Signals {
    #[inline]
    pub(crate) fn has(self, signal: Signal) -> bool {
        self.0 & signal as u8 != 0
    }

    /// Whether none had.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What the calling thread is to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its poller, and the source runs right now.
    Running,
    /// Its poller.
    Driving,
    /// Another thread.
    Neither,
}

/// The bell of one source.
#[derive(Debug)]
pub(crate) struct Bell {
    mailbox: Arc<Mailbox>,
    token: Token,
    rung: AtomicU8,
}

impl Bell {
    pub(crate) fn new(mailbox: Arc<Mailbox>, token: Token) -> Self {
        Self {
            mailbox,
            token,
            rung: AtomicU8::new(0),
        }
    }

    /// Its poller's.
    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Notes that `fd` is the source's, for who has to end it without its poller.
    pub(crate) fn enrol(&self, fd: BorrowedFd<'_>) {
        self.mailbox.roll().enter(fd);
    }

    /// Notes that `fd` is the source's no more: before it is closed, or somebody else's.
    pub(crate) fn strike(&self, fd: BorrowedFd<'_>) {
        self.mailbox.roll().strike(fd.as_raw_fd());
    }

    /// What the poller counts. Written on its own thread only.
    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        self.mailbox.counters()
    }

    /// Calls the source's `woken` soon, with `signal`. Any thread.
    pub(crate) fn ring(&self, signal: Signal) {
        // AcqRel: what the ringer did before is seen by the source that takes the signal.
        let before = self.rung.fetch_or(signal as u8, Ordering::AcqRel);
        if before & signal as u8 == 0 && !self.queue_here() {
            self.mailbox.post(Letter::Wake(self.token));
        }
    }

    /// As [`Bell::ring`], except for the source which runs on this thread right now: it looks at
    /// all its state after it ran anyway. (A signal left for it here would count as one that is
    /// still to be heard, and swallow the next.)
    pub(crate) fn mark(&self, signal: Signal) {
        if !self.is_running_here() {
            self.ring(signal);
        }
    }

    /// Takes back a [`Signal::Put`], whose work is done. Only on the poller's thread, where alone it
    /// rings: nobody else's word is lost.
    pub(crate) fn take_back_put(&self) {
        // AcqRel: as in `take`.
        self.rung.fetch_and(!(Signal::Put as u8), Ordering::AcqRel);
    }

    /// Takes what has rung so far. Called before the work is looked at.
    pub(crate) fn take(&self) -> Signals {
        // AcqRel: pairs with `ring`.
        Signals(self.rung.swap(0, Ordering::AcqRel))
    }

    /// What the calling thread is to this source.
    #[inline]
    pub(crate) fn role(&self) -> Role {
        let role = |here: &Here| {
            if !here.is(&self.mailbox) {
                Role::Neither
            } else if here.running.get() == Some(self.token) {
                Role::Running
            } else {
                Role::Driving
            }
        };
        HERE.try_with(role).unwrap_or(Role::Neither)
    }

    /// Whether the calling thread is running this source right now.
    #[inline]
    pub(crate) fn is_running_here(&self) -> bool {
        self.role() == Role::Running
    }

    /// Whether the calling thread is this source's poller.
    pub(crate) fn is_here(&self) -> bool {
        self.role() != Role::Neither
    }

    fn queue_here(&self) -> bool {
        HERE.try_with(|here| {
            let own = here.is(&self.mailbox);
            if own {
                here.queue.borrow_mut().push_back(self.token);
            }
            own
        })
        .unwrap_or(false)
    }
}

/// What the calling thread is, if it is a poller.
struct Here {
    mailbox: RefCell<Option<Arc<Mailbox>>>,
    /// The source that runs.
    running: Cell<Option<Token>>,
    /// How often what runs may still go on where it could let others run.
    rounds: Cell<u8>,
    /// Sources with work, in the order they rang.
    queue: RefCell<VecDeque<Token>>,
    /// Whose handler runs here, if this thread is not its poller.
    working_for: RefCell<Option<Caller>>,
}

/// A source whose handler runs, as others know it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    mailbox: Arc<Mailbox>,
    token: Token,
}

impl Caller {
    /// Whether its poller is the one of `mailbox`.
    pub(super) fn is_of(&self, mailbox: &Arc<Mailbox>) -> bool {
        Arc::ptr_eq(&self.mailbox, mailbox)
    }
}

impl PartialEq for Caller {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mailbox, &other.mailbox) && self.token == other.token
    }
}

thread_local! {
    static HERE: Here = const {
        Here {
            mailbox: RefCell::new(None),
            running: Cell::new(None),
            rounds: Cell::new(0),
            queue: RefCell::new(VecDeque::new()),
            working_for: RefCell::new(None),
        }
    };
}

impl Here {
    #[inline]
    fn is(&self, mailbox: &Arc<Mailbox>) -> bool {
        self.mailbox
            .borrow()
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, mailbox))
    }
}

/// The calling thread is the poller of `mailbox` from now on.
pub(super) fn settle_here(mailbox: Arc<Mailbox>) {
    HERE.with(|here| here.mailbox.replace(Some(mailbox)));
}

/// The mailbox of the poller whose thread this is, or whose handler runs here.
pub(crate) fn mailbox_here() -> Option<Arc<Mailbox>> {
    let elsewhere = |here: &Here| Some(Arc::clone(&here.working_for.borrow().as_ref()?.mailbox));
    HERE.try_with(|here| here.mailbox.borrow().clone().or_else(|| elsewhere(here)))
        .ok()
        .flatten()
}

/// The source whose handler runs on this thread.
pub(crate) fn caller_here() -> Option<Caller> {
    let own = |here: &Here| {
        Some(Caller {
            mailbox: here.mailbox.borrow().clone()?,
            token: here.running.get()?,
        })
    };
    HERE.try_with(|here| own(here).or_else(|| here.working_for.borrow().clone()))
        .ok()
        .flatten()
}

/// Whether the calling thread is a poller.
pub(crate) fn is_poller_here() -> bool {
    HERE.try_with(|here| here.mailbox.borrow().is_some())
        .unwrap_or(false)
}

/// Runs `work`, which a handler of the source of `bell` does on another thread.
pub(crate) fn work_for<R>(bell: &Bell, work: impl FnOnce() -> R) -> R {
    let caller = Caller {
        mailbox: Arc::clone(&bell.mailbox),
        token: bell.token,
    };
    let before = HERE.with(|here| here.working_for.replace(Some(caller)));
    let result = work();
    HERE.with(|here| here.working_for.replace(before));
    result
}

/// Says which source runs on this thread from now on.
#[inline]
pub(super) fn set_running(token: Option<Token>) {
    HERE.with(|here| {
        here.running.set(token);
        if token.is_some() {
            here.rounds.set(ROUNDS);
            fairness::begin();
        }
    });
}

/// Whether what runs on this thread may go on where it could as well let others run: a few times in
/// each run of a source, and never where that is not on its poller.
pub(crate) fn may_go_on() -> bool {
    let spend = |here: &Here| {
        let rest = here.rounds.get().checked_sub(1);
        rest.inspect(|&rest| here.rounds.set(rest)).is_some()
    };
    HERE.try_with(spend).unwrap_or(false)
}

/// The next source with work.
pub(super) fn next_queued() -> Option<Token> {
    HERE.with(|here| here.queue.borrow_mut().pop_front())
}

/// How many sources have work.
#[inline]
pub(super) fn queued() -> usize {
    HERE.with(|here| here.queue.borrow().len())
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_go_on_a_few_times_in_each_run() {
        assert!(!may_go_on(), "this thread is no poller yet");
        for run in 0..3 {
            set_running(Some(Token::source(run, 0)));
            let rounds = (0..100).take_while(|_| may_go_on()).count();
            assert_eq!(rounds, usize::from(ROUNDS));
            set_running(None);
        }
    }
}
