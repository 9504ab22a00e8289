// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`serve`]: runs each request of a connection as a task of its own.
//!
//! All tasks of a connection are polled within the connection's handler, on its thread. They need
//! no lock, no channel and no executor, and the answers to a request batch are sent together.
//! Requests are accepted while fewer than the limit are in progress and the output is below its
//! high watermark: a peer that sends more, or does not read, waits.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use netpoll_buffer::LinkBuffer;

use super::request_drain::RequestDrain;
use crate::codec::Codec;
use crate::connection::Connection;
use crate::connection::frames::FrameWait;
use crate::connection::handle::ConnectionHandle;
use crate::connection::in_flight::InFlightGuard;
use crate::connection::output_buffer::sent_wait::SentWait;
use crate::connection::reader::Reader;
use crate::connection::writer::Writer;
use crate::error::BoxError;
use crate::foreign::wake_by_ref;
use crate::task::task_set::TaskSet;

/// The default limit of requests of one connection in progress.
pub(super) const DEFAULT_MAX_IN_FLIGHT: usize = 256;

/// The most requests that are started before the answers are sent and other tasks run.
const MAX_BATCH: usize = 64;

/// Answers of this many bytes are passed to the connection before the whole batch is answered.
const FLUSH_THRESHOLD: usize = 32 << 10;

/// Returns a connection handler, for [`on_connection`](crate::Builder::on_connection), that calls
/// `handler` for each request. Requests run concurrently: one that awaits does not delay the
/// others. The returned frame is the answer, sent once it is ready, in any order. With ids, the
/// answer must carry the id of its request: see [`Message::of`](super::Message::of).
///
/// At most 256 requests of a connection are in progress; further ones wait in the kernel. When the
/// peer ends its stream, the requests in progress are answered first.
///
/// When the connection drains, for a [shutdown](crate::LoopHandle::shutdown) or because of its
/// [age](crate::options::Timeouts::max_age), no request is accepted that the peer had not started to send.
/// The accepted requests are answered, and then the connection is closed by a FIN. An `Err` or a
/// panic closes the connection. With [`serve_with`](super::serve_with) the handler knows its
/// connection, and an `Err` can answer its call.
///
/// A request that completes without waiting costs no allocation except those of its codec.
pub fn serve<C, H>(
    codec: C,
    handler: H,
) -> impl AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static
where
    C: Codec,
    H: AsyncFn(C::Frame) -> Result<C::Frame, BoxError> + Send + Sync + 'static,
{
    serve_within(DEFAULT_MAX_IN_FLIGHT, codec, handler)
}

/// As [`serve`], with at most `in_flight` requests of a connection in progress; 0 counts as 1.
pub fn serve_within<C, H>(
    in_flight: usize,
    codec: C,
    handler: H,
) -> impl AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static
where
    C: Codec,
    H: AsyncFn(C::Frame) -> Result<C::Frame, BoxError> + Send + Sync + 'static,
{
    async move |conn: Connection| {
        serve_requests(conn, &codec, in_flight, |request| handler(request)).await
    }
}

/// Serves the requests of `conn` until no more are accepted and all are answered. `start` starts
/// the task of a request.
pub(super) async fn serve_requests<C, F>(
    mut conn: Connection,
    codec: &C,
    in_flight: usize,
    start: impl Fn(C::Frame) -> F,
) -> Result<(), BoxError>
where
    C: Codec,
    F: Future<Output = Result<C::Frame, BoxError>>,
{
    let mut tasks = TaskSet::new();
    let result = serve_with_tasks(&mut conn, codec, in_flight, start, &mut tasks).await;
    // Before the result is returned: the value that a function returns leaks if the drop of one of
    // its variables panics, and the drops of these tasks are the user's.
    drop(tasks);
    result
}

/// As [`serve_requests`], with the tasks of the requests in `tasks`.
async fn serve_with_tasks<C, F>(
    conn: &mut Connection,
    codec: &C,
    in_flight: usize,
    start: impl Fn(C::Frame) -> F,
    tasks: &mut TaskSet<F>,
) -> Result<(), BoxError>
where
    C: Codec,
    F: Future<Output = Result<C::Frame, BoxError>>,
{
    let mut requests = RequestReader::new(conn);
    let mut in_flight_count = InFlightCount::Unregistered(conn.handle());
    let mut first = PollTarget::Tasks;
    let (mut reader, writer) = conn.split();
    let mut batch = AnswerBatch {
        writer,
        ready: LinkBuffer::new(),
    };
    while !requests.drain.has_ended() || tasks.len() > 0 {
        let has_capacity = tasks.len() < in_flight.max(1);
        let step = poll_fn(|context| {
            let mut step = Poll::Pending;
            for target in first.both() {
                step = match target {
                    PollTarget::Tasks => tasks.poll_next(context).map(ServerStep::Answer),
                    PollTarget::Requests if has_capacity => {
                        requests.poll_next(codec, &mut reader, &mut batch.writer, context)
                    }
                    PollTarget::Requests => Poll::Pending,
                };
                if step.is_ready() {
                    return step;
                }
            }
            tasks.end_round();
            first = first.other();
            batch.send();
            in_flight_count.set(tasks.len());
            step
        });
        let answer = match step.await {
            ServerStep::Answer(answer) => Poll::Ready(answer),
            ServerStep::Request(Ok(request)) => tasks.start(start(request)),
            ServerStep::Request(Err(error)) => Poll::Ready(Err(error.into())),
            ServerStep::End => Poll::Pending,
        };
        if let Poll::Ready(answer) = answer {
            batch.put(codec, answer?)?;
        }
    }
    Ok(())
}

/// Answers that are sent together.
struct AnswerBatch<'a> {
    writer: Writer<'a>,
    ready: LinkBuffer,
}

impl AnswerBatch<'_> {
    fn put<C: Codec>(&mut self, codec: &C, answer: C::Frame) -> io::Result<()> {
        codec.encode(answer, &mut self.ready)?;
        if self.ready.len() >= FLUSH_THRESHOLD {
            self.send();
        }
        Ok(())
    }

    fn send(&mut self) {
        if !self.ready.is_empty() {
            self.writer.append(std::mem::take(&mut self.ready));
            self.writer.send_unless_running();
        }
    }
}

impl Drop for AnswerBatch<'_> {
    /// Sends the answers that were ready before a request failed or panicked.
    fn drop(&mut self) {
        self.send();
    }
}

/// The requests in progress, as the connection counts them.
enum InFlightCount {
    /// No request has waited yet.
    Unregistered(ConnectionHandle),
    Registered(InFlightGuard),
}

impl InFlightCount {
    #[inline]
    fn set(&mut self, requests: usize) {
        match self {
            Self::Registered(in_flight) => in_flight.set(requests),
            Self::Unregistered(_) if requests == 0 => {}
            Self::Unregistered(handle) => {
                if let Some(mut in_flight) = handle.in_flight() {
                    in_flight.set(requests);
                    *self = Self::Registered(in_flight);
                }
            }
        }
    }
}

/// What a poll of the handler polls. The two alternate in being first, since either may use up the
/// budget of every poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PollTarget {
    Tasks,
    Requests,
}

impl PollTarget {
    fn other(self) -> Self {
        match self {
            Self::Tasks => Self::Requests,
            Self::Requests => Self::Tasks,
        }
    }

    fn both(self) -> [Self; 2] {
        [self, self.other()]
    }
}

/// The next step of a connection.
enum ServerStep<F> {
    /// A task has completed.
    Answer(Result<F, BoxError>),
    Request(io::Result<F>),
    /// No more requests are accepted.
    End,
}

/// Reads the requests of a connection.
struct RequestReader<'a> {
    drain: RequestDrain,
    /// The requests started since other tasks ran.
    started: usize,
    write_wait: SentWait<'a>,
    /// Has no time limit until a request starts to arrive.
    frame_wait: FrameWait<'a>,
}

impl<'a> RequestReader<'a> {
    fn new(conn: &Connection) -> Self {
        Self {
            drain: RequestDrain::new(conn),
            started: 0,
            write_wait: SentWait::default(),
            frame_wait: FrameWait::allow_idle(),
        }
    }

    /// Polls for the next request, if it may start now.
    fn poll_next<C: Codec>(
        &mut self,
        codec: &C,
        reader: &mut Reader<'a>,
        writer: &mut Writer<'a>,
        context: &mut Context<'_>,
    ) -> Poll<ServerStep<C::Frame>> {
        if self.drain.has_ended() {
            return Poll::Pending;
        }
        if self.started == MAX_BATCH {
            self.started = 0;
            wake_by_ref(context.waker());
            return Poll::Pending;
        }
        let polled = match writer.poll_writable(context, &mut self.write_wait) {
            Poll::Ready(Ok(())) => {
                let next = reader.poll_frame(codec, &mut self.frame_wait, context);
                self.drain.observe(next)
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        match polled {
            Poll::Ready(Ok(Some(request))) => {
                self.started += 1;
                self.frame_wait = FrameWait::allow_idle();
                Poll::Ready(ServerStep::Request(Ok(request)))
            }
            Poll::Ready(Ok(None)) => Poll::Ready(ServerStep::End),
            Poll::Ready(Err(error)) => Poll::Ready(ServerStep::Request(Err(error))),
            Poll::Pending => {
                self.started = 0;
                Poll::Pending
            }
        }
    }
}
