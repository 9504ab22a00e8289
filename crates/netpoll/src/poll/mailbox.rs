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

use netpoll_sys::{EventFd, SocketSet};

use super::source::{ShutdownRequest, SourceFactory};
use super::token::Token;
use crate::budget::LoopMemory;
use crate::guard::guard;
use crate::stats::counters::Counters;
use crate::sync::{Arc, AtomicU8, Mutex, Ordering, lock};

/// What can be asked of a poller.
pub(crate) enum Command {
    /// The source named has work.
    Wake(Token),
    /// A new source.
    Register(SourceFactory),
    /// Something every source should hear.
    Shutdown(ShutdownRequest),
    /// End the thread. Sources that are left are forced to end, and dropped.
    Stop,
}

/// The way into a poller from outside. One per poller.
#[derive(Debug)]
pub(crate) struct Mailbox {
    queue: Mutex<CommandQueue>,
    eventfd: EventFd,
    /// What the poller counts; written on its thread only.
    counters: Arc<Counters>,
    /// For how long the poller waits awake.
    busy_poll: Duration,
    /// What the poller's loop may use.
    memory: LoopMemory,
    /// The sockets of its connections, for who has to end them without it.
    sockets: SocketSet,
    /// Whether every source was asked to end at once; see [`Mailbox::is_force_completed`].
    force_completed: AtomicU8,
}

#[derive(Default)]
struct CommandQueue {
    commands: VecDeque<Command>,
    asleep: bool,
    /// Nobody reads letters any more.
    status: QueueStatus,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum QueueStatus {
    #[default]
    Open,
    Closed,
}

impl std::fmt::Debug for CommandQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} letters, asleep: {}",
            self.commands.len(),
            self.asleep
        )
    }
}

impl Mailbox {
    pub(crate) fn new(counters: Arc<Counters>) -> io::Result<Self> {
        Ok(Self {
            queue: Mutex::default(),
            eventfd: EventFd::new()?,
            counters,
            busy_poll: Duration::ZERO,
            memory: LoopMemory::default(),
            sockets: SocketSet::default(),
            force_completed: AtomicU8::new(0),
        })
    }

    /// The same of a poller that waits awake for `time` before it sleeps.
    pub(crate) fn with_busy_poll(self, time: Duration) -> Self {
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

    pub(crate) fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }

    /// The sockets of the poller's connections.
    pub(crate) fn sockets(&self) -> &SocketSet {
        &self.sockets
    }

    /// Leaves a letter, and wakes the poller if it sleeps. Any thread; a system call only then. A
    /// letter to a poller that has ended is dropped.
    pub(crate) fn send(&self, command: Command) {
        let mut queue = lock(&self.queue);
        if queue.status == QueueStatus::Closed {
            drop(queue);
            return drop_command(command);
        }
        queue.commands.push_back(command);
        let asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if asleep {
            // The one way this fails is a descriptor that is gone, and so is the poller then.
            let _rung = self.eventfd.notify().ok();
        }
    }

    /// Every source was asked this.
    pub(super) fn shutdown_completed(&self, request: ShutdownRequest) {
        if request == ShutdownRequest::Force {
            // Release: pairs with `is_force_completed`.
            self.force_completed.store(1, Ordering::Release);
        }
    }

    /// Whether every source was asked to end at once.
    pub(super) fn is_force_completed(&self) -> bool {
        // Acquire: pairs with `complete`; what the poller did before is seen.
        self.force_completed.load(Ordering::Acquire) != 0
    }

    /// Whether the poller reads no more.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.queue).status == QueueStatus::Closed
    }

    /// The poller reads no more: drops what it was not told.
    pub(crate) fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.status = QueueStatus::Closed;
        let commands = std::mem::take(&mut queue.commands);
        drop(queue);
        commands.into_iter().for_each(drop_command);
    }

    /// Takes all letters into `letters`, which is empty. Says whether the poller may sleep: only
    /// if there were none, and then every later letter will ring.
    pub(crate) fn drain_into(&self, commands: &mut VecDeque<Command>, sleep: MaySleep) -> bool {
        let mut queue = lock(&self.queue);
        std::mem::swap(&mut queue.commands, commands);
        queue.asleep = commands.is_empty() && sleep == MaySleep::Yes;
        queue.asleep
    }
}

/// A birth that is never to be holds what is its maker's.
fn drop_command(command: Command) {
    let _panicked = guard(|| drop(command)).is_err();
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

    fn is_notified(mailbox: &Mailbox) -> bool {
        let epoll = Epoll::new().unwrap();
        epoll
            .add(mailbox.eventfd().as_fd(), 1, Interest::READABLE)
            .unwrap();
        epoll
            .wait(&mut Events::with_capacity(1), Some(Duration::ZERO))
            .unwrap()
            == 1
    }

    #[test]
    fn a_command_to_an_awake_poller_does_not_write_the_eventfd() {
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        mailbox.send(Command::Stop);
        assert!(!is_notified(&mailbox));
    }

    #[test]
    fn a_command_to_a_sleeping_poller_writes_the_eventfd_once() {
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        let mut commands = VecDeque::new();
        assert!(mailbox.drain_into(&mut commands, MaySleep::Yes));
        mailbox.send(Command::Stop);
        assert!(is_notified(&mailbox));
        mailbox.eventfd().clear().unwrap();
        mailbox.send(Command::Stop);
        assert!(
            !is_notified(&mailbox),
            "the flag was taken by the first letter"
        );
    }

    #[test]
    fn commands_to_a_stopped_poller_are_dropped() {
        struct CountsDrops(Arc<AtomicUsize>);
        impl Drop for CountsDrops {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        let dropped = Arc::<AtomicUsize>::default();
        let command = || {
            let told = CountsDrops(Arc::clone(&dropped));
            Command::Register(Box::new(move |_| {
                unreachable!("{}", told.0.load(Ordering::Relaxed))
            }))
        };
        mailbox.send(command());
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        mailbox.close();
        mailbox.send(command());
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_poller_with_queued_commands_does_not_sleep() {
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        mailbox.send(Command::Stop);
        let mut commands = VecDeque::new();
        assert!(!mailbox.drain_into(&mut commands, MaySleep::Yes));
        assert_eq!(commands.len(), 1);
        commands.clear();
        assert!(mailbox.drain_into(&mut commands, MaySleep::Yes));
    }

    #[test]
    fn a_poller_that_stays_awake_is_not_notified() {
        let mailbox = Mailbox::new(Arc::default()).unwrap();
        assert!(!mailbox.drain_into(&mut VecDeque::new(), MaySleep::No));
        mailbox.send(Command::Stop);
        assert!(!is_notified(&mailbox));
    }
}
