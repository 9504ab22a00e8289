// SPDX-License-Identifier: MIT OR Apache-2.0
//! The termination of a loop, within the deadline of its shutdown.
//!
//! At the deadline, every poller aborts its remaining connections, which takes a moment on a
//! responsive poller. Blocked user code is not waited for: when nothing has changed for
//! [`STALL_TIMEOUT`], the remaining pollers and threads are abandoned. For a poller that user code
//! blocks, this thread releases the addresses of the listeners and shuts down the sockets of the
//! connections. The poller thread itself is abandoned. When the user code returns, the poller finds
//! the stop command, wakes the tasks that wait for its connections, closes its descriptors and
//! ends.

use std::sync::Weak;
use std::time::{Duration, Instant};

use super::EventLoop;
use crate::event::{Callback, CallbackLocation, Event};
use crate::listener::Listener;
use crate::poll::set::PollerSet;
use crate::poll::source::ShutdownRequest;
use crate::runner::thread_pool::ThreadPool;
use crate::sync::Arc;

/// How long nothing must change before the remaining pollers and threads are abandoned.
const STALL_TIMEOUT: Duration = Duration::from_millis(250);

/// How long the termination waits in total while it still makes progress.
const FORCE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often to check for a change while connections are open.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// How often to check once all connections are closed.
const SHORT_CHECK_INTERVAL: Duration = Duration::from_micros(200);

impl EventLoop {
    /// Runs a requested shutdown to its deadline, which a later request may bring forward.
    pub(super) fn run_shutdown(
        &self,
        pollers: &PollerSet,
        listeners: &[Weak<Listener>],
        threads: Option<&ThreadPool>,
    ) {
        pollers.shutdown_all(ShutdownRequest::Graceful);
        let control = &self.control.0;
        let tracker = control.tracker();
        if tracker.wait_until_drained(|| control.deadline()) {
            // Handlers that await the shutdown complete now, and have until the deadline to return.
            tracker.release_waiting_handlers();
        }
        let mut events = Vec::new();
        let mut off_poller = 0;
        if !tracker.wait_until_empty(|| control.deadline()) {
            pollers.shutdown_all(ShutdownRequest::Force);
            self.wait_for_aborted(pollers);
            off_poller = tracker.open_connections();
            for index in pollers.blocked_pollers() {
                let (event, connections) = self.abandon_poller(index, pollers, listeners);
                off_poller = off_poller.saturating_sub(connections);
                events.push(event);
            }
        }
        let stalled_at = Instant::now() + STALL_TIMEOUT;
        let stuck_pollers = pollers.stop(|| control.deadline().max(stalled_at));
        for index in stuck_pollers {
            let known = |event: &Event| matches!(event, Event::CallbackAbandoned { location: place, .. } if *place == CallbackLocation::Poller(index));
            if !events.iter().any(known) {
                events.push(self.abandon_poller(index, pollers, listeners).0);
            }
        }
        let busy = threads.map(|threads| threads.stop(STALL_TIMEOUT));
        events.extend(self.abandoned_off_poller(busy, off_poller));
        let connections = tracker.aborted();
        if connections > 0 {
            events.insert(0, Event::ConnectionsAborted { connections });
        }
        self.report_with_timeout(events);
    }

    /// Waits until all aborted connections are closed and every poller is idle, or until nothing
    /// changes any more. A poller counts its last connection as closed a moment before it is done.
    fn wait_for_aborted(&self, pollers: &PollerSet) {
        let tracker = self.control.0.tracker();
        let begun = Instant::now();
        let (mut seen, mut since) = (None, begun);
        loop {
            let next_check = Instant::now() + CHECK_INTERVAL;
            let gone = tracker.wait_until_empty(|| next_check);
            let state = (tracker.open_connections(), pollers.blocked_pollers().len());
            if gone && state.1 == 0 {
                return;
            }
            let now = Instant::now();
            if seen != Some(state) {
                (seen, since) = (Some(state), now);
            }
            if now - since > STALL_TIMEOUT || now - begun > FORCE_TIMEOUT {
                return;
            }
            if gone {
                std::thread::sleep(SHORT_CHECK_INTERVAL);
            }
        }
    }

    /// Ends the listeners and connections of a blocked poller from outside. Returns the event to
    /// report, and how many connections were aborted.
    fn abandon_poller(
        &self,
        index: usize,
        pollers: &PollerSet,
        listeners: &[Weak<Listener>],
    ) -> (Event, usize) {
        let poller = pollers.nth(index);
        // The listeners of other pollers are closed by now, or their pollers are blocked as well.
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            // A listener that cannot be replaced is closed when the user code returns.
            let _replaced = listener.replace_socket(poller.placeholder_fd()).is_ok();
        }
        let tracker = self.control.0.tracker();
        let connections = poller.shut_down_sockets().min(tracker.open_connections());
        tracker.add_aborted(connections);
        let event = Event::CallbackAbandoned {
            location: CallbackLocation::Poller(index),
            callback: self.counters[index].current_callback(),
            handler: self.handler_name(),
            connections,
        };
        (event, connections)
    }

    /// Returns the event to report for handlers that do not run on pollers: on `busy` threads of
    /// the loop's thread pool, or on an executor if the loop has no thread pool.
    fn abandoned_off_poller(&self, busy: Option<usize>, connections: usize) -> Option<Event> {
        let location = match busy {
            Some(0) => return None,
            Some(count) => CallbackLocation::Threads(count),
            None if connections == 0 => return None,
            None => CallbackLocation::Executor,
        };
        Some(Event::CallbackAbandoned {
            location,
            callback: Callback::Handler,
            handler: self.handler_name(),
            connections,
        })
    }

    /// Reports to the user's sink, with a timeout: the sink may be the code that blocks.
    fn report_with_timeout(&self, events: Vec<Event>) {
        let is_abandoned = |event: &Event| matches!(event, Event::CallbackAbandoned { .. });
        if !events.iter().any(is_abandoned) {
            return events
                .iter()
                .for_each(|event| self.event_sink.report(event));
        }
        let event_sink = self.event_sink.clone();
        let shared = Arc::new(events);
        let events = Arc::clone(&shared);
        let (done, over) = std::sync::mpsc::channel();
        let started = std::thread::Builder::new()
            .name("netpoll-events".into())
            .spawn(move || {
                events.iter().for_each(|event| event_sink.report(event));
                // The receiver is gone after the timeout.
                let _received = done.send(()).is_ok();
            });
        match started {
            Ok(_thread) => drop(over.recv_timeout(STALL_TIMEOUT)),
            Err(_) => shared
                .iter()
                .for_each(|event| self.event_sink.report(event)),
        }
    }
}
