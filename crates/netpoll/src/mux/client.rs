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

use super::client_connection::{ClientConnection, PendingCall};
use super::connector::Connector;
use super::message::CallCodec;
use super::options::ClientOptions;
use crate::connection::Connection;
use crate::connection::write_queue::SendError;
use crate::dialer::Dialer;
use crate::dialer::target::ToTarget;
use crate::fairness;
#[cfg(feature = "tower")]
use crate::semaphore::Acquire;
use crate::semaphore::{Permit, Semaphore};
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
    shared: Arc<ClientShared<C>>,
    /// A turn that was waited for before there is a call, which is this clone's alone.
    #[cfg(feature = "tower")]
    reserved: ReservedPermit,
}

/// A turn ahead of its call.
#[cfg(feature = "tower")]
#[derive(Debug, Default)]
enum ReservedPermit {
    #[default]
    None,
    Pending(Acquire),
    Ready(Permit),
}

/// On how many connections that end at once a call is begun before it fails.
const MAX_ATTEMPTS: usize = 3;

struct ClientShared<C: CallCodec> {
    codec: Arc<C>,
    options: ClientOptions,
    semaphore: Arc<Semaphore>,
    connector: Connector<C::Frame>,
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
    pub unmatched_answers: u64,
    /// Connections that were made.
    pub connections: u64,
}

impl<C: CallCodec> Client<C> {
    /// A client of the server at the other end of `conn`, which nobody else may use. When the
    /// connection ends, so does the client.
    #[must_use]
    pub fn new(conn: Connection, codec: C) -> Self {
        let codec = Arc::new(codec);
        let connector = Connector::fixed(ClientConnection::open(conn, &codec, 0));
        Self::build(codec, ClientOptions::default(), connector)
    }

    /// As [`new`](Self::new), with bounds of the caller's.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::InvalidConfig), naming the field, for options that cannot work.
    pub fn with_options(conn: Connection, codec: C, options: ClientOptions) -> io::Result<Self> {
        options.check()?;
        let codec = Arc::new(codec);
        let connector = Connector::fixed(ClientConnection::open(conn, &codec, 0));
        Ok(Self::build(codec, options, connector))
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
        let connector = Connector::dialing(dialer, target);
        Ok(Self::build(Arc::new(codec), options, connector))
    }

    fn build(codec: Arc<C>, options: ClientOptions, connector: Connector<C::Frame>) -> Self {
        let semaphore = Semaphore::new(options.max_in_flight);
        Self {
            shared: Arc::new(ClientShared {
                codec,
                options,
                semaphore,
                connector,
            }),
            #[cfg(feature = "tower")]
            reserved: ReservedPermit::None,
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
        permit: Option<Permit>,
        mut request: C::Frame,
    ) -> io::Result<C::Frame> {
        fairness::proceed().await;
        let shared = &*self.shared;
        let _permit = match permit {
            Some(permit) => permit,
            None => shared.acquire_permit(deadline).await?,
        };
        let (mut lane, mut call) = shared.start_call(deadline).await?;
        shared.codec.set_id(&mut request, call.id);
        let id = call.id;
        let mut buffer = LinkBuffer::new();
        shared.codec.encode(request, &mut buffer)?;
        // A connection whose end begins before it has taken the request has not sent any of it.
        let mut attempts = 1;
        while let Err(unsent_request) = send(&lane, buffer, &call, deadline).await {
            buffer = unsent_request
                .into_buffer_unless(|| attempts == MAX_ATTEMPTS || !shared.may_retry(&lane))?;
            attempts += 1;
            drop(call);
            (lane, call) = shared.start_call(deadline).await?;
            call.add_alias(id);
        }
        poll_fn(|context| call.poll(context)).await
    }

    /// Closes the connection: calls under way fail at once, with [`Closed`](crate::Closed). One that is
    /// made after it makes another connection, if the client dials.
    pub fn close(&self) {
        if let Some(connection) = self.shared.connector.current() {
            connection.close();
        }
    }

    /// Whether it has a connection that takes calls, as far as is known: its end has not begun. Two
    /// locks.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let connection = self.shared.connector.current();
        connection.is_some_and(|connection| connection.close_reason().is_none())
    }

    /// What it is doing, and has done. A few locks.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        let connection = self.shared.connector.current();
        ClientStats {
            in_flight: connection.as_ref().map_or(0, |connection| connection.len()),
            waiting: self.shared.semaphore.waiter_count(),
            unmatched_answers: connection
                .as_ref()
                .map_or(0, |connection| connection.unmatched_answers()),
            connections: self.shared.connector.dialed(),
        }
    }
}

#[cfg(feature = "tower")]
impl<C: CallCodec> Client<C> {
    /// Waits for the turn of the next call.
    pub(crate) fn poll_permit(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if matches!(self.reserved, ReservedPermit::None) {
            self.reserved = ReservedPermit::Pending(self.shared.semaphore.acquire());
        }
        if let ReservedPermit::Pending(turn) = &mut self.reserved {
            let permit = std::task::ready!(Pin::new(turn).poll(context));
            self.reserved = ReservedPermit::Ready(permit);
        }
        Poll::Ready(())
    }

    /// A call in the turn that was waited for, if one was.
    pub(crate) fn call_with_permit(
        &mut self,
        request: C::Frame,
    ) -> impl Future<Output = io::Result<C::Frame>> + Send + use<C> {
        let permit = match std::mem::take(&mut self.reserved) {
            ReservedPermit::Ready(turn) => Some(turn),
            ReservedPermit::None | ReservedPermit::Pending(_) => None,
        };
        let (client, deadline) = (self.clone(), self.shared.deadline());
        async move { client.call_until(deadline, permit, request).await }
    }
}

impl<C: CallCodec> ClientShared<C> {
    /// A call on a connection that takes it.
    async fn start_call(
        &self,
        deadline: Option<Instant>,
    ) -> io::Result<(Arc<ClientConnection<C::Frame>>, PendingCall<C::Frame>)> {
        let mut attempts = 0;
        loop {
            let connection = self.connection(deadline).await?;
            attempts += 1;
            match connection.start_call(deadline) {
                // Its end has begun since.
                Err(_) if attempts < MAX_ATTEMPTS && self.may_retry(&connection) => {}
                begun => return begun.map(|call| (connection, call)),
            }
        }
    }

    /// Whether a request that `lane` has not taken goes by another connection.
    fn may_retry(&self, connection: &ClientConnection<C::Frame>) -> bool {
        self.connector.can_redial() && connection.close_reason().is_some()
    }

    fn deadline(&self) -> Option<Instant> {
        let timeout = self.options.timeout?;
        Instant::now().checked_add(timeout)
    }

    async fn acquire_permit(&self, deadline: Option<Instant>) -> io::Result<Permit> {
        match (self.semaphore.try_acquire(), deadline) {
            (Some(turn), _) => Ok(turn),
            (None, Some(deadline)) => Ok(timeout_at(deadline, self.semaphore.acquire()).await?),
            (None, None) => Ok(self.semaphore.acquire().await),
        }
    }

    async fn connection(
        &self,
        deadline: Option<Instant>,
    ) -> io::Result<Arc<ClientConnection<C::Frame>>> {
        if let Some(connection) = self.connector.current()
            && connection.close_reason().is_none()
        {
            return Ok(connection);
        }
        let opened = self.connector.connect(&self.codec, &self.options.backoff);
        match deadline {
            Some(deadline) => timeout_at(deadline, opened).await?,
            None => opened.await,
        }
    }
}

/// A request that was not sent.
#[derive(Debug)]
enum UnsentRequest {
    /// It is whole, and may be sent another way.
    Retryable(SendError),
    Lost(io::Error),
}

impl UnsentRequest {
    /// The request, to be sent another way, unless `given_up`.
    fn into_buffer_unless(self, is_final: impl FnOnce() -> bool) -> io::Result<LinkBuffer> {
        match self {
            Self::Retryable(unsent) if !is_final() => Ok(unsent.buffer),
            Self::Retryable(unsent) => Err(unsent.error),
            Self::Lost(error) => Err(error),
        }
    }
}

/// Sends the request of `call`, within its time.
async fn send<F: Send + 'static>(
    connection: &ClientConnection<F>,
    buffer: LinkBuffer,
    call: &PendingCall<F>,
    deadline: Option<Instant>,
) -> Result<(), UnsentRequest> {
    let unsent = match connection.queue.try_send(buffer) {
        Err(unsent) if unsent.error.kind() == io::ErrorKind::WouldBlock => unsent.buffer,
        other => return other.map_err(UnsentRequest::Retryable),
    };
    let mut sent = std::pin::pin!(connection.queue.send(unsent));
    poll_fn(|context| {
        // First, since it has the request if the connection has ended.
        if let Poll::Ready(sent) = sent.as_mut().poll(context) {
            return Poll::Ready(sent.map_err(UnsentRequest::Retryable));
        }
        let lost = |error| Poll::Ready(Err(UnsentRequest::Lost(error)));
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
            reserved: ReservedPermit::None,
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

impl<C: CallCodec> Drop for ClientShared<C> {
    fn drop(&mut self) {
        if let Some(connection) = self.connector.current() {
            connection.close();
        }
    }
}
