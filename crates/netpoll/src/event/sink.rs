// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sink of events, with a rate limit for each kind of event.
//!
//! An event for each of many connections, as at a shutdown, would be thousands of lines. So the
//! sink reports 10 events of each kind in a second and counts the rest. It reports that number with
//! the next event after that second, or when the loop has ended.

use std::fmt;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use super::{Callback, Event, Failure, failure_log};
use crate::guard::guard;
use crate::sync::{Arc, Mutex, lock};

/// The user's callback for events.
type SinkFn = dyn Fn(&Event) + Send + Sync;

/// Passes events to the user's callback or to `tracing`, and limits their rate.
#[derive(Clone, Default)]
pub(crate) struct EventSink {
    callback: Option<Arc<SinkFn>>,
    limits: Arc<Mutex<Vec<RateLimitEntry>>>,
}

/// The events of one kind in the current window. There are few kinds.
struct RateLimitEntry {
    kind: EventKind,
    name: String,
    /// When the current window began.
    window_start: Instant,
    reported: u32,
    /// How many events of the window were not reported.
    suppressed: u64,
}

/// Events with a common rate limit: those of one variant, and of one callback.
type EventKind = (Discriminant<Event>, Option<Callback>);

/// The most events of a kind that are reported in each [`WINDOW`].
const MAX_PER_WINDOW: u32 = 10;

const WINDOW: Duration = Duration::from_secs(1);

impl RateLimitEntry {
    fn new(event: &Event) -> Self {
        let name = format!("{event:?}");
        let end = name.find(|c: char| !c.is_alphanumeric());
        Self {
            kind: kind_of(event),
            name: name[..end.unwrap_or(name.len())].to_owned(),
            window_start: Instant::now(),
            reported: 0,
            suppressed: 0,
        }
    }

    /// Returns the event that reports the suppressed ones, and resets their number.
    fn take_suppressed(&mut self) -> Option<Event> {
        let count = std::mem::take(&mut self.suppressed);
        (count > 0).then(|| Event::Suppressed {
            kind: self.name.clone(),
            count,
        })
    }
}

fn kind_of(event: &Event) -> EventKind {
    let callback = match event {
        Event::SlowCall { callback, .. } | Event::CallbackPanicked { callback, .. } => {
            Some(*callback)
        }
        _ => None,
    };
    (discriminant(event), callback)
}

impl EventSink {
    pub(crate) fn new(sink: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self {
            callback: Some(Arc::new(sink)),
            limits: Arc::default(),
        }
    }

    /// Reports `event` on this thread, unless too many of its kind were reported in this second.
    /// The caller must hold no lock, because the sink is user code.
    #[cold]
    pub(crate) fn report(&self, event: &Event) {
        let now = Instant::now();
        let mut limits = lock(&self.limits);
        let mut due = Vec::new();
        for limit in limits.iter_mut() {
            if now.saturating_duration_since(limit.window_start) >= WINDOW {
                (limit.window_start, limit.reported) = (now, 0);
                due.extend(limit.take_suppressed());
            }
        }
        let kind = kind_of(event);
        let index = limits.iter().position(|limit| limit.kind == kind);
        let index = index.unwrap_or_else(|| {
            limits.push(RateLimitEntry::new(event));
            limits.len() - 1
        });
        let limit = &mut limits[index];
        let is_reported = limit.reported < MAX_PER_WINDOW;
        if is_reported {
            limit.reported += 1;
        } else {
            limit.suppressed += 1;
        }
        drop(limits);
        due.iter().for_each(|event| self.deliver(event));
        if is_reported {
            self.deliver(event);
        }
    }

    /// Logs a failed connection, if there is no callback. The caller must hold no lock.
    #[cold]
    pub(crate) fn report_failure(&self, failure: &Failure<'_>) {
        if self.callback.is_none() {
            failure_log::report(failure);
        }
    }

    /// Reports how many events were suppressed. Called at the end of the loop.
    pub(crate) fn flush(&self) {
        let mut limits = lock(&self.limits);
        let due: Vec<_> = limits
            .iter_mut()
            .filter_map(RateLimitEntry::take_suppressed)
            .collect();
        drop(limits);
        due.iter().for_each(|event| self.deliver(event));
        if self.callback.is_none() {
            failure_log::flush();
        }
    }

    fn deliver(&self, event: &Event) {
        if let Some(sink) = &self.callback {
            let _panicked = guard(|| sink(event)).is_err();
        } else {
            crate::trace::report(event);
        }
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.callback.is_some() {
            "on_event"
        } else {
            "none"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;

    #[test]
    fn panicking_sink_is_contained() {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&reported);
        let event_sink = EventSink::new(move |event| {
            lock(&log).push(event.clone());
            panic!("in the sink");
        });
        let event = Event::ConnectionsAborted { connections: 1 };
        event_sink.report(&event);
        EventSink::default().report(&event);
        assert_eq!(*lock(&reported), [event]);
    }

    #[test]
    fn events_of_one_kind_are_rate_limited_and_the_rest_counted() {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&reported);
        let event_sink = EventSink::new(move |event| lock(&log).push(event.clone()));
        let peer: Addr = "127.0.0.1:7".parse().unwrap();
        let panicked = |callback| Event::CallbackPanicked { callback, peer };
        for _ in 0..1000 {
            event_sink.clone().report(&Event::TaskDropped { peer });
        }
        event_sink.report(&panicked(Callback::OnClose));
        event_sink.report(&panicked(Callback::OnAccept));
        event_sink.flush();
        event_sink.flush();
        let reported = lock(&reported);
        let dropped = |event: &&Event| matches!(event, Event::TaskDropped { .. });
        let delivered = reported.iter().filter(dropped).count() as u64;
        let suppressed: u64 = reported
            .iter()
            .filter_map(|event| match event {
                Event::Suppressed { kind, count } => {
                    assert_eq!(kind, "TaskDropped");
                    Some(count)
                }
                _ => None,
            })
            .sum();
        assert_eq!(delivered + suppressed, 1000);
        // A slow machine may take several seconds for the loop, and each reports 10 more.
        assert!(delivered < 500, "{delivered} were reported");
        assert!(
            reported.contains(&panicked(Callback::OnClose)),
            "another kind"
        );
        assert!(
            reported.contains(&panicked(Callback::OnAccept)),
            "another kind"
        );
    }
}
