// SPDX-License-Identifier: MIT OR Apache-2.0
//! The request to end a loop, and the promise that it has ended.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::budget::LoopMemory;
use crate::census::{Asker, Census};
use crate::poll::bell::{self, Caller};
use crate::poll::roster::Roster;
use crate::poll::set::PollerSet;
use crate::sync::{Arc, Condvar, Mutex, lock, wait};

/// What a loop, its handles and its shutdowns share.
#[derive(Debug)]
pub(crate) struct Request {
    asks: Mutex<Asks>,
    asked: Condvar,
    /// What a poller could not be started again for.
    failure: Mutex<Option<io::Error>>,
    census: Arc<Census>,
    /// The loop's pollers, while it runs.
    roster: Roster,
}

/// What was asked of a loop.
#[derive(Debug, Default)]
struct Asks {
    /// When what is left is cut; `None` until it is asked for.
    deadline: Option<Instant>,
    stop: Stop,
}

/// Whether the loop is to let nobody in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stop {
    #[default]
    No,
    Asked,
    /// The pollers know.
    Heard,
}

impl Request {
    /// Of a loop that may use `memory`.
    pub(super) fn new(memory: LoopMemory) -> Self {
        Self {
            asks: Mutex::default(),
            asked: Condvar::default(),
            failure: Mutex::default(),
            census: Arc::default(),
            roster: Roster::new(memory),
        }
    }

    pub(crate) fn census(&self) -> &Arc<Census> {
        &self.census
    }

    /// Asks for the end, unless it was asked for. A time too long to count is a century.
    pub(super) fn ask(&self, within: Duration) {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        let mut asks = lock(&self.asks);
        asks.deadline
            .get_or_insert_with(|| Instant::now() + within.min(CENTURY));
        drop(asks);
        self.asked.notify_all();
    }

    /// The loop cannot go on: asks for its end at once.
    pub(super) fn fail(&self, error: io::Error) {
        lock(&self.failure).get_or_insert(error);
        let mut asks = lock(&self.asks);
        asks.deadline = Some(Instant::now());
        drop(asks);
        self.asked.notify_all();
    }

    /// Why the loop could not go on, if it could not.
    pub(super) fn failure(&self) -> Option<io::Error> {
        lock(&self.failure).take()
    }

    /// Asks to let nobody in any more.
    pub(super) fn stop_accepting(&self) {
        let mut asks = lock(&self.asks);
        if asks.stop == Stop::No {
            asks.stop = Stop::Asked;
        }
        drop(asks);
        self.asked.notify_all();
    }

    /// Waits until the end is asked for. Calls `stop` if before that the loop is to let nobody in.
    pub(super) fn wait(&self, stop: impl Fn()) -> Instant {
        let mut asks = lock(&self.asks);
        loop {
            if let Some(deadline) = asks.deadline {
                return deadline;
            }
            if asks.stop == Stop::Asked {
                asks.stop = Stop::Heard;
                drop(asks);
                stop();
                asks = lock(&self.asks);
            } else {
                asks = wait(&self.asked, asks);
            }
        }
    }

    /// The loop runs, on `pollers`.
    pub(super) fn runs_on(&self, pollers: &PollerSet) {
        self.roster.open(pollers);
    }

    /// The handler of this loop's that is the caller, if one is.
    fn caller(&self) -> Option<Caller> {
        let caller = bell::caller_here()?;
        self.roster.has(&caller).then_some(caller)
    }

    /// Whoever dials for the loop finds its pollers here.
    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(super) fn conclude(&self) {
        self.roster.close();
        self.census.conclude();
    }
}

/// The end of a loop that was asked for: a future of how many connections had to be cut.
///
/// It does not wait for the handler that awaits it: when everybody else is gone it is ready, and
/// the handler has until the deadline to return.
#[derive(Debug)]
pub struct Shutdown {
    request: Arc<Request>,
    /// The handler that awaits it, if it is one of the loop's.
    excused: Option<Caller>,
    /// Its place among those who wait.
    key: Option<usize>,
}

impl Shutdown {
    pub(super) fn new(request: Arc<Request>) -> Self {
        Self {
            request,
            excused: None,
            key: None,
        }
    }

    /// Blocks until the loop has ended, and says how many connections had to be cut.
    ///
    /// # Panics
    ///
    /// On a poller's thread, where handlers run unless they are told to run elsewhere: the loop
    /// would wait for this thread, and this thread for the loop. Handlers await it.
    #[must_use]
    pub fn wait(mut self) -> usize {
        assert!(
            !bell::is_poller_here(),
            "a shutdown cannot be waited for on a poller: await it"
        );
        self.excuse_the_caller();
        self.request.census.wait_until_over(self.asker())
    }

    fn asker(&self) -> Asker {
        match self.excused {
            Some(_) => Asker::Excused,
            None => Asker::Outsider,
        }
    }

    fn excuse_the_caller(&mut self) {
        let census = &self.request.census;
        if self.excused.is_none()
            && let Some(caller) = self.request.caller()
            && !census.is_excused(&caller)
        {
            census.excuse(caller.clone());
            self.excused = Some(caller);
        }
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        if let Some(caller) = &self.excused {
            self.request.census.excuse_no_more(caller);
        }
        if let Some(key) = self.key {
            self.request.census.forget(key);
        }
    }
}

impl Future for Shutdown {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        self.excuse_the_caller();
        let asker = self.asker();
        let Self { request, key, .. } = &mut *self;
        match request.census.cut_when_over(asker, key, context.waker()) {
            Some(cut) => Poll::Ready(cut),
            None => Poll::Pending,
        }
    }
}
