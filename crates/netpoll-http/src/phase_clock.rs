// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time limits of the phases of a connection: for a head, and without a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use netpoll::time::{Sleep, sleep_until};

use crate::activity::{Activity, Phase};
use crate::settings::Settings;

/// Measures the current phase of a connection.
///
/// It keeps one timer. A timer that is set to an earlier time than needed stays as it is: it fires,
/// finds that the phase has changed, and is set anew. So a connection with many short requests
/// sets its timer once in [`Settings::keep_alive`].
pub(crate) struct PhaseClock {
    head_timeout: Duration,
    keep_alive: Duration,
    phase: Phase,
    /// How many requests had begun when the phase was last looked at.
    begun: u64,
    since: Instant,
    sleep: Option<(Pin<Box<Sleep>>, Waker)>,
}

impl PhaseClock {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            head_timeout: settings.head_timeout,
            keep_alive: settings.keep_alive,
            phase: Phase::Idle,
            begun: 0,
            since: Instant::now(),
            sleep: None,
        }
    }

    /// Ready once the phase lasts too long. A request in flight has no limit.
    pub(crate) fn poll(&mut self, activity: &Activity, context: &mut Context<'_>) -> Poll<Phase> {
        let seen = (activity.phase(), activity.begun());
        let now = Instant::now();
        if seen != (self.phase, self.begun) {
            (self.phase, self.begun) = seen;
            self.since = now;
        }
        let limit = match self.phase {
            Phase::Busy => return Poll::Pending,
            // A connection that takes no more requests has no reason to stay.
            Phase::Idle if !activity.is_closing() => self.keep_alive,
            Phase::Idle | Phase::Head => self.head_timeout,
        };
        let Some(deadline) = self.since.checked_add(limit) else {
            return Poll::Pending;
        };
        if deadline <= now {
            return Poll::Ready(self.phase);
        }
        self.set_timer(deadline, now, context);
        Poll::Pending
    }

    /// Begins the current phase anew.
    pub(crate) fn restart(&mut self) {
        self.since = Instant::now();
    }

    fn set_timer(&mut self, deadline: Instant, now: Instant, context: &mut Context<'_>) {
        if let Some((sleep, waker)) = &self.sleep
            && waker.will_wake(context.waker())
            && sleep
                .deadline()
                .is_some_and(|at| now < at && at <= deadline)
        {
            return;
        }
        let (mut sleep, _) = self.sleep.take().unwrap_or_else(|| {
            let waker = Waker::noop().clone();
            (Box::pin(sleep_until(deadline)), waker)
        });
        sleep.reset(deadline);
        if sleep.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        self.sleep = Some((sleep, context.waker().clone()));
    }
}
