// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a loop, within the time that its shutdown has.
//!
//! At the deadline every poller is asked to cut what is left, which takes one that is not held up a
//! moment. User code that blocks is not waited for: when nothing has changed for [`QUIET`], what has not
//! ended is given up. Of a poller that user code holds up, the listeners give up their addresses and the
//! connections' peers are sent the end, both from here; its thread is left to itself. When the code
//! returns the poller finds that it is to stop, tells who waits for its connections, closes its
//! descriptors and ends.

use std::sync::Weak;
use std::time::{Duration, Instant};

use super::EventLoop;
use crate::event::{Callback, Event, LeftAt};
use crate::listener::Listener;
use crate::poll::set::PollerSet;
use crate::poll::source::Ask;
use crate::runner::threads::Threads;
use crate::sync::Arc;

/// How long nothing has to change before what has not ended is given up.
const QUIET: Duration = Duration::from_millis(250);

/// How long the end of a loop waits in all for what goes on to end.
const LONGEST: Duration = Duration::from_secs(1);

/// How often it is looked whether anything has changed.
const STEP: Duration = Duration::from_millis(10);

/// How often, once all connections are gone.
const SHORT_STEP: Duration = Duration::from_micros(200);

impl EventLoop {
    /// Sees a shutdown through that was asked for, to its deadline.
    pub(super) fn see_through(
        &self,
        deadline: Instant,
        pollers: &PollerSet,
        listeners: &[Weak<Listener>],
        threads: Option<&Threads>,
    ) {
        pollers.ask_everyone(Ask::Drain);
        let census = self.request.census();
        if census.wait_for_none(deadline) {
            // Handlers that wait for this moment have it, and the rest of the time to return.
            census.let_the_excused_go();
        }
        let mut events = Vec::new();
        let mut elsewhere = 0;
        if !census.wait_for_the_excused(deadline) {
            pollers.ask_everyone(Ask::Force);
            self.wait_for_the_cut(pollers);
            elsewhere = census.alive();
            for index in pollers.held_up() {
                let (event, connections) = self.give_up(index, pollers, listeners);
                elsewhere = elsewhere.saturating_sub(connections);
                events.push(event);
            }
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        let still = pollers.stop(patience.max(QUIET));
        for index in still {
            let known = |event: &Event| matches!(event, Event::LeftRunning { place, .. } if *place == LeftAt::Poller(index));
            if !events.iter().any(known) {
                events.push(self.give_up(index, pollers, listeners).0);
            }
        }
        let busy = threads.map(|threads| threads.stop(QUIET));
        events.extend(self.left_elsewhere(busy, elsewhere));
        let connections = census.cut();
        if connections > 0 {
            events.insert(0, Event::Cut { connections });
        }
        self.tell_in_time(events);
    }

    /// Waits until every connection is gone that was cut and every poller has seen to that, or nothing
    /// changes any more. A poller counts its last connection as gone a moment before it is done.
    fn wait_for_the_cut(&self, pollers: &PollerSet) {
        let census = self.request.census();
        let begun = Instant::now();
        let (mut seen, mut since) = (None, begun);
        loop {
            let gone = census.wait_for_the_excused(Instant::now() + STEP);
            let state = (census.alive(), pollers.held_up().len());
            if gone && state.1 == 0 {
                return;
            }
            let now = Instant::now();
            if seen != Some(state) {
                (seen, since) = (Some(state), now);
            }
            if now - since > QUIET || now - begun > LONGEST {
                return;
            }
            if gone {
                std::thread::sleep(SHORT_STEP);
            }
        }
    }

    /// Ends what a poller has that user code holds up, without it. Gives what is to be told, and how many
    /// connections that cut.
    fn give_up(
        &self,
        index: usize,
        pollers: &PollerSet,
        listeners: &[Weak<Listener>],
    ) -> (Event, usize) {
        let poller = pollers.nth(index);
        // Those of other pollers are closed by now, or have a poller that is held up, too.
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            // What cannot be displaced is closed when the code returns.
            let _revoked = listener.revoke(poller.substitute()).is_ok();
        }
        let census = self.request.census();
        let connections = poller.shut_down_sockets().min(census.alive());
        census.add_cut(connections);
        let event = Event::LeftRunning {
            place: LeftAt::Poller(index),
            callback: self.counters[index].calling(),
            handler: self.service.terms().handler,
            connections,
        };
        (event, connections)
    }

    /// What is to be told of handlers that run elsewhere than on pollers: on so many threads of the
    /// loop's own that are `busy`, if it has some, or with an executor.
    fn left_elsewhere(&self, busy: Option<usize>, connections: usize) -> Option<Event> {
        let place = match busy {
            Some(0) => return None,
            Some(count) => LeftAt::Threads(count),
            None if connections == 0 => return None,
            None => LeftAt::Executor,
        };
        Some(Event::LeftRunning {
            place,
            callback: Callback::Handler,
            handler: self.service.terms().handler,
            connections,
        })
    }

    /// Tells the user's sink, which may be what is held up: it is not waited for then.
    fn tell_in_time(&self, events: Vec<Event>) {
        let is_left = |event: &Event| matches!(event, Event::LeftRunning { .. });
        if !events.iter().any(is_left) {
            return events.iter().for_each(|event| self.listening.tell(event));
        }
        let listening = self.listening.clone();
        let shared = Arc::new(events);
        let events = Arc::clone(&shared);
        let (done, over) = std::sync::mpsc::channel();
        let started = std::thread::Builder::new()
            .name("netpoll-events".into())
            .spawn(move || {
                events.iter().for_each(|event| listening.tell(event));
                // Nobody waits any more, if it took long.
                let _heard = done.send(()).is_ok();
            });
        match started {
            Ok(_thread) => drop(over.recv_timeout(QUIET)),
            Err(_) => shared.iter().for_each(|event| self.listening.tell(event)),
        }
    }
}
