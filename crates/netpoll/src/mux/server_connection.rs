// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`ServerConnection`]: a connection as the handlers of its requests see it.
//!
//! It holds the shared state weakly, and makes a write queue for each push only: a handle that a
//! user keeps delays neither the close of the connection nor its drain.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Weak;

use netpoll_buffer::LinkBuffer;
use netpoll_sys::PeerCredentials;
use netpoll_sys::credentials::peer_credentials;

use super::message::CallCodec;
use crate::addr::Addr;
use crate::connection::Connection;
use crate::connection::handle::ConnectionHandle;
use crate::connection::shared::Shared;
use crate::sync::Arc;

/// The connection of a request, for handlers of [`serve_with`](super::serve_with) and
/// [`Server`](super::Server). `F` is the type of the messages, and `S` the type of the
/// [state](super::Server::state) that all requests of the connection share.
///
/// A clone costs two reference counts. It may be kept after the request, on any thread, to
/// [`push`](Self::push) messages later. It does not keep the connection open, and a drain does not
/// wait for it.
///
/// ```
/// use netpoll::codec::LengthField;
/// use netpoll::mux::{self, Message, Numbered, ServerConnection};
///
/// let codec = Numbered::new(LengthField::new());
/// let subscribe = async |request: Message, conn: &ServerConnection<Message>| {
///     println!("{} subscribes", conn.peer_addr());
///     let subscriber = conn.clone();
///     std::thread::spawn(move || subscriber.try_push(Message::new(b"news")));
///     Ok(request)
/// };
/// let builder = netpoll::EventLoop::builder().on_connection(mux::serve_with(codec, subscribe));
/// # drop(builder);
/// ```
pub struct ServerConnection<F, S = ()> {
    inner: Arc<ConnectionContext<F>>,
    state: Arc<S>,
}

struct ConnectionContext<F> {
    peer: Addr,
    handle: ConnectionHandle,
    shared: Weak<Shared>,
    encoder: Arc<dyn EncodePush<F>>,
}

/// Encodes pushes. Hides the type of the codec.
trait EncodePush<F>: Send + Sync {
    fn encode_push(&self, message: F) -> io::Result<LinkBuffer>;
}

impl<C: CallCodec> EncodePush<C::Frame> for C {
    fn encode_push(&self, mut message: C::Frame) -> io::Result<LinkBuffer> {
        let Some(id) = self.push_id() else {
            let text = "the codec has no id for pushes (CallCodec::push_id)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        self.set_id(&mut message, id);
        let mut buffer = LinkBuffer::new();
        self.encode(message, &mut buffer)?;
        Ok(buffer)
    }
}

impl<F: 'static> ServerConnection<F> {
    pub(super) fn new<C: CallCodec<Frame = F>>(conn: &Connection, codec: &Arc<C>) -> Self {
        let codec: Arc<C> = Arc::clone(codec);
        Self {
            inner: Arc::new(ConnectionContext {
                peer: conn.peer_addr(),
                handle: conn.handle(),
                shared: Arc::downgrade(conn.shared()),
                encoder: codec,
            }),
            state: Arc::new(()),
        }
    }

    /// Returns the same connection with `state`.
    pub(super) fn with_state<S>(self, state: S) -> ServerConnection<F, S> {
        ServerConnection {
            inner: self.inner,
            state: Arc::new(state),
        }
    }
}

impl<F, S> ServerConnection<F, S> {
    /// Returns the address of the peer, as [`Connection::peer_addr`] does. No system call, also
    /// after the connection has ended.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.inner.peer
    }

    /// Returns the address of this side. One system call.
    ///
    /// # Errors
    ///
    /// `NotConnected` if the connection is gone; any error of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Addr> {
        self.shared()?.local_addr()
    }

    /// Returns the credentials that the peer process of a Unix socket had when it connected. One
    /// system call.
    ///
    /// # Errors
    ///
    /// `NotConnected` if the connection is gone; `ENOPROTOOPT` (as the OS error) if it is not a
    /// Unix socket.
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        peer_credentials(self.shared()?.as_fd())
    }

    /// Returns the handle of the connection, to close it, to change its timeouts, or to await its
    /// end.
    #[must_use]
    pub fn connection(&self) -> ConnectionHandle {
        self.inner.handle.clone()
    }

    /// Returns the state of the connection, which all its requests share.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Sends `message` to the client without a call: the codec's
    /// [push id](CallCodec::push_id) replaces its id. Waits while the unsent output of the
    /// connection is at its high watermark, as [`WriteQueue::send`](super::WriteQueue::send) does,
    /// and `Ok` means as there that the message is queued.
    ///
    /// Pushes of one task leave in their order. A push that a handler awaits is sent before the
    /// answer of that handler. Answers of other requests are sent before it or after it.
    ///
    /// Costs a few locks, and the allocations of the codec; the first push of a connection makes
    /// three more.
    ///
    /// # Errors
    ///
    /// * The reason of the end, if the connection has ended; `NotConnected` or the reason, if it is
    ///   gone.
    /// * `Unsupported` if the codec has no push id.
    /// * The codec's error for a message that it cannot encode.
    /// * [`ErrorKind::FrameTooLarge`](crate::error::ErrorKind::FrameTooLarge) for a message larger than the connection's
    ///   [`max_output`](crate::options::ConnOptions::max_output) minus its
    ///   [`write_high`](crate::options::ConnOptions::write_high).
    ///
    /// # Cancel safety
    ///
    /// A dropped future has sent nothing.
    pub async fn push(&self, message: F) -> io::Result<()> {
        let buffer = self.inner.encoder.encode_push(message)?;
        Ok(self.inner.handle.write_queue().send(buffer).await?)
    }

    /// As [`push`](Self::push), without waiting. For code that cannot await, and for publishers
    /// that drop messages of subscribers that do not keep up.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push); `WouldBlock` while the output is full, or other senders wait.
    pub fn try_push(&self, message: F) -> io::Result<()> {
        let buffer = self.inner.encoder.encode_push(message)?;
        Ok(self.inner.handle.write_queue().try_send(buffer)?)
    }

    fn shared(&self) -> io::Result<Arc<Shared>> {
        let shared = self.inner.shared.upgrade();
        shared.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<F, S> Clone for ServerConnection<F, S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            state: Arc::clone(&self.state),
        }
    }
}

impl<F, S: fmt::Debug> fmt::Debug for ServerConnection<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConnection")
            .field("peer", &self.inner.peer)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
