// SPDX-License-Identifier: MIT OR Apache-2.0
//! How anybody tells a source that it has work.
//!
//! A bell knows its poller's mailbox and its source's token. Rung on the poller's own thread it
//! puts the token on that thread's run queue, without a lock or a system call; from elsewhere it
//! leaves a letter. What has rung and was not yet heard is not queued twice: each [`Notice`] is a
//! bit that is taken *before* the source looks at its work, so work that comes meanwhile rings
//! again. One that was [taken back](Notifier::retract_local_send) leaves the token in the queue, where it may
//! stand twice then: a source that is called and finds nothing rung has nothing to do.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::mailbox::{Command, Mailbox};
use super::token::Token;
use crate::fairness;
use crate::stats::counters::Counters;
use crate::sync::{Arc, AtomicU8, Ordering, thread_local};

/// Why a bell rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Notice {
    /// A future wants to be polled.
    Poll = 1,
    /// There is output.
    Send = 2,
    /// The end was asked for.
    Close = 4,
    /// A deadline was set or changed.
    Deadline = 8,
    /// Input is wanted again.
    Resume = 16,
    /// There is output, put on the poller's thread. It may be sent before this is heard.
    LocalSend = 32,
}

/// How often a source may go on in one run where it could let others run.
const MAX_CONTINUATIONS: u8 = 8;

/// The signals that had rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoticeSet(u8);

impl NoticeSet {
    #[inline]
    pub(crate) fn has(self, signal: Notice) -> bool {
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
    Poller,
    /// Another thread.
    OtherThread,
}

/// The bell of one source.
#[derive(Debug)]
pub(crate) struct Notifier {
    mailbox: Arc<Mailbox>,
    token: Token,
    pending: AtomicU8,
}

impl Notifier {
    pub(crate) fn new(mailbox: Arc<Mailbox>, token: Token) -> Self {
        Self {
            mailbox,
            token,
            pending: AtomicU8::new(0),
        }
    }

    /// Its poller's.
    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Notes that `fd` is the source's, for who has to end it without its poller.
    pub(crate) fn register_socket(&self, fd: BorrowedFd<'_>) {
        self.mailbox.sockets().insert(fd);
    }

    /// Notes that `fd` is the source's no more: before it is closed, or somebody else's.
    pub(crate) fn deregister_socket(&self, fd: BorrowedFd<'_>) {
        self.mailbox.sockets().remove(fd.as_raw_fd());
    }

    /// What the poller counts. Written on its own thread only.
    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        self.mailbox.counters()
    }

    /// Calls the source's `woken` soon, with `signal`. Any thread.
    pub(crate) fn notify(&self, signal: Notice) {
        // AcqRel: what the ringer did before is seen by the source that takes the signal.
        let before = self.pending.fetch_or(signal as u8, Ordering::AcqRel);
        if before & signal as u8 == 0 && !self.queue_locally() {
            self.mailbox.send(Command::Wake(self.token));
        }
    }

    /// As [`Notifier::notify`], except for the source which runs on this thread right now: it looks at
    /// all its state after it ran anyway. (A signal left for it here would count as one that is
    /// still to be heard, and swallow the next.)
    pub(crate) fn notify_unless_running(&self, signal: Notice) {
        if !self.is_current_source() {
            self.notify(signal);
        }
    }

    /// Takes back a [`Notice::LocalSend`], whose work is done. Only on the poller's thread, where alone it
    /// rings: nobody else's word is lost.
    pub(crate) fn retract_local_send(&self) {
        // AcqRel: as in `take`.
        self.pending
            .fetch_and(!(Notice::LocalSend as u8), Ordering::AcqRel);
    }

    /// Takes what has rung so far. Called before the work is looked at.
    pub(crate) fn take(&self) -> NoticeSet {
        // AcqRel: pairs with `ring`.
        NoticeSet(self.pending.swap(0, Ordering::AcqRel))
    }

    /// What the calling thread is to this source.
    #[inline]
    pub(crate) fn role(&self) -> Role {
        let role = |here: &ThreadContext| {
            if !here.is_poller_of(&self.mailbox) {
                Role::OtherThread
            } else if here.running.get() == Some(self.token) {
                Role::Running
            } else {
                Role::Poller
            }
        };
        CONTEXT.try_with(role).unwrap_or(Role::OtherThread)
    }

    /// Whether the calling thread is running this source right now.
    #[inline]
    pub(crate) fn is_current_source(&self) -> bool {
        self.role() == Role::Running
    }

    /// Whether the calling thread is this source's poller.
    pub(crate) fn is_on_poller_thread(&self) -> bool {
        self.role() != Role::OtherThread
    }

    fn queue_locally(&self) -> bool {
        CONTEXT
            .try_with(|here| {
                let own = here.is_poller_of(&self.mailbox);
                if own {
                    here.run_queue.borrow_mut().push_back(self.token);
                }
                own
            })
            .unwrap_or(false)
    }
}

/// What the calling thread is, if it is a poller.
struct ThreadContext {
    mailbox: RefCell<Option<Arc<Mailbox>>>,
    /// The source that runs.
    running: Cell<Option<Token>>,
    /// How often what runs may still go on where it could let others run.
    continuations_left: Cell<u8>,
    /// Sources with work, in the order they rang.
    run_queue: RefCell<VecDeque<Token>>,
    /// Whose handler runs here, if this thread is not its poller.
    on_behalf_of: RefCell<Option<SourceId>>,
}

/// A source whose handler runs, as others know it.
#[derive(Clone, Debug)]
pub(crate) struct SourceId {
    mailbox: Arc<Mailbox>,
    token: Token,
}

impl SourceId {
    /// Whether its poller is the one of `mailbox`.
    pub(super) fn belongs_to(&self, mailbox: &Arc<Mailbox>) -> bool {
        Arc::ptr_eq(&self.mailbox, mailbox)
    }
}

impl PartialEq for SourceId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mailbox, &other.mailbox) && self.token == other.token
    }
}

thread_local! {
    static CONTEXT: ThreadContext = const {
        ThreadContext {
            mailbox: RefCell::new(None),
            running: Cell::new(None),
            continuations_left: Cell::new(0),
            run_queue: RefCell::new(VecDeque::new()),
            on_behalf_of: RefCell::new(None),
        }
    };
}

impl ThreadContext {
    #[inline]
    fn is_poller_of(&self, mailbox: &Arc<Mailbox>) -> bool {
        self.mailbox
            .borrow()
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, mailbox))
    }
}

/// The calling thread is the poller of `mailbox` from now on.
pub(super) fn set_current_mailbox(mailbox: Arc<Mailbox>) {
    CONTEXT.with(|here| here.mailbox.replace(Some(mailbox)));
}

/// The mailbox of the poller whose thread this is, or whose handler runs here.
pub(crate) fn current_mailbox() -> Option<Arc<Mailbox>> {
    let elsewhere =
        |here: &ThreadContext| Some(Arc::clone(&here.on_behalf_of.borrow().as_ref()?.mailbox));
    CONTEXT
        .try_with(|here| here.mailbox.borrow().clone().or_else(|| elsewhere(here)))
        .ok()
        .flatten()
}

/// The source whose handler runs on this thread.
pub(crate) fn current_source() -> Option<SourceId> {
    let own = |here: &ThreadContext| {
        Some(SourceId {
            mailbox: here.mailbox.borrow().clone()?,
            token: here.running.get()?,
        })
    };
    CONTEXT
        .try_with(|here| own(here).or_else(|| here.on_behalf_of.borrow().clone()))
        .ok()
        .flatten()
}

/// Whether the calling thread is a poller.
pub(crate) fn is_poller_thread() -> bool {
    CONTEXT
        .try_with(|here| here.mailbox.borrow().is_some())
        .unwrap_or(false)
}

/// Runs `work`, which a handler of the source of `bell` does on another thread.
pub(crate) fn run_on_behalf_of<R>(notifier: &Notifier, work: impl FnOnce() -> R) -> R {
    let source_id = SourceId {
        mailbox: Arc::clone(&notifier.mailbox),
        token: notifier.token,
    };
    let before = CONTEXT.with(|here| here.on_behalf_of.replace(Some(source_id)));
    let result = work();
    CONTEXT.with(|here| here.on_behalf_of.replace(before));
    result
}

/// Says which source runs on this thread from now on.
#[inline]
pub(super) fn set_running(token: Option<Token>) {
    CONTEXT.with(|here| {
        here.running.set(token);
        if token.is_some() {
            here.continuations_left.set(MAX_CONTINUATIONS);
            fairness::begin_poll();
        }
    });
}

/// Whether what runs on this thread may go on where it could as well let others run: a few times in
/// each run of a source, and never where that is not on its poller.
pub(crate) fn may_continue() -> bool {
    let spend = |here: &ThreadContext| {
        let rest = here.continuations_left.get().checked_sub(1);
        rest.inspect(|&rest| here.continuations_left.set(rest))
            .is_some()
    };
    CONTEXT.try_with(spend).unwrap_or(false)
}

/// The next source with work.
pub(super) fn pop_run_queue() -> Option<Token> {
    CONTEXT.with(|here| here.run_queue.borrow_mut().pop_front())
}

/// How many sources have work.
#[inline]
pub(super) fn run_queue_len() -> usize {
    CONTEXT.with(|here| here.run_queue.borrow().len())
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_continue_a_bounded_number_of_times_per_run() {
        assert!(!may_continue(), "this thread is no poller yet");
        for run in 0..3 {
            set_running(Some(Token::source(run, 0)));
            let rounds = (0..100).take_while(|_| may_continue()).count();
            assert_eq!(rounds, usize::from(MAX_CONTINUATIONS));
            set_running(None);
        }
    }
}
