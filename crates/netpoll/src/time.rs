// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sleeping, and giving up on what takes too long, in handlers and anywhere else.
//!
//! The timers are those of a poller: of the one whose handler sleeps, else of one that all of the
//! process share. No other runtime is needed, and none is in the way.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::active_timeouts;
use crate::fairness;
use crate::foreign::{UserFuture, wake_by_ref};
use crate::poll::poller_timer::{PollerTimer, TimerStatus};

/// Waits for `duration`, and up to a millisecond longer. As [`sleep_until`].
///
/// ```
/// use std::time::{Duration, Instant};
///
/// # async fn example() {
/// let begun = Instant::now();
/// netpoll::time::sleep(Duration::from_millis(5)).await;
/// assert!(begun.elapsed() >= Duration::from_millis(5));
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example());
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    Sleep {
        at: Instant::now().checked_add(duration),
        timer: None,
    }
}

/// Waits until `deadline`, and up to a millisecond longer. Nothing if it has passed; otherwise a few
/// allocations and a hop to the poller that has the timer. In any executor, and on pollers.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        at: Some(deadline),
        timer: None,
    }
}

/// What `future` gives, if it is done by `deadline`. Costs what [`sleep_until`] does if it has to
/// wait, and nothing if it has not.
///
/// # Errors
///
/// [`Elapsed`] if the time has come first; the future is dropped then.
///
/// # Cancel safety
///
/// That of `future`.
pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    let place = pin!(Some(future));
    let mut future = UserFuture::new(place);
    let mut sleep = sleep_until(deadline);
    let mut bounded = active_timeouts::ActiveTimeout::default();
    fairness::proceed().await;
    poll_fn(|context| {
        let refusals = fairness::refusals();
        match Pin::new(&mut future).poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            // It only let others run: what it waits for may be there.
            Poll::Pending if refusals != fairness::refusals() => Poll::Pending,
            Poll::Pending => {
                let elapsed = Pin::new(&mut sleep).poll(context).map(|()| Err(Elapsed));
                if elapsed.is_pending() {
                    bounded.activate();
                }
                elapsed
            }
        }
    })
    .await
}

/// As [`timeout_at`], so much time from now on. A time that cannot be counted never comes.
///
/// # Errors
///
/// [`Elapsed`] if the time has come first.
///
/// # Cancel safety
///
/// That of `future`.
///
/// ```
/// use std::time::Duration;
///
/// # async fn example() {
/// let never = std::future::pending::<()>();
/// assert!(netpoll::time::timeout(Duration::from_millis(1), never).await.is_err());
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example());
/// ```
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    match Instant::now().checked_add(duration) {
        Some(deadline) => timeout_at(deadline, future).await,
        None => Ok(UserFuture::new(pin!(Some(future))).await),
    }
}

/// A time that [`sleep`] or [`sleep_until`] waits for.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sleep {
    /// `None` is never.
    at: Option<Instant>,
    timer: Option<PollerTimer>,
}

impl Sleep {
    /// An alarm of a poller that lives.
    fn timer(&mut self) -> Option<&PollerTimer> {
        if self
            .timer
            .as_ref()
            .is_none_or(|timer| timer.status() == TimerStatus::PollerEnded)
        {
            self.timer = PollerTimer::new().ok();
        }
        self.timer.as_ref()
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        if at <= Instant::now() {
            return fairness::poll_proceed(context);
        }
        match self.timer() {
            Some(timer) => {
                timer.set(at, context.waker());
                // It may have been lost before the waker was there.
                if timer.status() == TimerStatus::PollerEnded {
                    wake_by_ref(context.waker());
                }
            }
            // No poller can be started for want of descriptors or threads: try again, later.
            None => {
                std::thread::sleep(Duration::from_millis(1));
                wake_by_ref(context.waker());
            }
        }
        Poll::Pending
    }
}

/// The time has come before what was waited for. `TimedOut` as an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time has come first")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    #[cold]
    fn from(elapsed: Elapsed) -> Self {
        Self::new(io::ErrorKind::TimedOut, elapsed)
    }
}
