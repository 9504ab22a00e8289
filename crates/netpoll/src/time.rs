// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sleeping and timeouts, in handlers and anywhere else.
//!
//! The timers belong to a poller: inside a handler to the handler's poller, else to one that the
//! whole process shares. They need no other runtime, and work inside any.
//!
//! ```no_run
//! use std::time::Duration;
//! use netpoll::time::{sleep, timeout};
//!
//! # async fn example(conn: &mut netpoll::Connection) -> std::io::Result<()> {
//! let mut reader = conn.reader();
//! match timeout(Duration::from_millis(200), reader.read_u32()).await {
//!     Ok(number) => println!("{}", number?),
//!     Err(_elapsed) => sleep(Duration::from_secs(1)).await,
//! }
//! # Ok(()) }
//! ```

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::active_timeouts;
use crate::error::ErrorKind;
use crate::fairness;
use crate::foreign::{UserFuture, wake_by_ref};
use crate::poll::poller_timer::{PollerTimer, TimerStatus};

/// Waits for `duration`, and up to 1 ms longer. Otherwise as [`sleep_until`].
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

/// Waits until `deadline`, and up to 1 ms longer. Works in any executor, and on pollers.
///
/// Costs nothing if the deadline has passed. On a poller, a timer of an earlier wait that was
/// dropped is reused, without an allocation. Otherwise it costs a few allocations and a command to
/// the poller of the timer.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        at: Some(deadline),
        timer: None,
    }
}

/// Returns the output of `future` if it completes by `deadline`. Costs as much as [`sleep_until`]
/// if it has to wait, and nothing otherwise.
///
/// # Errors
///
/// [`Elapsed`] if the deadline passes first; the future is dropped then.
///
/// # Cancel safety
///
/// As cancel safe as `future`.
pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    let place = pin!(Some(future));
    let mut future = UserFuture::new(place);
    let mut sleep = sleep_until(deadline);
    let mut active_timeout = active_timeouts::ActiveTimeout::default();
    fairness::proceed().await;
    poll_fn(|context| {
        let refusals = fairness::refusals();
        match Pin::new(&mut future).poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            // The future only yielded for lack of budget: its input may be there.
            Poll::Pending if refusals != fairness::refusals() => Poll::Pending,
            Poll::Pending => {
                let elapsed = Pin::new(&mut sleep).poll(context).map(|()| Err(Elapsed));
                if elapsed.is_pending() {
                    active_timeout.activate();
                }
                elapsed
            }
        }
    })
    .await
}

/// As [`timeout_at`], with the deadline `duration` from now. A duration too long to represent never
/// elapses.
///
/// # Errors
///
/// [`Elapsed`] if the deadline passes first.
///
/// # Cancel safety
///
/// As cancel safe as `future`.
///
/// ```
/// use std::time::Duration;
/// use netpoll::error::{ErrorExt, ErrorKind};
///
/// # async fn example() {
/// let never = std::future::pending::<()>();
/// let elapsed = netpoll::time::timeout(Duration::from_millis(1), never).await.unwrap_err();
/// let error = std::io::Error::from(elapsed);
/// assert!(matches!(error.netpoll_kind(), Some(ErrorKind::Elapsed)) && error.is_timeout());
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example());
/// ```
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    match Instant::now().checked_add(duration) {
        Some(deadline) => timeout_at(deadline, future).await,
        None => Ok(UserFuture::new(pin!(Some(future))).await),
    }
}

/// The future returned by [`sleep`] and [`sleep_until`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sleep {
    /// `None` means never.
    at: Option<Instant>,
    timer: Option<PollerTimer>,
}

impl Sleep {
    /// Returns the time at which it completes. `None` if that is too far away to represent.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Makes it complete at `deadline`, in place of its time before. It keeps its timer, so a
    /// deadline that is later than the last one costs no command to the poller. The next poll
    /// registers the waker.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// # async fn example() {
    /// let mut idle = netpoll::time::sleep(Duration::from_secs(3600));
    /// idle.reset(Instant::now() + Duration::from_millis(1));
    /// idle.await;
    /// # }
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example());
    /// ```
    pub fn reset(&mut self, deadline: Instant) {
        self.at = Some(deadline);
    }

    /// Returns a timer of a running poller.
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
                // The poller may have ended before it had the waker.
                if timer.status() == TimerStatus::PollerEnded {
                    wake_by_ref(context.waker());
                }
            }
            // No poller can be started for lack of descriptors or threads: try again later.
            None => {
                std::thread::sleep(Duration::from_millis(1));
                wake_by_ref(context.waker());
            }
        }
        Poll::Pending
    }
}

/// The deadline passed before the future completed. `TimedOut` as an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    #[cold]
    fn from(_: Elapsed) -> Self {
        ErrorKind::Elapsed.into()
    }
}
