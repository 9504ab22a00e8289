// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`serve_on`]: runs each request of a connection as a task of an executor, on the executor's
//! threads.
//!
//! The connection's handler only reads requests and spawns each with a permit of the limit. The
//! task answers through the connection's write queue. If a task fails, panics or is dropped by its
//! executor, it wakes the handler. The handler returns the error, which closes the connection, so
//! that the peer learns of the failure.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use netpoll_buffer::LinkBuffer;

use super::request_drain::RequestDrain;
use crate::active_timeouts::ActiveTimeout;
use crate::codec::Codec;
use crate::connection::Connection;
use crate::connection::frames::FrameWait;
use crate::connection::handler::ConnectionHandler;
use crate::connection::in_flight::InFlightGuard;
use crate::connection::write_queue::WriteQueue;
use crate::error::{BoxError, CloseReason};
use crate::foreign::{CallerWaker, CloneRequired, DeferredDrop, UserFuture, WakerSlot, register};
use crate::runner::Spawn;
use crate::semaphore::{Permit, Semaphore};
use crate::sync::{Arc, Mutex, lock};

/// As [`serve_within`](super::serve_within), but runs each request as a task of `executor`. Meant
/// for requests that compute or block: those of one connection run on several threads. Passed
/// to [`on_connection`](crate::Builder::on_connection) of a builder of either kind: its future,
/// which reads, is `Send`.
///
/// A request that fails or panics closes the connection as with `serve_within`, behind the answers
/// that were sent before it. So does a task that the executor drops, with
/// [`Local`](crate::CloseReason::Local). Other tasks continue, and their answers are discarded.
///
/// Costs a few allocations a request. While the peer does not read, answers wait in their tasks.
pub fn serve_on<C, H, F>(
    executor: Arc<dyn Spawn>,
    in_flight: usize,
    codec: C,
    handler: H,
) -> impl AsyncFn(Connection) -> Result<(), BoxError> + ConnectionHandler
where
    C: Codec,
    H: Fn(C::Frame) -> F + Send + Sync + 'static,
    F: Future<Output = Result<C::Frame, BoxError>> + Send + 'static,
{
    let (codec, handler) = (Arc::new(codec), Arc::new(handler));
    move |conn: Connection| {
        let (codec, handler) = (Arc::clone(&codec), Arc::clone(&handler));
        serve_requests_on(Arc::clone(&executor), in_flight, codec, handler, conn)
    }
}

/// Serves the requests of `conn` as tasks of `executor`. A task calls `handler` for its request.
pub(super) fn serve_requests_on<C, H, F>(
    executor: Arc<dyn Spawn>,
    in_flight: usize,
    codec: Arc<C>,
    handler: Arc<H>,
    mut conn: Connection,
) -> ServeFuture
where
    C: Codec,
    H: Fn(C::Frame) -> F + Send + Sync + 'static,
    F: Future<Output = Result<C::Frame, BoxError>> + Send + 'static,
{
    Box::pin(async move {
        let in_flight = in_flight.max(1);
        let responder = Responder {
            queue: conn.write_queue(),
            failure: Arc::default(),
        };
        let semaphore = Semaphore::new(in_flight);
        let mut drain = RequestDrain::new(&conn);
        while let Some(request) = responder
            .next_request(&mut drain, &mut conn, &*codec)
            .await?
        {
            let mut in_flight = conn.shared().in_flight();
            in_flight.set(1);
            let request_guard = RequestGuard {
                responder: responder.clone(),
                open: true,
                _in_flight: in_flight,
                _permit: responder.unless_failed(semaphore.acquire()).await?,
            };
            let (codec, handler) = (Arc::clone(&codec), Arc::clone(&handler));
            executor.spawn(Box::pin(async move {
                let answer = UserFuture::new(pin!(Some(handler(request)))).await;
                request_guard.answer(&*codec, answer).await;
            }));
        }
        // The peer has ended its stream, or the connection drains: the requests in progress are
        // answered first.
        let mut permits = Vec::new();
        for _ in 0..in_flight {
            permits.push(responder.unless_failed(semaphore.acquire()).await?);
        }
        lock(&responder.failure).first.take().map_or(Ok(()), Err)
    })
}

/// The future of a handler of [`serve_on`].
pub(super) type ServeFuture = std::pin::Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// Answers the requests of one connection, and records the first failure.
#[derive(Clone)]
struct Responder {
    queue: WriteQueue,
    failure: Arc<Mutex<FirstFailure>>,
}

/// The first failure of a task, and the waker of the connection's handler.
#[derive(Default)]
struct FirstFailure {
    /// The error of the first request that failed.
    first: Option<BoxError>,
    /// The waker of the handler.
    waker: WakerSlot,
}

impl FirstFailure {
    fn poll(
        &mut self,
        caller_waker: &mut CallerWaker<'_>,
    ) -> Result<Poll<BoxError>, CloneRequired> {
        if let Some(error) = self.first.take() {
            return Ok(Poll::Ready(error));
        }
        self.waker.set(caller_waker)?;
        Ok(Poll::Pending)
    }
}

impl Responder {
    /// Returns the output of `work`, or the error of a request that failed before.
    async fn unless_failed<T>(&self, work: impl Future<Output = T>) -> Result<T, BoxError> {
        let mut work = pin!(work);
        let mut bounded = ActiveTimeout::default();
        poll_fn(|context| {
            bounded.activate();
            let failed = register(context.waker(), |caller_waker| {
                lock(&self.failure).poll(caller_waker)
            });
            match failed {
                Poll::Ready(error) => Poll::Ready(Err(error)),
                Poll::Pending => work.as_mut().poll(context).map(Ok),
            }
        })
        .await
    }

    /// Returns the next request; `None` if no more are accepted.
    async fn next_request<C: Codec>(
        &self,
        drain: &mut RequestDrain,
        conn: &mut Connection,
        codec: &C,
    ) -> Result<Option<C::Frame>, BoxError> {
        if drain.has_ended() {
            return Ok(None);
        }
        let mut reader = conn.reader();
        // Has no time limit until a request starts to arrive.
        let mut wait = FrameWait::allow_idle();
        let next = poll_fn(|context| {
            let next = reader.poll_frame(codec, &mut wait, context);
            drain.observe(next)
        });
        Ok(self.unless_failed(next).await??)
    }

    fn fail(&self, error: BoxError) {
        let mut failure = lock(&self.failure);
        // Only the first failure is kept; another is dropped after the lock.
        let error = match failure.first {
            Some(_) => DeferredDrop::new(error),
            None => {
                failure.first = Some(error);
                DeferredDrop::none()
            }
        };
        let waker = failure.waker.take();
        drop(failure);
        drop(error);
        waker.wake();
    }
}

/// A request in progress. Fails the connection if it is dropped before it is answered.
struct RequestGuard {
    responder: Responder,
    open: bool,
    _in_flight: InFlightGuard,
    /// Released last: after the answer or the failure.
    _permit: Permit,
}

impl RequestGuard {
    async fn answer<C: Codec>(mut self, codec: &C, answer: Result<C::Frame, BoxError>) {
        let sent = match answer {
            Ok(answer) => self.send(codec, answer).await.map_err(BoxError::from),
            Err(error) => Err(error),
        };
        self.open = false;
        if let Err(error) = sent {
            self.responder.fail(error);
        }
    }

    async fn send<C: Codec>(&self, codec: &C, answer: C::Frame) -> io::Result<()> {
        let mut buffer = LinkBuffer::new();
        codec.encode(answer, &mut buffer)?;
        Ok(self.responder.queue.send(buffer).await?)
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.open {
            let reason = match std::thread::panicking() {
                true => CloseReason::HandlerPanic,
                false => CloseReason::Local,
            };
            self.responder.fail(reason.to_error().into());
        }
    }
}
