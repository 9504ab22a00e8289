// SPDX-License-Identifier: MIT OR Apache-2.0
//! A poller that a test runs on its own thread, one iteration at a time.

use std::time::Duration;

use super::Poller;
use super::mailbox::Mailbox;
use super::registry::FdInterest;
use super::source::Source;
use super::token::Token;
use crate::budget::Budget;
use crate::sync::Arc;

/// How long an iteration waits for an event.
const LIMIT: Duration = Duration::from_secs(60);

impl Poller {
    /// Creates a poller without a memory limit.
    pub(super) fn for_test() -> Self {
        let mailbox = Arc::new(Mailbox::new(Arc::default()).expect("an eventfd"));
        Self::new(mailbox, &Budget::unlimited()).expect("an epoll")
    }

    /// Registers `source` and calls it for the first time.
    pub(super) fn insert_source(&mut self, source: impl Source + 'static) -> Token {
        let token = self.registry.insert(Box::new(source));
        self.call(token, |source, context| source.on_register(context));
        token
    }

    /// Waits for events and handles them. Fails if none comes.
    pub(super) fn run_ready(&mut self) {
        let count = self.driver.wait(Some(LIMIT)).expect("to wait");
        assert!(count > 0, "no event within the limit");
        self.process_events(count);
    }

    /// Returns the registered interest of a source.
    pub(super) fn interest_of(&mut self, token: Token) -> FdInterest {
        let run = self.registry.take_out(token).expect("a registered source");
        let watch = run.watch;
        self.registry.put_back(run);
        watch
    }
}
