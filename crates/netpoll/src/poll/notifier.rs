// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to notify a source that it has work.
//!
//! A notifier knows its poller's mailbox and its source's token. On the poller's own thread it puts
//! the token on that thread's run queue, without a lock or a system call; on another thread it
//! sends a command. A notification that is still pending is not queued twice: each [`Notice`] is a
//! bit that is taken *before* the source looks at its work, so work that comes meanwhile notifies
//! again. One that was [retracted](Notifier::retract_local_send) leaves the token in the queue,
//! which may then contain it twice: a source that is called without a pending notice has nothing to
//! do.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::mailbox::{Command, Mailbox};
use super::token::Token;
use crate::fairness;
use crate::stats::counters::Counters;
use crate::sync::{Arc, AtomicU8, Ordering, thread_local};

/// The reason of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Notice {
    /// A future is ready to be polled.
    Poll = 1,
    /// There is output.
    Send = 2,
    /// A close was requested.
    Close = 4,
    /// A deadline was set or changed.
    Deadline = 8,
    /// Input is wanted again.
    Resume = 16,
    /// There is output, put on the poller's thread. It may be sent before the notice is taken.
    LocalSend = 32,
}

/// How often a source may continue in one run where it could yield.
const MAX_CONTINUATIONS: u8 = 8;

/// The notices that were pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoticeSet(u8);

impl NoticeSet {
    #[inline]
    pub(crate) fn has(self, notice: Notice) -> bool {
        self.0 & notice as u8 != 0
    }

    /// Returns whether none was.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The relation of the calling thread to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The source's poller, which runs the source right now.
    Running,
    /// The source's poller.
    Poller,
    /// Another thread.
    OtherThread,
}

/// The notifier of one source.
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

    /// Returns the mailbox of its poller.
    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Records that `fd` belongs to the source, so that it can be shut down without the poller.
    pub(crate) fn register_socket(&self, fd: BorrowedFd<'_>) {
        self.mailbox.sockets().insert(fd);
    }

    /// Records that `fd` belongs to the source no more: before it is closed or moves to another
    /// owner.
    pub(crate) fn deregister_socket(&self, fd: BorrowedFd<'_>) {
        self.mailbox.sockets().remove(fd.as_raw_fd());
    }

    /// Returns the poller's counters. Written on its own thread only.
    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        self.mailbox.counters()
    }

    /// Calls the source's `on_notify` soon, with `notice` pending. Any thread.
    pub(crate) fn notify(&self, notice: Notice) {
        // AcqRel: the source that takes the notice sees all that happened before this call.
        let before = self.pending.fetch_or(notice as u8, Ordering::AcqRel);
        if before & notice as u8 == 0 && !self.queue_locally() {
            self.mailbox.send(Command::Wake(self.token));
        }
    }

    /// As [`Notifier::notify`], except for the source that runs on this thread right now: it checks
    /// all its state after the run anyway. (A notice left pending here would swallow the next one.)
    pub(crate) fn notify_unless_running(&self, notice: Notice) {
        if !self.is_current_source() {
            self.notify(notice);
        }
    }

    /// Retracts a [`Notice::LocalSend`] whose work is done. Call it only on the poller's thread,
    /// the only one that sets it: no notification of another thread is lost.
    pub(crate) fn retract_local_send(&self) {
        // AcqRel: as in `take`.
        self.pending
            .fetch_and(!(Notice::LocalSend as u8), Ordering::AcqRel);
    }

    /// Takes the pending notices. Call it before looking at the work.
    pub(crate) fn take(&self) -> NoticeSet {
        // AcqRel: pairs with `notify`.
        NoticeSet(self.pending.swap(0, Ordering::AcqRel))
    }

    /// Returns the relation of the calling thread to this source.
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

    /// Returns whether the calling thread runs this source right now.
    #[inline]
    pub(crate) fn is_current_source(&self) -> bool {
        self.role() == Role::Running
    }

    /// Returns whether the calling thread is this source's poller.
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

/// The state of a thread: set if it is a poller, or runs a handler for one.
struct ThreadContext {
    mailbox: RefCell<Option<Arc<Mailbox>>>,
    /// The source that runs.
    running: Cell<Option<Token>>,
    /// How often the running source may still continue where it could yield.
    continuations_left: Cell<u8>,
    /// Sources with work, in the order of their notifications.
    run_queue: RefCell<VecDeque<Token>>,
    /// The source whose handler runs here, if this thread is not its poller.
    on_behalf_of: RefCell<Option<SourceId>>,
}

/// The identity of a source whose handler runs.
#[derive(Clone, Debug)]
pub(crate) struct SourceId {
    mailbox: Arc<Mailbox>,
    token: Token,
}

impl SourceId {
    /// Returns whether `mailbox` is its poller's.
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

/// The identity of a poller while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollerId(usize);

/// Returns the poller whose thread this is.
pub(super) fn current_poller() -> Option<PollerId> {
    CONTEXT
        .try_with(|here| {
            let mailbox = here.mailbox.borrow();
            Some(PollerId(Arc::as_ptr(mailbox.as_ref()?).addr()))
        })
        .ok()
        .flatten()
}

/// Makes the calling thread the poller of `mailbox`.
pub(super) fn set_current_mailbox(mailbox: Arc<Mailbox>) {
    CONTEXT.with(|here| here.mailbox.replace(Some(mailbox)));
}

/// Returns the mailbox of the poller whose thread this is, or whose handler runs here.
pub(crate) fn current_mailbox() -> Option<Arc<Mailbox>> {
    let other_thread =
        |here: &ThreadContext| Some(Arc::clone(&here.on_behalf_of.borrow().as_ref()?.mailbox));
    CONTEXT
        .try_with(|here| here.mailbox.borrow().clone().or_else(|| other_thread(here)))
        .ok()
        .flatten()
}

/// Returns the source whose handler runs on this thread.
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

/// Returns whether the calling thread is a poller.
pub(crate) fn is_poller_thread() -> bool {
    CONTEXT
        .try_with(|here| here.mailbox.borrow().is_some())
        .unwrap_or(false)
}

/// Runs `work` of a handler on another thread than its poller's: the handler of `notifier`'s
/// source.
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

/// Sets the source that runs on this thread; `None` if none does.
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

/// Returns whether the code that runs on this thread may continue where it could yield: a few times
/// in each run of a source, and never outside of its poller.
pub(crate) fn may_continue() -> bool {
    let spend = |here: &ThreadContext| {
        let rest = here.continuations_left.get().checked_sub(1);
        rest.inspect(|&rest| here.continuations_left.set(rest))
            .is_some()
    };
    CONTEXT.try_with(spend).unwrap_or(false)
}

/// Takes the next source with work.
pub(super) fn pop_run_queue() -> Option<Token> {
    CONTEXT.with(|here| here.run_queue.borrow_mut().pop_front())
}

/// Returns the number of sources in the run queue.
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
