// SPDX-License-Identifier: MIT OR Apache-2.0
//! A poller that a test turns by hand, on its own thread, as often as it likes.

use std::time::Duration;

use super::Poller;
use super::mailbox::Mailbox;
use super::registry::FdInterest;
use super::source::Source;
use super::token::Token;
use crate::budget::Budget;
use crate::sync::Arc;

/// How long a turn waits for what has to come.
const LIMIT: Duration = Duration::from_secs(10);

impl Poller {
    /// One that nobody sends letters to, with all memory.
    pub(super) fn for_test() -> Self {
        let mailbox = Arc::new(Mailbox::new(Arc::default()).expect("an eventfd"));
        Self::new(mailbox, &Budget::unlimited()).expect("an epoll")
    }

    /// Has `source` from its first call on.
    pub(super) fn insert_source(&mut self, source: impl Source + 'static) -> Token {
        let token = self.registry.insert(Box::new(source));
        self.call(token, |source, context| source.on_register(context));
        token
    }

    /// Does what the kernel has, which is something.
    pub(super) fn run_ready(&mut self) {
        let count = self.driver.wait(Some(LIMIT)).expect("to wait");
        assert!(count > 0, "nothing within the limit");
        self.process_events(count);
    }

    /// What is watched of a source that is there.
    pub(super) fn interest_of(&mut self, token: Token) -> FdInterest {
        let run = self.registry.take_out(token).expect("there");
        let watch = run.watch;
        self.registry.put_back(run);
        watch
    }
}
