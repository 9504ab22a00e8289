// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command queue of a poller, and the eventfd that wakes the poller for it.
//!
//! The queue and the flag `asleep` are behind one lock. A sender pushes a command and takes the
//! flag; only if the flag was set does it write the eventfd, after it released the lock. The poller
//! sets the flag only when it has found the queue empty under the same lock. So the poller either
//! sees a command before it sleeps or is woken for it: at most one write between two reads of the
//! queue, and none while sources have work.

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

/// A command to a poller.
pub(crate) enum Command {
    /// The source has work.
    Wake(Token),
    /// Register a new source.
    Register(SourceFactory),
    /// Pass a request to every source.
    Shutdown(ShutdownRequest),
    /// End the thread. Sources that are left are shut down by force and dropped.
    Stop,
}

/// How other threads reach a poller. One per poller.
#[derive(Debug)]
pub(crate) struct Mailbox {
    queue: Mutex<CommandQueue>,
    eventfd: EventFd,
    /// The poller's counters; written on its thread only.
    counters: Arc<Counters>,
    /// How long the poller busy polls before it sleeps.
    busy_poll: Duration,
    /// The memory that the poller's loop may use.
    memory: LoopMemory,
    /// The sockets of its connections, to be shut down if the poller cannot do it.
    sockets: SocketSet,
    /// Whether every source got a forced shutdown; see [`Mailbox::is_force_completed`].
    force_completed: AtomicU8,
}

#[derive(Default)]
struct CommandQueue {
    commands: VecDeque<Command>,
    asleep: bool,
    /// Closed once no command will be read any more.
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
            "{} commands, asleep: {}",
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

    /// Sets how long the poller busy polls before it sleeps.
    pub(crate) fn with_busy_poll(self, time: Duration) -> Self {
        Self {
            busy_poll: time,
            ..self
        }
    }

    /// Sets the memory that the poller's loop may use.
    pub(crate) fn within(self, memory: LoopMemory) -> Self {
        Self { memory, ..self }
    }

    /// Returns the memory that the poller's loop may use.
    pub(crate) fn memory(&self) -> LoopMemory {
        self.memory
    }

    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns how long the poller busy polls before it sleeps; zero if it does not.
    pub(crate) fn busy_poll(&self) -> Duration {
        self.busy_poll
    }

    pub(crate) fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }

    /// Returns the sockets of the poller's connections.
    pub(crate) fn sockets(&self) -> &SocketSet {
        &self.sockets
    }

    /// Queues a command, and wakes the poller if it sleeps: only then with a system call. Any
    /// thread. A command to a poller that has ended is dropped.
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
            // Fails only if the descriptor is closed, and then the poller has ended.
            let _notified = self.eventfd.notify().ok();
        }
    }

    /// Records that every source has got `request`.
    pub(super) fn shutdown_completed(&self, request: ShutdownRequest) {
        if request == ShutdownRequest::Force {
            // Release: pairs with `is_force_completed`.
            self.force_completed.store(1, Ordering::Release);
        }
    }

    /// Returns whether every source got a forced shutdown.
    pub(super) fn is_force_completed(&self) -> bool {
        // Acquire: pairs with `shutdown_completed`; makes the poller's work before it visible.
        self.force_completed.load(Ordering::Acquire) != 0
    }

    /// Returns whether the poller reads no more commands.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.queue).status == QueueStatus::Closed
    }

    /// Closes the queue: the poller reads no more, and queued commands are dropped.
    pub(crate) fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.status = QueueStatus::Closed;
        let commands = std::mem::take(&mut queue.commands);
        drop(queue);
        commands.into_iter().for_each(drop_command);
    }

    /// Moves all commands into `commands`, which is empty. Returns whether the poller may sleep:
    /// only if there were none, and then every later command wakes it.
    pub(crate) fn drain_into(&self, commands: &mut VecDeque<Command>, sleep: MaySleep) -> bool {
        let mut queue = lock(&self.queue);
        std::mem::swap(&mut queue.commands, commands);
        queue.asleep = commands.is_empty() && sleep == MaySleep::Yes;
        queue.asleep
    }
}

/// Drops a command, guarded: a factory that never runs holds values of users.
fn drop_command(command: Command) {
    let _panicked = guard(|| drop(command)).is_err();
}

/// Whether a poller that finds no command is about to wait.
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
        assert!(!is_notified(&mailbox), "the first command took the flag");
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
            let counted = CountsDrops(Arc::clone(&dropped));
            Command::Register(Box::new(move |_| {
                unreachable!("{}", counted.0.load(Ordering::Relaxed))
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
