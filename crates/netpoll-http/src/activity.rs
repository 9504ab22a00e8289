// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a connection does at present, as its parts see it: the requests in flight, and input that
//! belongs to none of them.

use std::cell::Cell;
use std::rc::Rc;

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No request is in flight, and nothing of the next has arrived.
    Idle,
    /// A part of the next head has arrived.
    Head,
    /// A request is in flight.
    Busy,
}

/// The activity of one connection, shared by its parts on one thread.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    in_flight: Cell<usize>,
    /// How many requests have begun.
    begun: Cell<u64>,
    /// Whether input has arrived since the last request began or ended.
    has_input: Cell<bool>,
    /// Whether the connection takes no more requests.
    is_closing: Cell<bool>,
}

impl Activity {
    pub(crate) fn phase(&self) -> Phase {
        match (self.in_flight.get(), self.has_input.get()) {
            (0, false) => Phase::Idle,
            (0, true) => Phase::Head,
            _ => Phase::Busy,
        }
    }

    pub(crate) fn begun(&self) -> u64 {
        self.begun.get()
    }

    pub(crate) fn on_input(&self) {
        self.has_input.set(true);
    }

    /// Forgets input that belongs to no head.
    pub(crate) fn discard_input(&self) {
        self.has_input.set(false);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    pub(crate) fn set_closing(&self) {
        self.is_closing.set(true);
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn begin(self: &Rc<Self>) -> RequestGuard {
        self.in_flight.set(self.in_flight.get() + 1);
        self.begun.set(self.begun.get() + 1);
        self.has_input.set(false);
        RequestGuard(Rc::clone(self))
    }
}

/// A request in flight: from its head to the last byte of its answer.
#[derive(Debug)]
pub(crate) struct RequestGuard(Rc<Activity>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        self.0.has_input.set(false);
    }
}
