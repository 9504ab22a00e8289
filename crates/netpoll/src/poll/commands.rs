// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that a poller gets through its mailbox: wake a source, register one, shut down every
//! source, stop. A poller runs a bounded number of them in each iteration.

use std::rc::Rc;

use super::Poller;
use super::mailbox::{Command, MaySleep};
use super::notifier::Notifier;
use super::quota::Quota;
use super::source::{RegisterContext, SourceFactory};
use crate::guard::guard;
use crate::sync::Arc;

impl Poller {
    /// Runs queued commands. Returns whether the poller may sleep: if `sleep` allows it and there
    /// were none.
    #[inline]
    pub(super) fn receive_commands(&mut self, sleep: MaySleep) -> bool {
        let may_sleep =
            self.commands.is_empty() && self.mailbox.drain_into(&mut self.commands, sleep);
        if !may_sleep && self.has_deferred_work() {
            self.run_commands();
        }
        may_sleep
    }

    /// Runs the oldest commands, up to the quota, and continues a shutdown of all sources.
    #[inline(never)]
    fn run_commands(&mut self) {
        let mut quota = Quota::default();
        while !self.commands.is_empty() && quota.take() {
            let Some(command) = self.commands.pop_front() else {
                break;
            };
            self.mailbox.counters().poller.commands.add(1);
            match command {
                Command::Wake(token) => {
                    self.call(token, |source, context| source.on_notify(context))
                }
                Command::Register(factory) => self.register(factory),
                Command::Shutdown(request) => self.shutdown_all(request),
                Command::Stop => self.stopped = true,
            }
        }
        self.continue_sweep();
    }

    /// Builds a source on this poller and registers it. A source that is registered after a shutdown
    /// request gets the request at once. A factory that panics registers nothing.
    pub(super) fn register(&mut self, factory: SourceFactory) {
        let token = self.registry.next_token();
        let notifier = Notifier::new(Arc::clone(&self.mailbox), token);
        let register_context = RegisterContext {
            notifier,
            per_thread: Rc::clone(&self.per_thread),
        };
        // A factory runs no user code, but it holds values of users (handlers), and a panic in it
        // must not end the poller.
        if let Ok(source) = guard(|| factory(register_context)) {
            let inserted = self.registry.insert(source);
            debug_assert_eq!(inserted, token);
            self.call(token, |source, context| source.on_register(context));
            if let Some(request) = self.shutdown {
                self.call(token, |source, context| {
                    source.on_shutdown(request, context)
                });
            }
        }
    }
}
