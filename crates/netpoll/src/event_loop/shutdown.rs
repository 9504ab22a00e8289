// SPDX-License-Identifier: MIT OR Apache-2.0
//! The request to end a loop, and the promise that it has ended.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::census::Census;
use crate::sync::{Arc, Condvar, Mutex, PoisonError, lock};

/// What a loop, its handles and its shutdowns share.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// When what is left is cut; `None` until it is asked for.
    deadline: Mutex<Option<Instant>>,
    asked: Condvar,
    census: Arc<Census>,
}

impl Request {
    pub(crate) fn census(&self) -> &Arc<Census> {
        &self.census
    }

    /// Asks for the end, unless it was asked for. A time too long to count is a century.
    pub(super) fn ask(&self, within: Duration) {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        lock(&self.deadline).get_or_insert_with(|| Instant::now() + within.min(CENTURY));
        self.asked.notify_all();
    }

    /// Waits until the end is asked for.
    pub(super) fn wait(&self) -> Instant {
        let mut deadline = lock(&self.deadline);
        loop {
            if let Some(deadline) = *deadline {
                return deadline;
            }
            deadline = self
                .asked
                .wait(deadline)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn conclude(&self) {
        self.census.conclude();
    }
}

/// The end of a loop that was asked for: a future of how many connections had to be cut.
///
/// A handler that awaits this on the loop it ends will itself be cut at the deadline, unless it
/// returns before; it should ask and return.
#[derive(Debug)]
pub struct Shutdown {
    request: Arc<Request>,
}

impl Shutdown {
    pub(super) fn new(request: Arc<Request>) -> Self {
        Self { request }
    }

    /// Blocks until the loop has ended, and says how many connections had to be cut. Not on a
    /// poller's thread: the loop would wait for this one.
    #[must_use]
    pub fn wait(self) -> usize {
        self.request.census.wait_until_over()
    }
}

impl Future for Shutdown {
    type Output = usize;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        match self.request.census.cut_when_over(context.waker()) {
            Some(cut) => Poll::Ready(cut),
            None => Poll::Pending,
        }
    }
}
