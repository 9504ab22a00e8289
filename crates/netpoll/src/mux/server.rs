// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`serve`]: each request of a connection in a task of its own.
//!
//! All tasks of a connection are polled within the connection's handler, where that runs; so they
//! need no lock, no channel and no executor, and the answers of a burst leave together. Requests
//! are taken while fewer than the limit are under way and the output is below its mark: a peer that
//! sends more, or does not read, waits.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use netpoll_buffer::LinkBuffer;

use super::request_drain::RequestDrain;
use super::task_set::TaskSet;
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

/// The most requests of a connection that are under way, unless told otherwise.
const DEFAULT_MAX_IN_FLIGHT: usize = 256;

/// The most requests that are begun before what is there is sent and others get their turn.
const MAX_BATCH: usize = 64;

/// So many bytes of answers are given to the connection before all that is there was answered.
const FLUSH_THRESHOLD: usize = 32 << 10;

/// A handler of connections, for [`on_connection`](crate::Builder::on_connection), that calls
/// `handler` with each request, many at once: a request that awaits holds up no other. What it
/// returns is the answer, sent when it is there, in whatever order. With ids the answer has to have
/// its request's: see [`Message::of`](super::Message::of).
///
/// At most 256 requests of a connection are under way; more wait in the kernel. When the peer ends
/// its stream, what is under way is answered first. So it is when the connection drains, for a
/// [shutdown](crate::LoopHandle::shutdown) or because of its [age](crate::Timeouts::max_age): no
/// request is taken any more that the peer had not begun to send, what was taken is answered, and then
/// the connection is closed by a FIN. An `Err`, or a panic, ends the connection.
///
/// A request that is done without waiting costs no allocation beyond those of its codec.
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

/// As [`serve`], with at most `in_flight` requests of a connection under way; one, if that is 0.
pub fn serve_within<C, H>(
    in_flight: usize,
    codec: C,
    handler: H,
) -> impl AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static
where
    C: Codec,
    H: AsyncFn(C::Frame) -> Result<C::Frame, BoxError> + Send + Sync + 'static,
{
    async move |mut conn: Connection| {
        let mut tasks = TaskSet::new();
        let mut requests = RequestReader::new(&conn);
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
                            requests.poll_next(&codec, &mut reader, &mut batch.writer, context)
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
                ServerStep::Request(Ok(request)) => tasks.start(handler(request)),
                ServerStep::Request(Err(error)) => Poll::Ready(Err(error.into())),
                ServerStep::End => Poll::Pending,
            };
            if let Poll::Ready(answer) = answer {
                batch.put(&codec, answer?)?;
            }
        }
        Ok(())
    }
}

/// Answers that leave together.
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
    /// What was answered before a request that failed, or panicked, is sent.
    fn drop(&mut self) {
        self.send();
    }
}

/// The requests of a connection that wait for something, as the connection knows of them.
enum InFlightCount {
    /// None ever was.
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

/// What a poll looks at. They take turns at being the first: what one of them has may be enough for
/// all of the time of each poll.
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

/// What a connection goes on with.
enum ServerStep<F> {
    /// A task is done.
    Answer(Result<F, BoxError>),
    Request(io::Result<F>),
    /// There will be no more requests.
    End,
}

/// The requests that come on a connection.
struct RequestReader<'a> {
    drain: RequestDrain,
    /// Since others had their turn.
    started: usize,
    write_wait: SentWait<'a>,
    /// For as long as it takes until one begins.
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

    /// The next request, if it may be begun now.
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
