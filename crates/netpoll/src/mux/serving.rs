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

use super::intake::Intake;
use super::tasks::Tasks;
use crate::codec::Codec;
use crate::connection::Connection;
use crate::connection::frames::FrameWait;
use crate::connection::handle::ConnectionHandle;
use crate::connection::in_flight::InFlight;
use crate::connection::outbox::waiting::SentWait;
use crate::connection::reader::Reader;
use crate::connection::writer::Writer;
use crate::error::BoxError;
use crate::foreign::wake_by_ref;

/// The most requests of a connection that are under way, unless told otherwise.
const IN_FLIGHT: usize = 256;

/// The most requests that are begun before what is there is sent and others get their turn.
const BURST: usize = 64;

/// So many bytes of answers are given to the connection before all that is there was answered.
const PLENTY: usize = 32 << 10;

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
    serve_within(IN_FLIGHT, codec, handler)
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
        let mut tasks = Tasks::new();
        let mut requests = Requests::new(&conn);
        let mut under_way = UnderWay::Nothing(conn.handle());
        let mut first = Side::Tasks;
        let (mut reader, writer) = conn.split();
        let mut answers = Answers {
            writer,
            ready: LinkBuffer::new(),
        };
        while !requests.intake.has_ended() || tasks.len() > 0 {
            let has_place = tasks.len() < in_flight.max(1);
            let step = poll_fn(|context| {
                let mut step = Poll::Pending;
                for side in first.both() {
                    step = match side {
                        Side::Tasks => tasks.poll_next(context).map(Step::Answer),
                        Side::Requests if has_place => {
                            requests.poll_next(&codec, &mut reader, &mut answers.writer, context)
                        }
                        Side::Requests => Poll::Pending,
                    };
                    if step.is_ready() {
                        return step;
                    }
                }
                tasks.end_round();
                first = first.other();
                answers.send();
                under_way.set(tasks.len());
                step
            });
            let answer = match step.await {
                Step::Answer(answer) => Poll::Ready(answer),
                Step::Request(Ok(request)) => tasks.begin(handler(request)),
                Step::Request(Err(error)) => Poll::Ready(Err(error.into())),
                Step::End => Poll::Pending,
            };
            if let Poll::Ready(answer) = answer {
                answers.put(&codec, answer?)?;
            }
        }
        Ok(())
    }
}

/// Answers that leave together.
struct Answers<'a> {
    writer: Writer<'a>,
    ready: LinkBuffer,
}

impl Answers<'_> {
    fn put<C: Codec>(&mut self, codec: &C, answer: C::Frame) -> io::Result<()> {
        codec.encode(answer, &mut self.ready)?;
        if self.ready.len() >= PLENTY {
            self.send();
        }
        Ok(())
    }

    fn send(&mut self) {
        if !self.ready.is_empty() {
            self.writer.append(std::mem::take(&mut self.ready));
            self.writer.push_out();
        }
    }
}

impl Drop for Answers<'_> {
    /// What was answered before a request that failed, or panicked, is sent.
    fn drop(&mut self) {
        self.send();
    }
}

/// The requests of a connection that wait for something, as the connection knows of them.
enum UnderWay {
    /// None ever was.
    Nothing(ConnectionHandle),
    Counted(InFlight),
}

impl UnderWay {
    #[inline]
    fn set(&mut self, requests: usize) {
        match self {
            Self::Counted(in_flight) => in_flight.set(requests),
            Self::Nothing(_) if requests == 0 => {}
            Self::Nothing(handle) => {
                if let Some(mut in_flight) = handle.in_flight() {
                    in_flight.set(requests);
                    *self = Self::Counted(in_flight);
                }
            }
        }
    }
}

/// What a poll looks at. They take turns at being the first: what one of them has may be enough for
/// all of the time of each poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Tasks,
    Requests,
}

impl Side {
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
enum Step<F> {
    /// A task is done.
    Answer(Result<F, BoxError>),
    Request(io::Result<F>),
    /// There will be no more requests.
    End,
}

/// The requests that come on a connection.
struct Requests<'a> {
    intake: Intake,
    /// Since others had their turn.
    begun: usize,
    room: SentWait<'a>,
    /// For as long as it takes until one begins.
    next: FrameWait<'a>,
}

impl<'a> Requests<'a> {
    fn new(conn: &Connection) -> Self {
        Self {
            intake: Intake::of(conn),
            begun: 0,
            room: SentWait::default(),
            next: FrameWait::patient(),
        }
    }

    /// The next request, if it may be begun now.
    fn poll_next<C: Codec>(
        &mut self,
        codec: &C,
        reader: &mut Reader<'a>,
        writer: &mut Writer<'a>,
        context: &mut Context<'_>,
    ) -> Poll<Step<C::Frame>> {
        if self.intake.has_ended() {
            return Poll::Pending;
        }
        if self.begun == BURST {
            self.begun = 0;
            wake_by_ref(context.waker());
            return Poll::Pending;
        }
        let polled = match writer.poll_room(context, &mut self.room) {
            Poll::Ready(Ok(())) => {
                let next = reader.poll_frame(codec, &mut self.next, context);
                self.intake.take(next)
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        match polled {
            Poll::Ready(Ok(Some(request))) => {
                self.begun += 1;
                self.next = FrameWait::patient();
                Poll::Ready(Step::Request(Ok(request)))
            }
            Poll::Ready(Ok(None)) => Poll::Ready(Step::End),
            Poll::Ready(Err(error)) => Poll::Ready(Step::Request(Err(error))),
            Poll::Pending => {
                self.begun = 0;
                Poll::Pending
            }
        }
    }
}
