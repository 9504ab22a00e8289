// SPDX-License-Identifier: MIT OR Apache-2.0
//! hyper's timer, on the timers of a poller.

use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::time::{Sleep, sleep, sleep_until};

/// hyper's timer on [`netpoll::time`](crate::time): the timers of the poller where a future is
/// polled. On a poller, a timer that hyper drops is reused for its next one.
///
/// One allocation for each timer, which hyper requires.
///
/// ```
/// let mut builder = hyper::server::conn::http2::Builder::new(netpoll::hyper::Executor);
/// builder.timer(netpoll::hyper::Timer);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Timer;

impl hyper::rt::Sleep for Sleep {}

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(sleep(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(sleep_until(deadline))
    }

    /// Keeps the timer of `sleep`: a later deadline costs no allocation and no command.
    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(known) => known.get_mut().reset(deadline),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}
