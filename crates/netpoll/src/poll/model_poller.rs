// SPDX-License-Identifier: MIT OR Apache-2.0
//! A poller that a model runs. All of it is the code that ships, except its wait, which would block
//! the one thread that all threads of a model share. Its wait polls the kernel and lets other
//! threads run.

use std::time::{Duration, Instant};

use super::mailbox::Mailbox;
use super::notifier;
use super::source::SourceFactory;
use super::{Poller, set::PollerHandle};
use crate::budget::Budget;
use crate::sync::{Arc, thread};

/// The poller of the modelled thread that created it.
pub(crate) struct ModelPoller {
    poller: Poller,
}

impl ModelPoller {
    /// Makes the calling thread a poller.
    pub(crate) fn new(handle: &PollerHandle, budget: &Budget) -> Self {
        let mailbox: Arc<Mailbox> = Arc::clone(handle.mailbox());
        notifier::set_current_mailbox(Arc::clone(&mailbox));
        let poller = Poller::new(mailbox, budget).expect("a poller");
        Self { poller }
    }

    /// Registers a source.
    pub(crate) fn register(&mut self, factory: SourceFactory) {
        self.poller.register(factory);
    }

    /// Runs one iteration. In place of a long wait, it lets the other threads run until the kernel
    /// has an event or `is_over` returns true, for a model in which nothing more will happen.
    pub(crate) fn run_turn(&mut self, is_over: impl Fn() -> bool) {
        let timeout = self.poller.timeout();
        let count = loop {
            let count = self
                .poller
                .driver
                .wait(Some(Duration::ZERO))
                .expect("epoll");
            if count > 0 || timeout == Some(Duration::ZERO) || is_over() {
                break count;
            }
            thread::yield_now();
        };
        self.poller.process_events(count);
    }

    /// Runs until no source is left.
    pub(crate) fn run_until_empty(&mut self) {
        while !self.is_empty() {
            self.run_turn(|| false);
        }
    }

    /// Returns whether no source is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.poller.registry.tokens().is_empty()
    }

    /// Fires all timers, as if a day had passed.
    pub(crate) fn fire_all_timers(&mut self) {
        let tomorrow = Instant::now() + Duration::from_secs(24 * 60 * 60);
        self.poller.context.set_now(tomorrow);
        for token in self.poller.registry.tokens() {
            self.poller
                .call(token, |source, context| source.on_timeout(context));
        }
    }
}
