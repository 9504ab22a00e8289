// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`ClientBuilder`]: the options of a client that need the type of its messages.

use std::fmt;
use std::io;

use super::client::Client;
use super::connector::Connector;
use super::message::CallCodec;
use super::options::{ClientOptions, client_option_setters};
use crate::connection::Connection;
use crate::dialer::Dialer;
use crate::dialer::target::ToTarget;
use crate::error::InvalidConfig;

/// Builds a [`Client`]. Returned by [`Client::builder`].
///
/// ```
/// use std::sync::mpsc;
/// use std::time::Duration;
///
/// use netpoll::codec::LengthField;
/// use netpoll::mux::{Client, Message, Numbered};
/// use netpoll::Dialer;
///
/// # fn main() -> std::io::Result<()> {
/// let (news, received) = mpsc::channel();
/// let client = Client::builder(Numbered::new(LengthField::new()))
///     .timeout(Duration::from_secs(2))
///     .on_push(move |message: Message| drop(news.send(message)))
///     .dialing(Dialer::new(), "example.org:8080")?;
/// # drop((client, received));
/// # Ok(()) }
/// ```
#[must_use = "`connection` or `dialing` makes a client of it"]
pub struct ClientBuilder<C: CallCodec> {
    codec: C,
    options: ClientOptions,
    on_push: Option<Box<PushFn<C::Frame>>>,
}

/// Receives the pushes of a server.
type PushFn<F> = dyn Fn(F) + Send + Sync;

/// The meaning of the frames that a client receives.
pub(super) struct Protocol<C: CallCodec> {
    pub(super) codec: C,
    /// `None` if pushes are treated as unmatched answers.
    pub(super) pushes: Option<Pushes<C::Frame>>,
}

/// The frames that are pushes, and their receiver.
pub(super) struct Pushes<F> {
    pub(super) id: u64,
    pub(super) on_push: Box<PushFn<F>>,
}

impl<C: CallCodec> ClientBuilder<C> {
    pub(super) fn new(codec: C) -> Self {
        Self {
            codec,
            options: ClientOptions::default(),
            on_push: None,
        }
    }

    /// Sets the limits of the client. The methods below set one each.
    pub fn options(mut self, options: ClientOptions) -> Self {
        self.options = options;
        self
    }

    client_option_setters!();

    /// Returns the options that the setters change.
    fn client_options(&mut self) -> &mut ClientOptions {
        &mut self.options
    }

    /// Sets the function that receives the messages which the server sends without a call: those
    /// with the codec's [`push_id`](CallCodec::push_id). Any other message without a call is
    /// dropped, and counted in [`unmatched_answers`](super::ClientStats::unmatched_answers). So are
    /// pushes to a client without such a function.
    ///
    /// It runs on the poller of the connection, in the order of the messages, and receives every
    /// push from the first byte of a connection on. It must not block: later answers of this
    /// connection, and the other connections of the poller, wait for it. To do more than a few
    /// microseconds of work, pass the message to a channel. The client does not bound the number of
    /// messages in that channel. A panic closes the connection. A clone of the client in `receiver`
    /// would keep the client open for good.
    ///
    /// A client that dials again has a new connection without the subscriptions of the old one, and
    /// dials at its next call only.
    pub fn on_push(mut self, receiver: impl Fn(C::Frame) + Send + Sync + 'static) -> Self {
        self.on_push = Some(Box::new(receiver));
        self
    }

    /// Creates a client of the server at the other end of `conn`, as [`Client::new`] does.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::error::ErrorKind::InvalidConfig), naming the field, for invalid options, and for
    /// `on_push` if the codec has no [`push_id`](CallCodec::push_id).
    pub fn connection(self, conn: Connection) -> io::Result<Client<C>> {
        let (protocol, options) = self.check()?;
        Ok(Client::of_connection(conn, protocol, options))
    }

    /// Creates a client that dials `target`, as [`Client::dialing`] does.
    ///
    /// # Errors
    ///
    /// As [`connection`](Self::connection), and for invalid options of the dialer.
    pub fn dialing<T>(self, dialer: Dialer, target: T) -> io::Result<Client<C>>
    where
        T: ToTarget + Send + Sync + 'static,
    {
        let (protocol, options) = self.check()?;
        dialer.check()?;
        let connector = Connector::dialing(dialer, target);
        Ok(Client::of_connector(connector, protocol, options))
    }

    fn check(self) -> Result<(Protocol<C>, ClientOptions), InvalidConfig> {
        self.options.check()?;
        let pushes = match (self.on_push, self.codec.push_id()) {
            (None, _) => None,
            (Some(on_push), Some(id)) => Some(Pushes { id, on_push }),
            (Some(_), None) => {
                let expected = "needs a codec with a push_id";
                return Err(InvalidConfig::new("on_push", expected));
            }
        };
        let codec = self.codec;
        Ok((Protocol { codec, pushes }, self.options))
    }
}

impl<C: CallCodec> fmt::Debug for ClientBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("options", &self.options)
            .field("has_on_push", &self.on_push.is_some())
            .finish_non_exhaustive()
    }
}
