// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Client`]: calls of many tasks on one connection.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
#[cfg(feature = "tower")]
use std::pin::Pin;
#[cfg(feature = "tower")]
use std::task::Context;
use std::task::Poll;
use std::time::Instant;

use netpoll_buffer::LinkBuffer;

use super::lane::{Lane, Pending};
use super::message::CallCodec;
use super::options::ClientOptions;
use super::route::Route;
use crate::connection::Connection;
use crate::connection::write_queue::SendError;
use crate::dialer::Dialer;
use crate::dialer::target::ToTarget;
use crate::fairness;
#[cfg(feature = "tower")]
use crate::permits::Acquire;
use crate::permits::{Permit, Permits};
use crate::sync::Arc;
use crate::time::{Elapsed, timeout_at};

/// Calls a server, for any number of tasks on any threads, over one connection. Clones are the same
/// client; the last one that is dropped closes the connection.
///
/// Answers may come in any order. A call that is dropped, or whose time is up, frees its place at
/// once, and its answer, if it comes after all, is counted and thrown away. From when the end of the
/// connection begins (a close, the peer's end, a failed send, a timeout, its age) it takes no new call: a
/// client that was made with a [`Dialer`](Self::dialing) makes another connection for the next one, and
/// for those that the old one had not taken. Calls under way fail with the reason as soon as no answer
/// can come. A server of [`serve`](super::serve) that drains answers what it has taken before its FIN: a
/// call that fails with [`PeerFin`](crate::CloseReason::PeerFin) in [`Closed`](crate::Closed) was not
/// taken by such a server.
///
/// ```no_run
/// use netpoll::codec::LengthField;
/// use netpoll::mux::{Client, ClientOptions, Message, Numbered};
/// use netpoll::Dialer;
///
/// # async fn example() -> std::io::Result<()> {
/// let codec = Numbered::new(LengthField::new());
/// let client =
///     Client::dialing(Dialer::new(), "example.org:8080", codec, ClientOptions::default())?;
/// let answer = client.call(Message::new(b"hello")).await?;
/// println!("{} bytes", answer.body.len());
/// # Ok(()) }
/// ```
pub struct Client<C: CallCodec> {
    shared: Arc<Shared<C>>,
    /// A turn that was waited for before there is a call, which is this clone's alone.
    #[cfg(feature = "tower")]
    ahead: Ahead,
}

/// A turn ahead of its call.
#[cfg(feature = "tower")]
#[derive(Debug, Default)]
enum Ahead {
    #[default]
    None,
    Waits(Acquire),
    Taken(Permit),
}

/// On how many connections that end at once a call is begun before it fails.
const ATTEMPTS: usize = 3;

struct Shared<C: CallCodec> {
    codec: Arc<C>,
    options: ClientOptions,
    turns: Arc<Permits>,
    route: Route<C::Frame>,
}

/// What a client is doing, and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Calls that are under way on the connection.
    pub in_flight: usize,
    /// Calls that wait for their turn.
    pub waiting: usize,
    /// Answers, on the connection there is, that were no call's: late, twice, or unknown.
    pub strays: u64,
    /// Connections that were made.
    pub connections: u64,
}

impl<C: CallCodec> Client<C> {
    /// A client of the server at the other end of `conn`, which nobody else may use. When the
    /// connection ends, so does the client.
    #[must_use]
    pub fn new(conn: Connection, codec: C) -> Self {
        let codec = Arc::new(codec);
        let route = Route::only(Lane::open(conn, &codec, 0));
        Self::on(codec, ClientOptions::default(), route)
    }

    /// As [`new`](Self::new), with bounds of the caller's.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::InvalidConfig), naming the field, for options that cannot work.
    pub fn with_options(conn: Connection, codec: C, options: ClientOptions) -> io::Result<Self> {
        options.check()?;
        let codec = Arc::new(codec);
        let route = Route::only(Lane::open(conn, &codec, 0));
        Ok(Self::on(codec, options, route))
    }

    /// A client that dials `target`, an address or a name, when it is first called, and again when it is called after its
    /// connection has ended. One call dials, and others wait for it. After a dial that failed
    /// nobody dials for as long as [`ClientOptions::backoff`] says: calls fail at once then, with
    /// the error of that dial.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::InvalidConfig), naming the field, for options that cannot work, those of
    /// the dialer included.
    pub fn dialing<T>(
        dialer: Dialer,
        target: T,
        codec: C,
        options: ClientOptions,
    ) -> io::Result<Self>
    where
        T: ToTarget + Send + Sync + 'static,
    {
        options.check()?;
        dialer.check()?;
        let route = Route::dialing(dialer, target);
        Ok(Self::on(Arc::new(codec), options, route))
    }

    fn on(codec: Arc<C>, options: ClientOptions, route: Route<C::Frame>) -> Self {
        let turns = Permits::new(options.max_in_flight);
        Self {
            shared: Arc::new(Shared {
                codec,
                options,
                turns,
                route,
            }),
            #[cfg(feature = "tower")]
            ahead: Ahead::None,
        }
    }

    /// Sends `request` with an id of the client's, and waits for its answer. Within
    /// [`ClientOptions::timeout`]; costs a clock read for it, and a few locks for a few
    /// instructions each. Runs on the calling task; the answer is read on the connection's poller.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] (`TimedOut`) when the time is up; why the connection has ended, or could not be
    /// made, errno kept; what the codec says of a request that cannot be encoded, or is larger than
    /// the connection takes.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped is given up. The request may have been sent.
    pub async fn call(&self, request: C::Frame) -> io::Result<C::Frame> {
        self.call_until(self.shared.deadline(), None, request).await
    }

    /// As [`call`](Self::call), until `deadline` in place of the client's timeout.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// That of [`call`](Self::call).
    pub async fn call_by(&self, deadline: Instant, request: C::Frame) -> io::Result<C::Frame> {
        self.call_until(Some(deadline), None, request).await
    }

    async fn call_until(
        &self,
        deadline: Option<Instant>,
        turn: Option<Permit>,
        mut request: C::Frame,
    ) -> io::Result<C::Frame> {
        fairness::proceed().await;
        let shared = &*self.shared;
        let _turn = match turn {
            Some(turn) => turn,
            None => shared.turn(deadline).await?,
        };
        let (mut lane, mut call) = shared.begin(deadline).await?;
        shared.codec.set_id(&mut request, call.id);
        let id = call.id;
        let mut buffer = LinkBuffer::new();
        shared.codec.encode(request, &mut buffer)?;
        // A connection whose end begins before it has taken the request has not sent any of it.
        let mut attempts = 1;
        while let Err(unsent) = send(&lane, buffer, &call, deadline).await {
            buffer = unsent.unless(|| attempts == ATTEMPTS || !shared.may_go_another_way(&lane))?;
            attempts += 1;
            drop(call);
            (lane, call) = shared.begin(deadline).await?;
            call.know_as(id);
        }
        poll_fn(|context| call.poll(context)).await
    }

    /// Closes the connection: calls under way fail at once, with [`Closed`](crate::Closed). One that is
    /// made after it makes another connection, if the client dials.
    pub fn close(&self) {
        if let Some(lane) = self.shared.route.current() {
            lane.close();
        }
    }

    /// Whether it has a connection that takes calls, as far as is known: its end has not begun. Two
    /// locks.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let lane = self.shared.route.current();
        lane.is_some_and(|lane| lane.closing().is_none())
    }

    /// What it is doing, and has done. A few locks.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        let lane = self.shared.route.current();
        ClientStats {
            in_flight: lane.as_ref().map_or(0, |lane| lane.len()),
            waiting: self.shared.turns.waiting(),
            strays: lane.as_ref().map_or(0, |lane| lane.strays()),
            connections: self.shared.route.made(),
        }
    }
}

#[cfg(feature = "tower")]
impl<C: CallCodec> Client<C> {
    /// Waits for the turn of the next call.
    pub(crate) fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if matches!(self.ahead, Ahead::None) {
            self.ahead = Ahead::Waits(self.shared.turns.acquire());
        }
        if let Ahead::Waits(turn) = &mut self.ahead {
            let turn = std::task::ready!(Pin::new(turn).poll(context));
            self.ahead = Ahead::Taken(turn);
        }
        Poll::Ready(())
    }

    /// A call in the turn that was waited for, if one was.
    pub(crate) fn call_in_turn(
        &mut self,
        request: C::Frame,
    ) -> impl Future<Output = io::Result<C::Frame>> + Send + use<C> {
        let turn = match std::mem::take(&mut self.ahead) {
            Ahead::Taken(turn) => Some(turn),
            Ahead::None | Ahead::Waits(_) => None,
        };
        let (client, deadline) = (self.clone(), self.shared.deadline());
        async move { client.call_until(deadline, turn, request).await }
    }
}

impl<C: CallCodec> Shared<C> {
    /// A call on a connection that takes it.
    async fn begin(
        &self,
        deadline: Option<Instant>,
    ) -> io::Result<(Arc<Lane<C::Frame>>, Pending<C::Frame>)> {
        let mut attempts = 0;
        loop {
            let lane = self.lane(deadline).await?;
            attempts += 1;
            match lane.begin(deadline) {
                // Its end has begun since.
                Err(_) if attempts < ATTEMPTS && self.may_go_another_way(&lane) => {}
                begun => return begun.map(|call| (lane, call)),
            }
        }
    }

    /// Whether a request that `lane` has not taken goes by another connection.
    fn may_go_another_way(&self, lane: &Lane<C::Frame>) -> bool {
        self.route.dials() && lane.closing().is_some()
    }

    fn deadline(&self) -> Option<Instant> {
        let timeout = self.options.timeout?;
        Instant::now().checked_add(timeout)
    }

    async fn turn(&self, deadline: Option<Instant>) -> io::Result<Permit> {
        match (self.turns.try_acquire(), deadline) {
            (Some(turn), _) => Ok(turn),
            (None, Some(deadline)) => Ok(timeout_at(deadline, self.turns.acquire()).await?),
            (None, None) => Ok(self.turns.acquire().await),
        }
    }

    async fn lane(&self, deadline: Option<Instant>) -> io::Result<Arc<Lane<C::Frame>>> {
        if let Some(lane) = self.route.current()
            && lane.closing().is_none()
        {
            return Ok(lane);
        }
        let opened = self.route.open(&self.codec, &self.options.backoff);
        match deadline {
            Some(deadline) => timeout_at(deadline, opened).await?,
            None => opened.await,
        }
    }
}

/// A request that was not sent.
#[derive(Debug)]
enum Unsent {
    /// It is whole, and may be sent another way.
    Whole(SendError),
    Lost(io::Error),
}

impl Unsent {
    /// The request, to be sent another way, unless `given_up`.
    fn unless(self, given_up: impl FnOnce() -> bool) -> io::Result<LinkBuffer> {
        match self {
            Self::Whole(unsent) if !given_up() => Ok(unsent.buffer),
            Self::Whole(unsent) => Err(unsent.error),
            Self::Lost(error) => Err(error),
        }
    }
}

/// Sends the request of `call`, within its time.
async fn send<F: Send + 'static>(
    lane: &Lane<F>,
    buffer: LinkBuffer,
    call: &Pending<F>,
    deadline: Option<Instant>,
) -> Result<(), Unsent> {
    let unsent = match lane.queue.try_send(buffer) {
        Err(unsent) if unsent.error.kind() == io::ErrorKind::WouldBlock => unsent.buffer,
        other => return other.map_err(Unsent::Whole),
    };
    let mut sent = std::pin::pin!(lane.queue.send(unsent));
    poll_fn(|context| {
        // First, since it has the request if the connection has ended.
        if let Poll::Ready(sent) = sent.as_mut().poll(context) {
            return Poll::Ready(sent.map_err(Unsent::Whole));
        }
        let lost = |error| Poll::Ready(Err(Unsent::Lost(error)));
        match call.poll(context) {
            // Its time is up, or the client was closed.
            Poll::Ready(Err(error)) => lost(error),
            // Nobody can have answered what was not sent.
            Poll::Ready(Ok(_)) => lost(io::ErrorKind::InvalidData.into()),
            Poll::Pending if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                lost(Elapsed.into())
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

impl<C: CallCodec> Clone for Client<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            #[cfg(feature = "tower")]
            ahead: Ahead::None,
        }
    }
}

impl<C: CallCodec> fmt::Debug for Client<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("Client")
            .field("stats", &stats)
            .finish_non_exhaustive()
    }
}

impl<C: CallCodec> Drop for Shared<C> {
    fn drop(&mut self) {
        if let Some(lane) = self.route.current() {
            lane.close();
        }
    }
}
