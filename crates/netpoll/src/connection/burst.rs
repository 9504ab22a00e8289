// SPDX-License-Identifier: MIT OR Apache-2.0
//! User code as one future per burst.
//!
//! A handler's future borrows the connection it works on, so the two must live together without
//! anybody naming the future's type. They do inside an `async fn` that owns the connection and
//! gives it back when it is done: [`burst`] for `on_request`, [`whole_life`] for `on_connection`,
//! and the same two once more for handlers whose futures may move between threads, because a bound
//! of `Send` on a future is part of its type.
//!
//! A *burst* is the input that was there when it began. It ends when that is consumed, when a call
//! has consumed nothing, after [`CALLS`] calls or [`TIME`], past the write mark, or when the end was
//! asked for. The first burst of a connection is `on_connect`, if there is one, and nothing else.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use super::Connection;
use super::handler::Handler;
use crate::error::BoxError;
use crate::foreign::UserFuture;
use crate::moment::Moment;
use crate::sync::Arc;

/// The most calls in one burst.
const CALLS: u32 = 64;

/// The most time one burst takes.
const TIME: Duration = Duration::from_micros(200);

/// What a burst, or a connection's whole life, came to.
pub(crate) struct Finished {
    /// The connection, unless the handler owned it.
    pub(crate) connection: Option<Connection>,
    pub(crate) verdict: Verdict,
    /// How many requests were handled.
    pub(crate) requests: u32,
}

/// Why a burst ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The input that was there is consumed.
    Spent,
    /// The last call consumed nothing: it needs more.
    Stalled,
    /// There is more, but others have waited long enough.
    Yielded,
    /// The handler failed.
    Failed(BoxError),
    /// The handler of a whole life has returned.
    Returned,
    /// `on_connect` has returned, and requests may come.
    Greeted,
}

/// Which call of a connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The first, which is `on_connect`.
    Connect,
    /// Any other.
    Request,
}

/// What `on_connect` gives, as a future of any type. One allocation for each connection.
pub(crate) type Greet = dyn Fn(&mut Connection) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + '_>>
    + Send
    + Sync;

/// As [`Greet`], of futures that may move between threads.
pub(crate) type GreetSend = dyn Fn(&mut Connection) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>>
    + Send
    + Sync;

/// What the connections of a service call, on a thread.
pub(crate) struct Handlers<H, G: ?Sized = Greet> {
    pub(crate) handler: Arc<H>,
    pub(crate) greet: Option<Arc<G>>,
}

/// Handlers that a thread's connections share: their count is touched once per burst, and so must
/// not be one that other threads touch too.
pub(crate) type Shared<H> = Rc<Handlers<H>>;

/// Calls the handler until the burst is over, and gives the connection back.
pub(crate) async fn burst<H>(
    handlers: Shared<H>,
    mut connection: Connection,
    stage: Stage,
) -> Finished
where
    H: AsyncFn(&mut Connection) -> Result<(), BoxError>,
{
    if stage == Stage::Connect
        && let Some(greet) = &handlers.greet
    {
        let verdict = greeted(greet(&mut connection).await);
        return Finished::of(connection, verdict);
    }
    let mut burst = Burst::of(&connection);
    let verdict = loop {
        let result = UserFuture::new(pin!(Some((*handlers.handler)(&mut connection)))).await;
        if let Some(verdict) = burst.verdict(result, &connection) {
            break verdict;
        }
    };
    burst.finished(connection, verdict)
}

/// As [`burst`], for a handler whose futures may move between threads.
pub(crate) async fn burst_send<H: Handler>(
    handlers: Arc<Handlers<H, GreetSend>>,
    mut connection: Connection,
    stage: Stage,
) -> Finished {
    if stage == Stage::Connect
        && let Some(greet) = &handlers.greet
    {
        let verdict = greeted(greet(&mut connection).await);
        return Finished::of(connection, verdict);
    }
    let mut burst = Burst::of(&connection);
    let verdict = loop {
        let result = UserFuture::new(pin!(Some(handlers.handler.call(&mut connection)))).await;
        if let Some(verdict) = burst.verdict(result, &connection) {
            break verdict;
        }
    };
    burst.finished(connection, verdict)
}

/// Calls the handler once with the connection, or `on_connect` before it.
pub(crate) async fn whole_life<H>(
    handlers: Shared<H>,
    mut connection: Connection,
    stage: Stage,
) -> Finished
where
    H: AsyncFn(Connection) -> Result<(), BoxError>,
{
    if stage == Stage::Connect
        && let Some(greet) = &handlers.greet
    {
        let verdict = greeted(greet(&mut connection).await);
        return Finished::of(connection, verdict);
    }
    returned(UserFuture::new(pin!(Some((*handlers.handler)(connection)))).await)
}

/// As [`whole_life`], for a handler whose futures may move between threads.
pub(crate) async fn whole_life_send<H, F>(
    handlers: Arc<Handlers<H, GreetSend>>,
    mut connection: Connection,
    stage: Stage,
) -> Finished
where
    H: Fn(Connection) -> F,
    F: Future<Output = Result<(), BoxError>>,
{
    if stage == Stage::Connect
        && let Some(greet) = &handlers.greet
    {
        let verdict = greeted(greet(&mut connection).await);
        return Finished::of(connection, verdict);
    }
    returned(UserFuture::new(pin!(Some((*handlers.handler)(connection)))).await)
}

fn greeted(result: Result<(), BoxError>) -> Verdict {
    match result {
        Ok(()) => Verdict::Greeted,
        Err(error) => Verdict::Failed(error),
    }
}

fn returned(result: Result<(), BoxError>) -> Finished {
    let verdict = match result {
        Ok(()) => Verdict::Returned,
        Err(error) => Verdict::Failed(error),
    };
    Finished {
        connection: None,
        verdict,
        requests: 0,
    }
}

impl Finished {
    fn of(connection: Connection, verdict: Verdict) -> Self {
        Self {
            connection: Some(connection),
            verdict,
            requests: 0,
        }
    }
}

/// How far a burst has gone. The clock is read after calls 1, 2, 4, 8 …, because reading it costs
/// a third of a small request; the first call is not timed.
#[derive(Debug)]
struct Burst {
    /// What was there when it began and is not consumed.
    left: usize,
    /// Where in the stream the next call begins.
    at: usize,
    calls: u32,
    began: Option<Moment>,
}

impl Burst {
    #[inline]
    fn of(connection: &Connection) -> Self {
        Self::new(
            connection.held.input.chain.len(),
            connection.held.input.consumed(),
        )
    }

    fn new(left: usize, at: usize) -> Self {
        Self {
            left,
            at,
            calls: 0,
            began: None,
        }
    }

    /// What the burst came to, if the call that ended so was its last.
    #[inline]
    fn verdict(
        &mut self,
        result: Result<(), BoxError>,
        connection: &Connection,
    ) -> Option<Verdict> {
        self.calls += 1;
        if let Err(error) = result {
            return Some(Verdict::Failed(error));
        }
        let now = connection.held.input.consumed();
        let consumed = now.wrapping_sub(std::mem::replace(&mut self.at, now));
        if consumed == 0 {
            return Some(Verdict::Stalled);
        }
        if consumed >= self.left {
            return Some(Verdict::Spent);
        }
        self.left -= consumed;
        (self.is_long() || connection.link.ends_bursts()).then_some(Verdict::Yielded)
    }

    /// What it came to. A last call that consumed nothing was none of a request.
    fn finished(&self, connection: Connection, verdict: Verdict) -> Finished {
        let vain = u32::from(matches!(verdict, Verdict::Stalled));
        Finished {
            connection: Some(connection),
            verdict,
            requests: self.calls - vain,
        }
    }

    #[inline]
    fn is_long(&mut self) -> bool {
        self.calls >= CALLS || (self.calls.is_power_of_two() && self.is_late())
    }

    fn is_late(&mut self) -> bool {
        let now = Moment::now();
        now.since(*self.began.get_or_insert(now)) >= TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_burst_ends_after_its_calls() {
        let mut burst = Burst::new(1, 0);
        let calls = (1..=CALLS).find(|&calls| {
            burst.calls = calls;
            burst.is_long()
        });
        assert!(calls.is_some());
    }

    #[test]
    fn a_burst_ends_when_its_time_is_up() {
        let mut burst = Burst::new(1, 0);
        let began = Instant::now().checked_sub(TIME);
        burst.began = began.map(Moment::of);
        burst.calls = 4;
        assert!(burst.is_long(), "the clock is read after the fourth call");
        burst.calls = 5;
        assert!(!burst.is_long(), "and not after the fifth");
    }
}
