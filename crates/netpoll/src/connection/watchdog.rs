// SPDX-License-Identifier: MIT OR Apache-2.0
//! Watches how long user code holds a poller.
//!
//! A handler that blocks or computes holds up every connection of its poller, and none of them can
//! tell why. So the time is read once after each poll of a handler, and what lies between this
//! reading and the one before is counted, and told, if it is too long. The reading before is that
//! of the last poll, or of the arrival of what this one is about: between the two there is nothing
//! but a read and a send, and never more than a few sources that ran no user code
//! ([`SourceContext::elapsed`](crate::poll::source::SourceContext::elapsed)). It is not read for each request of a burst, nor
//! for handlers that run elsewhere, which hold no poller.

use std::time::Duration;

use super::dispatcher::{Dispatcher, Owner};
use super::engine::Engine;
use super::service::ServiceConfig;
use crate::addr::Addr;
use crate::event::{Callback, Event};
use crate::poll::source::SourceContext;
use crate::stats::counters::Counters;

/// What of the user's has run since the time was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandlerActivity {
    None,
    Polled,
}

impl ServiceConfig {
    /// `callback` is about to run: the time is known.
    #[inline]
    pub(crate) fn before_call(&self, context: &mut SourceContext) {
        if self.slow_call_after.is_some() {
            context.timestamp();
        }
    }

    /// `callback` has run, for `peer`: counts and tells it, if it took too long.
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
            // That may have taken time, too.
            context.invalidate_clock();
        }
    }
}

impl<C: Dispatcher> Engine<C> {
    /// The handler may be about to run.
    #[inline]
    pub(super) fn before_handler(&self, context: &mut SourceContext) {
        if !C::OFFLOADED
            && let Some(config) = &self.handler.config
        {
            config.before_call(context);
        }
    }

    /// The handler is polled, or its future dropped, here.
    #[inline]
    pub(super) fn mark_handler_polled(&mut self) {
        if !C::OFFLOADED && matches!(self.owner, Owner::Handler(_)) {
            self.handler.activity = HandlerActivity::Polled;
        }
    }

    /// The handler may have run.
    #[inline]
    pub(super) fn after_handler(&mut self, context: &mut SourceContext) {
        if self.handler.activity == HandlerActivity::Polled {
            self.handler.activity = HandlerActivity::None;
            self.after_call(Callback::Handler, context);
        }
    }

    /// A callback is about to run that is certain to be there: what lies before it is not its own.
    pub(super) fn restart_timer(&self, context: &mut SourceContext) {
        if let Some(config) = &self.handler.config {
            context.invalidate_clock();
            config.before_call(context);
        }
    }

    /// `callback` has run.
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

    /// Tells an event of this connection.
    pub(super) fn report_event(&self, event: impl FnOnce(Addr) -> Event) {
        if let Some(config) = &self.handler.config {
            config.event_sink.report(&event(self.shared.peer()));
        }
    }
}
