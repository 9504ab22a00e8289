// SPDX-License-Identifier: MIT OR Apache-2.0
//! User code as one future for each request batch.
//!
//! A handler's future borrows the connection it works on, so the two must live together although
//! the future's type has no name. They do inside an `async fn` that owns the connection and returns
//! it when it is done: [`run_batch`] for `on_request`, [`connection_task`] for `on_connection`. The
//! same two exist once more for handlers whose futures may move between threads, because a bound of
//! `Send` on a future is part of its type.
//!
//! A *request batch* is the input that is there when it begins. It ends when that input is
//! consumed, when a call has consumed nothing, after [`MAX_CALLS`] calls or [`MAX_DURATION`], at
//! the high watermark of unsent output, or when a close is requested. The first batch of a
//! connection is `on_connect`, if there is one, and nothing else.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use super::Connection;
use super::handler::{ConnectionHandler, Handler};
use crate::error::BoxError;
use crate::foreign::UserFuture;
use crate::sync::Arc;
use crate::timestamp::Timestamp;

/// The most calls in one request batch.
const MAX_CALLS: u32 = 64;

/// The time after which a request batch yields.
const MAX_DURATION: Duration = Duration::from_micros(200);

/// The result of a request batch, or of a connection task.
pub(crate) struct CallOutcome {
    /// The connection, unless the handler owned it.
    pub(crate) connection: Option<Connection>,
    pub(crate) end: BatchEnd,
    /// The number of handled requests.
    pub(crate) requests: u32,
}

/// Why a request batch ended.
#[derive(Debug)]
pub(crate) enum BatchEnd {
    /// The input that was there is consumed.
    Consumed,
    /// The last call consumed nothing: it needs more input.
    NeedsMoreInput,
    /// There is more input, and other connections have waited long enough.
    Yielded,
    /// The handler failed.
    Failed(BoxError),
    /// The handler of `on_connection` has returned.
    Returned,
    /// `on_connect` has returned, and requests may come.
    Connected,
}

/// Which handler of a connection a call runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerStage {
    /// `on_connect`, in the first call.
    Connect,
    /// The request or connection handler, in all other calls.
    Request,
}

/// The `on_connect` handler, whose future is boxed. One allocation for each connection.
pub(crate) type OnConnect = dyn Fn(&mut Connection) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + '_>>
    + Send
    + Sync;

/// As [`OnConnect`], for futures that may move between threads.
pub(crate) type OnConnectSend = dyn Fn(&mut Connection) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>>
    + Send
    + Sync;

/// The handlers that the connections of a service call on a thread.
pub(crate) struct Handlers<H, G: ?Sized = OnConnect> {
    pub(crate) handler: Arc<H>,
    pub(crate) on_connect: Option<Arc<G>>,
}

/// Handlers that a thread's connections share. Their reference count changes once for each request
/// batch, so it must not be one that other threads change, too.
pub(crate) type SharedHandlers<H> = Rc<Handlers<H>>;

/// Calls the handler until the request batch is over, and returns the connection.
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
    let mut batch = RequestBatch::of(&connection);
    let end = loop {
        let result = UserFuture::new(pin!(Some((*handlers.handler)(&mut connection)))).await;
        if let Some(end) = batch.end_after(result, &connection) {
            break end;
        }
    };
    batch.outcome(connection, end)
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
    let mut batch = RequestBatch::of(&connection);
    let end = loop {
        let result = UserFuture::new(pin!(Some(handlers.handler.call(&mut connection)))).await;
        if let Some(end) = batch.end_after(result, &connection) {
            break end;
        }
    };
    batch.outcome(connection, end)
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
pub(crate) async fn connection_task_send<H: ConnectionHandler>(
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
    connection_task_end(UserFuture::new(pin!(Some(handlers.handler.serve(connection)))).await)
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

/// The progress of a request batch. The clock is read after calls 1, 2, 4, 8 …, because reading it
/// costs a third of a small request; the first call is not timed.
#[derive(Debug)]
struct RequestBatch {
    /// The number of bytes that were there when the batch began, and are not consumed.
    remaining: usize,
    /// The position in the stream at which the next call begins.
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

    fn new(remaining: usize, offset: usize) -> Self {
        Self {
            remaining,
            offset,
            calls: 0,
            started: None,
        }
    }

    /// Returns why the batch ended, if the call with this `result` was its last.
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

    /// Makes the outcome. A last call that consumed nothing does not count as a request.
    fn outcome(&self, connection: Connection, end: BatchEnd) -> CallOutcome {
        let incomplete = u32::from(matches!(end, BatchEnd::NeedsMoreInput));
        CallOutcome {
            connection: Some(connection),
            end,
            requests: self.calls - incomplete,
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
    fn batch_ends_after_max_calls() {
        let mut batch = RequestBatch::new(1, 0);
        let calls = (1..=MAX_CALLS).find(|&calls| {
            batch.calls = calls;
            batch.is_long()
        });
        assert!(calls.is_some());
    }

    #[test]
    fn batch_ends_after_max_duration() {
        let mut batch = RequestBatch::new(1, 0);
        let began = Instant::now().checked_sub(MAX_DURATION);
        batch.started = began.map(Timestamp::from_instant);
        batch.calls = 4;
        assert!(batch.is_long(), "the clock is read after the fourth call");
        batch.calls = 5;
        assert!(!batch.is_long(), "and not after the fifth");
    }
}
