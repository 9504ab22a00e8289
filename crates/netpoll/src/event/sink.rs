// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who hears of events, and how often.
//!
//! What happens to each connection of many at once, as at a shutdown, would be thousands of lines. So
//! of each kind of event, 10 are told in a second, and the others are counted: their number is told with
//! the next event after that second, or when the loop has ended.

use std::fmt;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use super::{Callback, Event};
use crate::guard::guard;
use crate::sync::{Arc, Mutex, lock};

/// Hears of events.
type SinkFn = dyn Fn(&Event) + Send + Sync;

/// Who hears of events, and how often.
#[derive(Clone, Default)]
pub(crate) struct EventSink {
    callback: Option<Arc<SinkFn>>,
    limits: Arc<Mutex<Vec<RateLimitEntry>>>,
}

/// How often events of one kind were told lately. There are few kinds.
struct RateLimitEntry {
    kind: EventKind,
    name: String,
    /// When the second began in which so many were told.
    window_start: Instant,
    reported: u32,
    /// How many were not.
    suppressed: u64,
}

/// Events that are counted together: of one variant, and of one callback.
type EventKind = (Discriminant<Event>, Option<Callback>);

/// The most events of a kind that are told in each [`WINDOW`].
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

    /// What is to be told of those that were not.
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

    /// Tells what has happened, here and now, unless too many of its kind were told in this second.
    /// Not under a lock: it is user code that hears.
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

    /// Tells how many events were not told. At the end of the loop.
    pub(crate) fn flush(&self) {
        let mut limits = lock(&self.limits);
        let due: Vec<_> = limits
            .iter_mut()
            .filter_map(RateLimitEntry::take_suppressed)
            .collect();
        drop(limits);
        due.iter().for_each(|event| self.deliver(event));
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
            "nobody"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;

    #[test]
    fn a_listener_that_panics_has_heard_and_harms_nobody() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let listening = EventSink::new(move |event| {
            lock(&hears).push(event.clone());
            panic!("of what I heard");
        });
        let event = Event::ConnectionsAborted { connections: 1 };
        listening.report(&event);
        EventSink::default().report(&event);
        assert_eq!(*lock(&heard), [event]);
    }

    #[test]
    fn events_of_one_kind_are_told_a_few_times_in_a_second_and_then_counted() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let listening = EventSink::new(move |event| lock(&hears).push(event.clone()));
        let peer: Addr = "127.0.0.1:7".parse().unwrap();
        let panicked = |callback| Event::CallbackPanicked { callback, peer };
        for _ in 0..1000 {
            listening.clone().report(&Event::TaskDropped { peer });
        }
        listening.report(&panicked(Callback::OnClose));
        listening.report(&panicked(Callback::OnAccept));
        listening.flush();
        listening.flush();
        let heard = lock(&heard);
        let dropped = |event: &&Event| matches!(event, Event::TaskDropped { .. });
        let told = heard.iter().filter(dropped).count() as u64;
        let suppressed: u64 = heard
            .iter()
            .filter_map(|event| match event {
                Event::Suppressed { kind, count } => {
                    assert_eq!(kind, "TaskDropped");
                    Some(count)
                }
                _ => None,
            })
            .sum();
        assert_eq!(told + suppressed, 1000);
        // More only if the machine took seconds for this.
        assert!(told < 500, "{told} were told");
        assert!(heard.contains(&panicked(Callback::OnClose)), "another kind");
        assert!(
            heard.contains(&panicked(Callback::OnAccept)),
            "another kind"
        );
    }
}
