// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only way a connection ends.
//!
//! Whatever the cause, it comes through [`Engine::begin_close`], if what was put should still
//! leave, or [`Engine::close_now`], if nothing can. From there the phases of
//! [`lifecycle`](super::lifecycle) follow:
//!
//! 1. *Flushing*: the outbox takes no more, what is in it is sent, for at most `linger`;
//! 2. *Lingering*: our FIN is out; what the peer still sends is read and thrown away until its
//!    FIN, for at most `linger` and at most four frames of `max_frame` bytes, because a close with unread input would be a reset that destroys
//!    the reply on its way;
//! 3. *Closed*: out of the poller. A handler that still runs is let run: its reads and flushes
//!    return the reason, its puts are discarded. Once it has returned, or its owner has let go,
//!    the observer is told, once, then whoever has [asked](super::close_notify) for this connection's
//!    end, and the session goes.
//!
//! The descriptor is closed by the drop of the last link.

use std::net::Shutdown;
use std::os::fd::AsFd;

use netpoll_sys::{Interest, socket};

use super::Connection;
use super::backpressure::{LingerState, PendingDispatch};
use super::dispatcher::{Dispatcher, ObserverState, Owner};
use super::engine::Engine;
use super::input_buffer::InputEnd;
use super::lifecycle::{InputState, Phase};
use super::request_batch::HandlerStage;
use super::shared::{CloseRequest, Shared};
use crate::error::CloseReason;
use crate::event::{Callback, Event};
use crate::guard::guard;
use crate::poll::source::{NextAction, SourceContext};
use crate::sync::{Arc, Ordering, lock};

/// A peer may send at least so many bytes after an end has begun.
const MIN_LATE_BYTES: usize = 64 << 10;

/// And this many of the largest frames: those that it had on its way, or an upload that was refused.
const MAX_LATE_FRAMES: usize = 4;

/// Whether the end of a connection was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseCount {
    Pending,
    Done,
}

impl<C: Dispatcher> Engine<C> {
    /// Does what was asked for through the link. What a call asks for holds when it has returned or
    /// waits, wherever it runs: what it returns is the first cause, and a close that an abort
    /// follows is none.
    pub(super) fn apply_close_request(&mut self) {
        if C::OFFLOADED && self.shared.close_request() != CloseRequest::None {
            if self.is_call_polling() {
                return;
            }
            self.poll_handler();
        }
        match self.shared.close_request() {
            CloseRequest::None | CloseRequest::HalfClose | CloseRequest::Detach => {}
            // The peer was reset when it was asked for.
            CloseRequest::Abort => self.close_now(CloseReason::Local),
            CloseRequest::Drop if self.is_close_deferred() => {}
            // An owner that lets go after the peer's FIN follows the peer.
            CloseRequest::Drop | CloseRequest::Close
                if self.lifecycle.input() == InputState::Ended =>
            {
                self.begin_close(CloseReason::PeerFin);
            }
            CloseRequest::Drop if self.backpressure.drain.is_some() => {
                self.begin_close(self.backpressure.drain_reason())
            }
            request => self.begin_close(Shared::reason_for(request)),
        }
    }

    /// An open connection with nothing more to come or to do ends here.
    pub(super) fn end_if_done(&mut self) {
        self.end_idle_owner_input();
        self.close_owned_if_ended();
        let Owner::Engine(connection) = &mut self.owner else {
            return;
        };
        let idle =
            connection.reader_state().buffer.is_empty() || self.backpressure.needs_more_input;
        if !idle
            || self.backpressure.pending_dispatch != PendingDispatch::None
            || self.owes_replies()
        {
            return;
        }
        if self.lifecycle.input() == InputState::Ended {
            match self.lifecycle.broken().cloned() {
                Some(reason) => self.close_now(reason),
                None => self.begin_close(CloseReason::PeerFin),
            }
        } else if self.backpressure.is_drained() {
            self.begin_close(self.backpressure.drain_reason());
        }
    }

    /// Whether nobody has asked for the end: a handler that has is not called again.
    pub(super) fn stays_open(&mut self) -> bool {
        self.apply_close_request();
        self.lifecycle.phase() == Phase::Open
    }

    /// Starts an orderly end, unless one is under way.
    pub(super) fn begin_close(&mut self, reason: CloseReason) {
        if self.lifecycle.begin_close(reason.clone()) {
            self.backpressure.pending_dispatch = PendingDispatch::None;
            let closed = lock(&self.shared.output_buffer).close_and_notify(reason.clone());
            let (waker, uncommitted) = closed;
            drop(uncommitted);
            waker.wake();
            self.shared.notify_wait_queue();
            self.shared.notify_drain();
            if self.lifecycle.input() == InputState::Open {
                self.shared.end_input(InputEnd::Closed(reason.clone()));
            }
            self.shared.notify_input_closed(&reason);
        }
    }

    /// Ends at once.
    pub(super) fn close_now(&mut self, reason: CloseReason) {
        if self.lifecycle.phase() == Phase::Closed {
            return;
        }
        self.lifecycle.close_now(reason.clone());
        // Whoever looks only now has the first cause, too.
        let reason = self.lifecycle.reason().cloned().unwrap_or(reason);
        if !self.shared.is_aborted() {
            // Handlers, owners and wakers may hold the descriptor for long: the peer learns now.
            let _ended = socket::shutdown(self.shared.as_fd(), Shutdown::Both).ok();
        }
        self.backpressure.pending_dispatch = PendingDispatch::None;
        self.shared.end_input(InputEnd::Closed(reason.clone()));
        self.shared.discard_output(reason.clone());
        self.shared.notify_drain();
        self.shared.notify_input_closed(&reason);
    }

    /// The peer has had its time: for taking what is unsent, or for its FIN.
    pub(super) fn on_linger_timeout(&mut self) {
        if matches!(self.lifecycle.phase(), Phase::Flushing | Phase::Lingering) {
            self.close_now(CloseReason::Local);
        }
    }

    /// Ends now, the handler's future included. One that is elsewhere is asked to end, and is heard
    /// of when it has, or given up when this is asked again.
    pub(super) fn force_close(&mut self) {
        let ended = matches!(self.lifecycle.phase(), Phase::Lingering | Phase::Closed);
        let answered = ended || self.awaits_first_request();
        let tracked = self.tracked.take();
        if let Some(tracked) = &tracked
            && !answered
        {
            tracked.mark_aborted();
        }
        self.close_now(CloseReason::Shutdown);
        if self.cancel_call() {
            self.tracked = tracked;
        }
    }

    /// Ends now, since the poller has failed. A handler that is elsewhere is asked to end, and the
    /// observer is called when it has.
    pub(super) fn on_poller_failure(&mut self) {
        if self.lifecycle.phase() != Phase::Closed {
            self.close_now(CloseReason::PollerFailed);
            self.cancel_call();
        }
    }

    /// Has those who wait learn of the end: nothing else of the session can be relied on.
    pub(super) fn fail_waiters(&self) {
        let reason = CloseReason::PollerFailed;
        let _ended = socket::shutdown(self.shared.as_fd(), Shutdown::Both).ok();
        self.shared.end_input(InputEnd::Closed(reason.clone()));
        self.shared.discard_output(reason);
    }

    /// What an ending connection wants next.
    pub(super) fn next_action_closing(&mut self, context: &mut SourceContext) -> NextAction {
        if self.lifecycle.phase() == Phase::Flushing
            && lock(&self.shared.output_buffer).unsent() == 0
        {
            self.lifecycle.on_flushed();
            // A peer that has torn the connection down needs no FIN.
            let _sent = socket::shutdown(self.shared.as_fd(), Shutdown::Write).ok();
        }
        match self.lifecycle.phase() {
            Phase::Open | Phase::Flushing => {
                self.set_linger(context);
                NextAction::Wait(Interest::NONE)
            }
            Phase::Lingering => {
                self.set_linger(context);
                NextAction::Wait(Interest::READABLE)
            }
            Phase::Closed => self.finalize(context),
        }
    }

    /// One deadline for flushing and lingering, from when the end began.
    fn set_linger(&mut self, context: &mut SourceContext) {
        if self.backpressure.linger == LingerState::NotStarted {
            self.backpressure.linger = LingerState::Started;
            let deadline = context.now().checked_add(self.shared.timeouts().linger);
            context.set_deadline(deadline);
        }
    }

    /// Discards what comes after the end has begun. A peer that sends on without end is reset.
    pub(super) fn discard_late_input(&mut self, count: usize) {
        if count > 0 && self.lifecycle.phase() != Phase::Closed {
            // Relaxed: only the poller counts here.
            let late = &self.shared.extensions.get_or_make().late_bytes;
            let before = late.fetch_add(count, Ordering::Relaxed);
            let frames = self
                .shared
                .options
                .max_frame
                .saturating_mul(MAX_LATE_FRAMES);
            if before + count > frames.max(MIN_LATE_BYTES) {
                self.close_now(CloseReason::Local);
            }
        }
    }

    /// Tells the observer and goes, once nobody holds the connection.
    fn finalize(&mut self, context: &mut SourceContext) -> NextAction {
        context.set_deadline(None);
        match std::mem::replace(&mut self.owner, Owner::None) {
            Owner::Handler(slot) => {
                self.owner = Owner::Handler(slot);
                return NextAction::NoInterest;
            }
            Owner::User if !self.shared.close_request().ends_connection() => {
                self.owner = Owner::User;
                self.notify_closed(context);
                return NextAction::NoInterest;
            }
            Owner::Engine(connection) => self.call_observer(connection, context),
            Owner::User | Owner::None => {
                self.call_observer(Connection::new(Arc::clone(&self.shared)), context);
            }
        }
        self.notify_closed(context);
        // Whoever leaves one from here on finds that it is over, and takes it out himself.
        self.shared.drop_replacement();
        self.tracked = None;
        NextAction::Remove
    }

    /// Counts the end, once.
    pub(super) fn count_close(&mut self) {
        if std::mem::replace(&mut self.handler.close_count, CloseCount::Done) == CloseCount::Pending
        {
            self.shared.count_close(self.lifecycle.reason());
        }
    }

    /// Runs what was to run when the connection is over.
    fn notify_closed(&mut self, context: &mut SourceContext) {
        // Before anybody hears of it.
        self.count_close();
        let Some(reason) = self.lifecycle.reason() else {
            return;
        };
        let called = self.shared.has_callbacks();
        if called {
            self.restart_timer(context);
        }
        let counters = self.shared.notifier.counters();
        let tell = || self.shared.notify_closed(reason);
        let panics = counters.track_callback(Callback::OnClose, tell);
        let callback = Callback::OnClose;
        for _ in 0..panics {
            self.report_event(|peer| Event::CallbackPanicked { callback, peer });
        }
        if called {
            self.after_call(callback, context);
        }
    }

    /// Tells the observer, if the connection was ever let in, and drops what is attached to it.
    fn call_observer(&mut self, mut connection: Connection, context: &mut SourceContext) {
        // Before anybody hears of it.
        self.count_close();
        // Set before, so that it is told once whatever comes after.
        let observed = std::mem::replace(&mut self.handler.observer_state, ObserverState::Done);
        let config = self.handler.config.as_ref();
        if let (HandlerStage::Request, ObserverState::Pending, Some(observer), Some(reason)) = (
            self.handler.stage,
            observed,
            config.and_then(|config| config.observer.as_ref()),
            self.lifecycle.reason(),
        ) {
            self.restart_timer(context);
            let callback = Callback::OnDisconnect;
            // The connection is over whatever the observer does.
            let counters = self.shared.notifier.counters();
            let call = || guard(|| observer(&mut connection, reason));
            if counters.track_callback(callback, call).is_err() {
                self.report_event(|peer| Event::CallbackPanicked { callback, peer });
            }
            self.after_call(callback, context);
        }
        let has_state = connection.has_attachment();
        if has_state {
            self.restart_timer(context);
        }
        let _panicked = guard(|| drop(connection)).is_err();
        if has_state {
            self.after_call(Callback::Attached, context);
        }
    }
}

impl<C: Dispatcher> Drop for Engine<C> {
    fn drop(&mut self) {
        // One whose owner had it to the end of the loop was not asked for a last word.
        self.count_close();
    }
}
