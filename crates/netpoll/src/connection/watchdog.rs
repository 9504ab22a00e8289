// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures how long user code blocks a poller.
//!
//! A handler that blocks or computes holds up every connection of its poller, and none of them
//! shows the cause. So the clock is read once after each poll of a handler. If too much time has
//! passed since the reading before, the call is counted and reported. The reading before is that of
//! the last poll, or of the arrival of the input that this poll handles. Between the two there is
//! only a read and a send, and never more than a few sources that ran no user code
//! ([`SourceContext::elapsed`](crate::poll::source::SourceContext::elapsed)). The clock is not read
//! for each request of a batch, nor for offloaded handlers, which block no poller.

use std::time::Duration;

use super::dispatcher::{Dispatcher, Owner};
use super::engine::Engine;
use super::service::ServiceConfig;
use crate::addr::Addr;
use crate::event::{Callback, Event};
use crate::poll::source::SourceContext;
use crate::stats::counters::Counters;

/// Whether the handler was polled since the clock was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandlerActivity {
    None,
    Polled,
}

impl ServiceConfig {
    /// Reads the clock, before a callback runs.
    #[inline]
    pub(crate) fn before_call(&self, context: &mut SourceContext) {
        if self.slow_call_after.is_some() {
            context.timestamp();
        }
    }

    /// Counts and reports `callback`, which has run for `peer`, if it took too long.
    #[inline]
    pub(crate) fn after_call(
        &self,
        callback: Callback,
        peer: impl FnOnce() -> Addr,
        context: &mut SourceContext,
        counters: &Counters,
    ) {
        if let Some(slow) = self.slow_call_after
            && let Some(took) = context.elapsed(slow)
        {
            counters.poller.slow_calls.add(1);
            self.report_slow(callback, peer(), took, context);
        }
    }

    #[cold]
    fn report_slow(
        &self,
        callback: Callback,
        peer: Addr,
        took: Duration,
        context: &mut SourceContext,
    ) {
        if context.may_warn() {
            self.event_sink.report(&Event::SlowCall {
                callback,
                handler: self.handler_name,
                peer,
                took,
            });
            // The event sink may have taken time, too.
            context.invalidate_clock();
        }
    }
}

impl<C: Dispatcher> Engine<C> {
    /// Reads the clock, before the handler may run.
    #[inline]
    pub(super) fn before_handler(&self, context: &mut SourceContext) {
        if !C::OFFLOADED
            && let Some(config) = &self.handler.config
        {
            config.before_call(context);
        }
    }

    /// Records that the handler is polled, or its future dropped, on this poller.
    #[inline]
    pub(super) fn mark_handler_polled(&mut self) {
        if !C::OFFLOADED && matches!(self.owner, Owner::Handler(_)) {
            self.handler.activity = HandlerActivity::Polled;
        }
    }

    /// Checks the time of the handler, if it was polled.
    #[inline]
    pub(super) fn after_handler(&mut self, context: &mut SourceContext) {
        if self.handler.activity == HandlerActivity::Polled {
            self.handler.activity = HandlerActivity::None;
            self.after_call(Callback::Handler, context);
        }
    }

    /// Reads the clock anew, before a callback that is certain to run: the time before it is not
    /// its own.
    pub(super) fn restart_timer(&self, context: &mut SourceContext) {
        if let Some(config) = &self.handler.config {
            context.invalidate_clock();
            config.before_call(context);
        }
    }

    /// Checks the time of `callback`, which has run.
    pub(super) fn after_call(&self, callback: Callback, context: &mut SourceContext) {
        if let Some(config) = &self.handler.config {
            let shared = &self.shared;
            config.after_call(
                callback,
                || shared.peer(),
                context,
                shared.notifier.counters(),
            );
        }
    }

    /// Reports an event of this connection.
    pub(super) fn report_event(&self, event: impl FnOnce(Addr) -> Event) {
        if let Some(config) = &self.handler.config {
            config.event_sink.report(&event(self.shared.peer()));
        }
    }
}
