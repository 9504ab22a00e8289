// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Client`]: the calls of many tasks on one connection.

use std::fmt;
use std::future::poll_fn;
use std::io;
#[cfg(feature = "tower")]
use std::pin::Pin;
#[cfg(feature = "tower")]
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use netpoll_buffer::LinkBuffer;

use super::client_builder::{ClientBuilder, Protocol};
use super::client_connection::{ClientConnection, PendingCall};
use super::client_stats::ClientStats;
use super::connector::Connector;
use super::message::CallCodec;
use super::options::ClientOptions;
use super::unsent_request::send;
use crate::connection::Connection;
use crate::dialer::Dialer;
use crate::dialer::target::ToTarget;
use crate::error::ErrorKind;
use crate::fairness;
#[cfg(feature = "tower")]
use crate::semaphore::Acquire;
use crate::semaphore::{Permit, Semaphore};
use crate::sync::Arc;
use crate::time::timeout_at;

/// Calls a server over one connection, from any number of tasks on any threads. Clones share one
/// client; dropping the last one closes the connection.
///
/// Answers may arrive in any order. A call that is dropped or times out frees its slot at once; its
/// answer, if it still arrives, is counted and dropped.
///
/// Once the connection starts to end (a close, the peer's FIN, a failed send, a timeout, its age),
/// it accepts no new call. A client that was created with a [`Dialer`](Self::dialing) opens another
/// connection for the next call, and for calls that the old connection had not accepted. Calls in
/// progress fail with the close reason as soon as no answer can arrive.
///
/// A server of [`serve`](super::serve) that drains answers the requests that it accepted before its
/// FIN. So a call that fails with [`PeerFin`](crate::CloseReason::PeerFin) in
/// [`ErrorKind::Closed`] was not accepted by such a server.
///
/// A server may also send messages without a call: see [`ClientBuilder::on_push`].
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
    /// The permit for the next call, which `poll_ready` of the tower service waits for. It belongs
    /// to this clone alone.
    #[cfg(feature = "tower")]
    reserved: ReservedPermit,
}

/// A permit that is acquired ahead of its call.
#[cfg(feature = "tower")]
#[derive(Debug, Default)]
enum ReservedPermit {
    #[default]
    None,
    Pending(Acquire),
    Ready(Permit),
}

/// The most connections on which a call is started before it fails, if each ends at once.
const MAX_ATTEMPTS: usize = 3;

struct ClientShared<C: CallCodec> {
    protocol: Arc<Protocol<C>>,
    options: ClientOptions,
    semaphore: Arc<Semaphore>,
    connector: Connector<C::Frame>,
}

impl<C: CallCodec> Client<C> {
    /// Creates a client of the server at the other end of `conn`. The client ends with the
    /// connection.
    #[must_use]
    pub fn new(conn: Connection, codec: C) -> Self {
        let protocol = Protocol {
            codec,
            pushes: None,
        };
        Self::of_connection(conn, protocol, ClientOptions::default())
    }

    /// As [`new`](Self::new), with other limits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`], naming the field, for
    /// invalid options.
    pub fn with_options(conn: Connection, codec: C, options: ClientOptions) -> io::Result<Self> {
        Self::builder(codec).options(options).connection(conn)
    }

    /// Creates a client that dials `target`, an address or a name, at its first call, and again at
    /// the first call after its connection has ended. One call dials, and concurrent ones wait for
    /// it. After a failed dial no call dials for the delay of [`ClientOptions::backoff`]: until
    /// then calls fail at once with the error of that dial.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`], naming the field, for
    /// invalid options, those of the dialer included.
    pub fn dialing<T>(
        dialer: Dialer,
        target: T,
        codec: C,
        options: ClientOptions,
    ) -> io::Result<Self>
    where
        T: ToTarget + Send + Sync + 'static,
    {
        Self::builder(codec)
            .options(options)
            .dialing(dialer, target)
    }

    /// Returns a builder, for a client that receives [pushes](ClientBuilder::on_push).
    pub fn builder(codec: C) -> ClientBuilder<C> {
        ClientBuilder::new(codec)
    }

    pub(super) fn of_connection(
        conn: Connection,
        protocol: Protocol<C>,
        options: ClientOptions,
    ) -> Self {
        let protocol = Arc::new(protocol);
        let connector = Connector::fixed(ClientConnection::open(conn, &protocol, 0));
        Self::build(protocol, options, connector)
    }

    pub(super) fn of_connector(
        connector: Connector<C::Frame>,
        protocol: Protocol<C>,
        options: ClientOptions,
    ) -> Self {
        Self::build(Arc::new(protocol), options, connector)
    }

    fn build(
        protocol: Arc<Protocol<C>>,
        options: ClientOptions,
        connector: Connector<C::Frame>,
    ) -> Self {
        let semaphore = Semaphore::new(options.max_in_flight);
        Self {
            shared: Arc::new(ClientShared {
                protocol,
                options,
                semaphore,
                connector,
            }),
            #[cfg(feature = "tower")]
            reserved: ReservedPermit::None,
        }
    }

    /// Sends `request` with an id that the client chooses, and returns its answer, within
    /// [`ClientOptions::timeout`]. Costs a clock read and a few short locks. Runs on the calling
    /// task; the answer is read on the connection's poller.
    ///
    /// # Errors
    ///
    /// [`Elapsed`](crate::time::Elapsed) (`TimedOut`) after the timeout; the reason why the
    /// connection ended or could not be opened, with its errno; the codec's error for a request
    /// that it cannot encode; an error for a request that is larger than the connection accepts.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the call. The request may have been sent.
    pub async fn call(&self, request: C::Frame) -> io::Result<C::Frame> {
        let answer = self.call_until(self.shared.deadline(), None, request);
        answer
            .await
            .map_err(|error| self.shared.timeout_error(error))
    }

    /// As [`call`](Self::call), with `deadline` in place of the client's timeout.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    pub async fn call_by(&self, deadline: Instant, request: C::Frame) -> io::Result<C::Frame> {
        let answer = self.call_until(Some(deadline), None, request);
        answer.await.map_err(|error| call_error(error, None))
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
        let (mut connection, mut call) = shared.start_call(deadline).await?;
        shared.protocol.codec.set_id(&mut request, call.id);
        let id = call.id;
        let mut buffer = LinkBuffer::new();
        shared.protocol.codec.encode(request, &mut buffer)?;
        // A connection that starts to end before it accepts the request has sent none of it.
        let mut attempts = 1;
        while let Err(unsent_request) = send(&connection, buffer, &call, deadline).await {
            buffer = unsent_request.into_buffer_unless(|| {
                attempts == MAX_ATTEMPTS || !shared.may_retry(&connection)
            })?;
            attempts += 1;
            drop(call);
            (connection, call) = shared.start_call(deadline).await?;
            call.add_alias(id);
        }
        poll_fn(|context| call.poll(context)).await
    }

    /// Closes the connection. Calls in progress fail at once with
    /// [`ErrorKind::Closed`]. A later call opens another
    /// connection if the client dials.
    pub fn close(&self) {
        if let Some(connection) = self.shared.connector.current() {
            connection.close();
        }
    }

    /// Returns whether the client has a connection that accepts calls, as far as is known. Costs
    /// two locks.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let connection = self.shared.connector.current();
        connection.is_some_and(|connection| connection.close_reason().is_none())
    }

    /// Returns the statistics of the client. Costs a few locks.
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
    /// Waits for the permit of the next call.
    pub(crate) fn poll_permit(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if matches!(self.reserved, ReservedPermit::None) {
            self.reserved = ReservedPermit::Pending(self.shared.semaphore.acquire());
        }
        if let ReservedPermit::Pending(acquire) = &mut self.reserved {
            let permit = std::task::ready!(Pin::new(acquire).poll(context));
            self.reserved = ReservedPermit::Ready(permit);
        }
        Poll::Ready(())
    }

    /// Makes a call with the permit that was acquired, if there is one.
    pub(crate) fn call_with_permit(
        &mut self,
        request: C::Frame,
    ) -> impl Future<Output = io::Result<C::Frame>> + Send + use<C> {
        let permit = match std::mem::take(&mut self.reserved) {
            ReservedPermit::Ready(permit) => Some(permit),
            ReservedPermit::None | ReservedPermit::Pending(_) => None,
        };
        let (client, deadline) = (self.clone(), self.shared.deadline());
        async move {
            let answer = client.call_until(deadline, permit, request).await;
            answer.map_err(|error| client.shared.timeout_error(error))
        }
    }
}

impl<C: CallCodec> ClientShared<C> {
    /// Starts a call on a connection that accepts it.
    async fn start_call(
        &self,
        deadline: Option<Instant>,
    ) -> io::Result<(Arc<ClientConnection<C::Frame>>, PendingCall<C::Frame>)> {
        let mut attempts = 0;
        loop {
            let connection = self.connection(deadline).await?;
            attempts += 1;
            match connection.start_call(deadline) {
                // The connection has started to end since.
                Err(_) if attempts < MAX_ATTEMPTS && self.may_retry(&connection) => {}
                started => return started.map(|call| (connection, call)),
            }
        }
    }

    /// Returns whether a request that `connection` has not accepted may go to another connection.
    fn may_retry(&self, connection: &ClientConnection<C::Frame>) -> bool {
        self.connector.can_redial() && connection.close_reason().is_some()
    }

    /// Adds the client's timeout to the error of a call that exceeded it.
    fn timeout_error(&self, error: io::Error) -> io::Error {
        call_error(error, self.options.timeout)
    }

    fn deadline(&self) -> Option<Instant> {
        let timeout = self.options.timeout?;
        Instant::now().checked_add(timeout)
    }

    async fn acquire_permit(&self, deadline: Option<Instant>) -> io::Result<Permit> {
        match (self.semaphore.try_acquire(), deadline) {
            (Some(permit), _) => Ok(permit),
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
        let opened = self
            .connector
            .connect(&self.protocol, &self.options.backoff);
        match deadline {
            Some(deadline) => timeout_at(deadline, opened).await?,
            None => opened.await,
        }
    }
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

/// Returns the error of a call that was given `after` to be answered.
fn call_error(error: io::Error, after: Option<Duration>) -> io::Error {
    match ErrorKind::payload(&error) {
        Some(ErrorKind::Elapsed) => ErrorKind::CallTimedOut { after }.into(),
        _ => error,
    }
}
