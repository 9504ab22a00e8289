// SPDX-License-Identifier: MIT OR Apache-2.0
//! User code as one future per burst.
//!
//! A handler's future borrows the connection it works on, so the two must live together without
//! anybody naming the future's type. They do inside an `async fn` that owns the connection and
//! gives it back when it is done: [`run_batch`] for `on_request`, [`connection_task`] for `on_connection`,
//! and the same two once more for handlers whose futures may move between threads, because a bound
//! of `Send` on a future is part of its type.
//!
//! A *burst* is the input that was there when it began. It ends when that is consumed, when a call
//! has consumed nothing, after [`MAX_CALLS`] calls or [`MAX_DURATION`], past the write mark, or when the end was
//! asked for. The first burst of a connection is `on_connect`, if there is one, and nothing else.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use super::Connection;
use super::handler::Handler;
use crate::error::BoxError;
use crate::foreign::UserFuture;
use crate::sync::Arc;
use crate::timestamp::Timestamp;

/// The most calls in one burst.
const MAX_CALLS: u32 = 64;

/// The most time one burst takes.
const MAX_DURATION: Duration = Duration::from_micros(200);

/// What a burst, or a connection's whole life, came to.
pub(crate) struct CallOutcome {
    /// The connection, unless the handler owned it.
    pub(crate) connection: Option<Connection>,
    pub(crate) end: BatchEnd,
    /// How many requests were handled.
    pub(crate) requests: u32,
}

/// Why a burst ended.
#[derive(Debug)]
pub(crate) enum BatchEnd {
    /// The input that was there is consumed.
    Consumed,
    /// The last call consumed nothing: it needs more.
    NeedsMoreInput,
    /// There is more, but others have waited long enough.
    Yielded,
    /// The handler failed.
    Failed(BoxError),
    /// The handler of a whole life has returned.
    Returned,
    /// `on_connect` has returned, and requests may come.
    Connected,
}

/// Which call of a connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerStage {
    /// The first, which is `on_connect`.
    Connect,
    /// Any other.
    Request,
}

/// What `on_connect` gives, as a future of any type. One allocation for each connection.
pub(crate) type OnConnect = dyn Fn(&mut Connection) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + '_>>
    + Send
    + Sync;

/// As [`OnConnect`], of futures that may move between threads.
pub(crate) type OnConnectSend = dyn Fn(&mut Connection) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>>
    + Send
    + Sync;

/// What the connections of a service call, on a thread.
pub(crate) struct Handlers<H, G: ?Sized = OnConnect> {
    pub(crate) handler: Arc<H>,
    pub(crate) on_connect: Option<Arc<G>>,
}

/// Handlers that a thread's connections share: their count is touched once per burst, and so must
/// not be one that other threads touch too.
pub(crate) type SharedHandlers<H> = Rc<Handlers<H>>;

/// Calls the handler until the burst is over, and gives the connection back.
pub(crate) async fn run_batch<H>(
    handlers: SharedHandlers<H>,
    mut connection: Connection,
    stage: HandlerStage,
) -> CallOutcome
where
    H: AsyncFn(&mut Connection) -> Result<(), BoxError>,
{
    if stage == HandlerStage::Connect
        && let Some(on_connect) = &handlers.on_connect
    {
        let end = on_connect_end(on_connect(&mut connection).await);
        return CallOutcome::of(connection, end);
    }
    let mut burst = RequestBatch::of(&connection);
    let end = loop {
        let result = UserFuture::new(pin!(Some((*handlers.handler)(&mut connection)))).await;
        if let Some(end) = burst.end_after(result, &connection) {
            break end;
        }
    };
    burst.outcome(connection, end)
}

/// As [`run_batch`], for a handler whose futures may move between threads.
pub(crate) async fn run_batch_send<H: Handler>(
    handlers: Arc<Handlers<H, OnConnectSend>>,
    mut connection: Connection,
    stage: HandlerStage,
) -> CallOutcome {
    if stage == HandlerStage::Connect
        && let Some(on_connect) = &handlers.on_connect
    {
        let end = on_connect_end(on_connect(&mut connection).await);
        return CallOutcome::of(connection, end);
    }
    let mut burst = RequestBatch::of(&connection);
    let end = loop {
        let result = UserFuture::new(pin!(Some(handlers.handler.call(&mut connection)))).await;
        if let Some(end) = burst.end_after(result, &connection) {
            break end;
        }
    };
    burst.outcome(connection, end)
}

/// Calls the handler once with the connection, or `on_connect` before it.
pub(crate) async fn connection_task<H>(
    handlers: SharedHandlers<H>,
    mut connection: Connection,
    stage: HandlerStage,
) -> CallOutcome
where
    H: AsyncFn(Connection) -> Result<(), BoxError>,
{
    if stage == HandlerStage::Connect
        && let Some(on_connect) = &handlers.on_connect
    {
        let end = on_connect_end(on_connect(&mut connection).await);
        return CallOutcome::of(connection, end);
    }
    connection_task_end(UserFuture::new(pin!(Some((*handlers.handler)(connection)))).await)
}

/// As [`connection_task`], for a handler whose futures may move between threads.
pub(crate) async fn connection_task_send<H, F>(
    handlers: Arc<Handlers<H, OnConnectSend>>,
    mut connection: Connection,
    stage: HandlerStage,
) -> CallOutcome
where
    H: Fn(Connection) -> F,
    F: Future<Output = Result<(), BoxError>>,
{
    if stage == HandlerStage::Connect
        && let Some(on_connect) = &handlers.on_connect
    {
        let end = on_connect_end(on_connect(&mut connection).await);
        return CallOutcome::of(connection, end);
    }
    connection_task_end(UserFuture::new(pin!(Some((*handlers.handler)(connection)))).await)
}

fn on_connect_end(result: Result<(), BoxError>) -> BatchEnd {
    match result {
        Ok(()) => BatchEnd::Connected,
        Err(error) => BatchEnd::Failed(error),
    }
}

fn connection_task_end(result: Result<(), BoxError>) -> CallOutcome {
    let end = match result {
        Ok(()) => BatchEnd::Returned,
        Err(error) => BatchEnd::Failed(error),
    };
    CallOutcome {
        connection: None,
        end,
        requests: 0,
    }
}

impl CallOutcome {
    fn of(connection: Connection, end: BatchEnd) -> Self {
        Self {
            connection: Some(connection),
            end,
            requests: 0,
        }
    }
}

/// How far a burst has gone. The clock is read after calls 1, 2, 4, 8 …, because reading it costs
/// a third of a small request; the first call is not timed.
#[derive(Debug)]
struct RequestBatch {
    /// What was there when it began and is not consumed.
    remaining: usize,
    /// Where in the stream the next call begins.
    offset: usize,
    calls: u32,
    started: Option<Timestamp>,
}

impl RequestBatch {
    #[inline]
    fn of(connection: &Connection) -> Self {
        Self::new(
            connection.local.reader.buffer.len(),
            connection.local.reader.consumed(),
        )
    }

    fn new(left: usize, at: usize) -> Self {
        Self {
            remaining: left,
            offset: at,
            calls: 0,
            started: None,
        }
    }

    /// What the burst came to, if the call that ended so was its last.
    #[inline]
    fn end_after(
        &mut self,
        result: Result<(), BoxError>,
        connection: &Connection,
    ) -> Option<BatchEnd> {
        self.calls += 1;
        if let Err(error) = result {
            return Some(BatchEnd::Failed(error));
        }
        let now = connection.local.reader.consumed();
        let consumed = now.wrapping_sub(std::mem::replace(&mut self.offset, now));
        if consumed == 0 {
            return Some(BatchEnd::NeedsMoreInput);
        }
        if consumed >= self.remaining {
            return Some(BatchEnd::Consumed);
        }
        self.remaining -= consumed;
        (self.is_long() || connection.shared.ends_batch()).then_some(BatchEnd::Yielded)
    }

    /// What it came to. A last call that consumed nothing was none of a request.
    fn outcome(&self, connection: Connection, end: BatchEnd) -> CallOutcome {
        let vain = u32::from(matches!(end, BatchEnd::NeedsMoreInput));
        CallOutcome {
            connection: Some(connection),
            end,
            requests: self.calls - vain,
        }
    }

    #[inline]
    fn is_long(&mut self) -> bool {
        self.calls >= MAX_CALLS || (self.calls.is_power_of_two() && self.is_out_of_time())
    }

    fn is_out_of_time(&mut self) -> bool {
        let now = Timestamp::now();
        now.since(*self.started.get_or_insert(now)) >= MAX_DURATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_burst_ends_after_its_calls() {
        let mut burst = RequestBatch::new(1, 0);
        let calls = (1..=MAX_CALLS).find(|&calls| {
            burst.calls = calls;
            burst.is_long()
        });
        assert!(calls.is_some());
    }

    #[test]
    fn a_burst_ends_when_its_time_is_up() {
        let mut burst = RequestBatch::new(1, 0);
        let began = Instant::now().checked_sub(MAX_DURATION);
        burst.started = began.map(Timestamp::from_instant);
        burst.calls = 4;
        assert!(burst.is_long(), "the clock is read after the fourth call");
        burst.calls = 5;
        assert!(!burst.is_long(), "and not after the fifth");
    }
}
