// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Dialer`]: connections to others.
//!
//! A dial made on a poller's thread binds the connection to that poller. Elsewhere it goes to a set
//! of pollers that all dialers of the process [share](crate::poll::home), and that starts with the first such
//! dial: the one global there is. A socket that is connected already is [adopted](adopt).

mod adopt;
mod connecting;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netpoll_sys::{options, socket};

use crate::addr::Addr;
use crate::connection::Connection;
use crate::connection::blocking::not_on_a_poller;
use crate::error::InvalidConfig;
use crate::options::ConnOptions;
use crate::parking::block_on;
use crate::poll::home::hand_over;
use crate::sync::Arc;
use connecting::{Dial, Start, begin};

/// How long a connect may take unless told otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes connections.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// let mut connection = netpoll::Dialer::new().dial("127.0.0.1:8080".parse()?).await?;
/// let (mut reader, mut writer) = connection.split();
/// writer.put_str("hello\n");
/// let answer = reader.until(b'\n', 1024).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Dialer {
    connect_timeout: Option<Duration>,
    options: Arc<ConnOptions>,
}

impl Default for Dialer {
    fn default() -> Self {
        Self::new()
    }
}

impl Dialer {
    /// A dialer that gives up after 5 s, and the default bounds for what it dials.
    #[must_use]
    pub fn new() -> Self {
        Self {
            connect_timeout: Some(CONNECT_TIMEOUT),
            options: Arc::new(ConnOptions::for_dialing()),
        }
    }

    /// How long a connect may take; `None` is as long as the kernel tries, about two minutes, and
    /// to a Unix socket whose queue is full for ever.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The bounds of the connections it makes. [`ConnOptions::for_dialing`], unless this says
    /// otherwise.
    #[must_use]
    pub fn options(mut self, options: ConnOptions) -> Self {
        self.options = Arc::new(options);
        self
    }

    /// Connects to `addr`, of the internet or of a Unix socket. Works on a poller and in any executor; dropping the future gives up.
    /// The caller owns the connection.
    ///
    /// # Errors
    ///
    /// The kernel's, errno kept (`ConnectionRefused` is that, and `NotFound` for a path); `TimedOut` after the connect
    /// timeout; `InvalidInput` for an address that cannot be dialed or a timeout of zero;
    /// `ConnectionRefused` for a socket that was connected to itself, which on a busy loopback
    /// happens when nobody listens; [`NotRunning`](crate::NotRunning) (`ConnectionAborted`) if the
    /// poller that should have had it ends first.
    ///
    /// # Cancel safety
    ///
    /// A dial that is dropped leaves nothing behind.
    pub async fn dial(&self, addr: Addr) -> io::Result<Connection> {
        self.start(addr)?.await
    }

    /// As [`dial`](Self::dial), by parking the thread until the connection is there:
    /// [`Connection::blocking`] makes a stream of it.
    ///
    /// # Errors
    ///
    /// [`OnPoller`](crate::OnPoller) (`WouldBlock`) on a poller's thread; else as
    /// [`dial`](Self::dial).
    pub fn dial_blocking(&self, addr: Addr) -> io::Result<Connection> {
        not_on_a_poller()?;
        block_on(self.dial(addr))
    }

    fn start(&self, addr: Addr) -> io::Result<Dial> {
        self.options.check()?;
        if self.connect_timeout == Some(Duration::ZERO) {
            let expected = "must be above zero; None switches it off";
            return Err(InvalidConfig::new("connect_timeout", expected).into());
        }
        if addr == Addr::Unnamed {
            let expected = "an unnamed socket cannot be dialed";
            return Err(InvalidConfig::new("addr", expected).into());
        }
        let fd = socket::stream_socket(addr)?;
        if addr.as_tcp().is_some() {
            self.set_options(fd.as_fd())?;
        }
        let how = socket::connect(fd.as_fd(), addr)?;
        let timeout = self.connect_timeout;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let (dial, teller) = begin();
        let start = Start {
            fd,
            target: addr,
            how,
            deadline,
            options: Arc::clone(&self.options),
            teller,
        };
        hand_over(start.birth())?;
        Ok(dial)
    }

    fn set_options(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        options::set_nodelay(fd, self.options.nodelay)?;
        if let Some(keepalive) = self.options.keepalive {
            options::set_keepalive(fd, keepalive)?;
        }
        options::set_user_timeout(fd, self.options.user_timeout)
    }
}
