// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opening client connections: the [`Dialer`], its targets, and name resolution.
//!
//! ```no_run
//! use std::time::Duration;
//! use netpoll::Dialer;
//!
//! # async fn example() -> std::io::Result<()> {
//! let dialer = Dialer::new().connect_timeout(Duration::from_secs(2));
//! let mut conn = dialer.dial("localhost:8080").await?;
//! conn.writer().put_str("hello");
//! conn.writer().flush().await
//! # }
//! ```

// # Implementation
//
// A [target] is an address or a name. A name is resolved first, and its addresses are
// tried in the order of `happy_eyeballs`. Each attempt is a source, which the engine
// of the connection replaces once the connect has succeeded. `from_fd` makes a connection of a
// socket that is connected already.
//
// A dial on a poller's thread puts the connection on that poller. A dial elsewhere puts it on the
// pollers that all dialers of the process share. These start with the
// first such dial. A dialer can also be bound to a loop; its
// connections then belong to that loop's pollers.

mod attempt;
mod from_fd;
mod happy_eyeballs;
mod lookup_pool;
mod race;
pub(crate) mod resolver;
pub(crate) mod target;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::time::{Duration, Instant};

use netpoll_sys::{options, socket};

use crate::addr::Addr;
use crate::block_on::block_on;
use crate::connection::Connection;
use crate::connection::blocking_stream::reject_on_poller;
use crate::error::{ErrorKind, InvalidConfig};
use crate::fairness;
use crate::foreign::UserFuture;
use crate::options::{ConnOptions, conn_option_setters};
use crate::poll::busy_poll::enable_socket_busy_poll;
use crate::poll::placement::Placement;
use crate::poll::poller_registry::PollerRegistry;
use crate::sync::Arc;
use crate::time::timeout_at;
use attempt::{DialFuture, PendingConnect, dial_channel};
use race::race;
use resolver::SystemResolver;
pub use resolver::{Resolve, Resolving};
pub use target::ToTarget;
use target::sealed::DialTarget;

/// The default connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens client connections.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// let mut connection = netpoll::Dialer::new().dial("localhost:8080").await?;
/// let (mut reader, mut writer) = connection.split();
/// writer.put_str("hello\n");
/// let answer = reader.until(b'\n', 1024).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Dialer {
    connect_timeout: Option<Duration>,
    options: Arc<ConnOptions>,
    local_addr: Option<SocketAddr>,
    /// Replaces the system's resolver.
    resolver: Option<Arc<dyn Resolve>>,
    /// The most concurrent lookups with the system's resolver.
    max_lookups: usize,
    /// The pollers of the loop that the connections belong to, if the dialer is bound to one.
    pollers: Option<PollerRegistry>,
}

impl Default for Dialer {
    fn default() -> Self {
        Self::new()
    }
}

impl Dialer {
    /// Returns a dialer with a connect timeout of 5 s and the limits of
    /// [`ConnOptions::for_dialing`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            connect_timeout: Some(CONNECT_TIMEOUT),
            options: Arc::new(ConnOptions::for_dialing()),
            local_addr: None,
            resolver: None,
            max_lookups: lookup_pool::DEFAULT_MAX_LOOKUPS,
            pollers: None,
        }
    }

    /// Sets the time limit of a whole dial: resolving the name and connecting to one of its
    /// addresses. The default is 5 s. With `None` only the resolver and the kernel bound a dial:
    /// the kernel tries each TCP address for about two minutes, and waits without limit for a Unix
    /// socket whose queue is full.
    #[must_use]
    pub fn connect_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.connect_timeout = time.into();
        self
    }

    /// Sets the limits and timeouts of the connections. The default is
    /// [`ConnOptions::for_dialing`]. The methods below set one each.
    #[must_use]
    pub fn options(mut self, options: ConnOptions) -> Self {
        self.options = Arc::new(options);
        self
    }

    conn_option_setters!();

    /// Returns the options that the setters of a connection change: a copy if a clone of the dialer
    /// has them too.
    fn conn_options(&mut self) -> &mut ConnOptions {
        Arc::make_mut(&mut self.options)
    }

    /// Binds each connection to this local address before the connect; by default the kernel
    /// chooses one. Port 0 takes a free port before the connect, so that the free ports bound the
    /// number of these connections to all peers together. Any other port allows one connection
    /// to each peer. `SO_REUSEADDR` is set, so that a connection that was closed recently does not
    /// block its port.
    ///
    /// Only addresses of the same family can be dialed then. Costs two more system calls an
    /// attempt.
    #[must_use]
    pub fn local_addr(mut self, addr: SocketAddr) -> Self {
        self.local_addr = Some(addr);
        self
    }

    /// Replaces the resolver of names. The default is the system's (`getaddrinfo(3)`), called on
    /// threads that start on demand; lookups above [`max_lookups`](Self::max_lookups) queue. Every
    /// dial resolves its name again: nothing is cached. Numeric addresses are never resolved, and
    /// the system's resolver is not called for `localhost` and the names below it, which are
    /// `[::1]` and `127.0.0.1` (RFC 6761).
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve + 'static) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Sets how many lookups with the system's resolver may run in the process when a lookup of
    /// this dialer starts. Further lookups queue, within their connect timeout. The default is 4. A
    /// lookup that its dial has abandoned cannot be stopped; it does not count, but it occupies one
    /// of at most 64 threads. Has no effect on a dialer with a [resolver](Self::resolver) of its
    /// own.
    #[must_use]
    pub fn max_lookups(mut self, count: usize) -> Self {
        self.max_lookups = count;
        self
    }

    /// Binds the dialer to the pollers of a loop.
    pub(crate) fn on_pollers(mut self, pollers: PollerRegistry) -> Self {
        self.pollers = Some(pollers);
        self
    }

    /// Connects to `target`, an address or a name with a port. Works on a poller and in any
    /// executor. The caller owns the connection.
    ///
    /// The addresses of a name are tried as in RFC 8305: IPv6 and IPv4 alternate, and each attempt
    /// starts 250 ms after the one before, or at once when an attempt fails. The first attempt to
    /// connect wins; the others are dropped.
    ///
    /// An attempt costs a socket, about six system calls, a few allocations and one hop to the
    /// poller. A name costs its lookup in addition.
    ///
    /// # Errors
    ///
    /// - The kernel's error with its errno: `ConnectionRefused`, or `NotFound` for a path, for
    ///   example. If every address of a name failed, the error of the first failure; but if that
    ///   one is only a missing way from this host (`NetworkUnreachable`, for example), the first
    ///   error that came from further away.
    /// - `TimedOut` after the connect timeout, even if an attempt failed before.
    /// - The resolver's error, unchanged;
    ///   [`ErrorKind::NoAddress`] (`NotFound`) if it returns no
    ///   address; [`ErrorKind::ResolverStalled`]
    ///   (`ResourceBusy`) while the system's resolver hangs.
    /// - `InvalidInput` for a text that is no target.
    /// - [`ErrorKind::InvalidConfig`] (`InvalidInput`) for
    ///   an address that cannot be dialed, for a timeout of zero, for a `max_lookups` of zero, and
    ///   if no address is of the local address's family. Also, naming `max_frame`, if the
    ///   connection would belong to a loop (the one given [with `on`](Self::on), or the caller's)
    ///   whose [budget](crate::Builder::budget) cannot hold a frame of that size.
    /// - `ConnectionRefused` also if the socket connected to itself. This happens on a busy
    ///   loopback when no socket listens on the port.
    /// - [`ErrorKind::NotRunning`] (`ConnectionAborted`) if
    ///   the poller of the connection has stopped, or stops first.
    ///
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the dial: its sockets are closed.
    pub async fn dial(&self, target: impl ToTarget) -> io::Result<Connection> {
        fairness::proceed().await;
        let deadline = self.checked_deadline()?;
        let target = target.target()?;
        self.wait_for_pollers(deadline).await?;
        match target {
            DialTarget::Addr(addr) => self.start_attempt(addr, deadline)?.await,
            DialTarget::Name { host, port } => {
                let addrs = self.resolve((&host, port), deadline).await?;
                race(self, addrs, deadline).await
            }
        }
    }

    /// As [`dial`](Self::dial), but blocks the calling thread until the dial has completed.
    /// [`Connection::blocking`] turns the connection into a blocking stream.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BlockingOnPoller`] (`WouldBlock`) on
    /// a poller's thread; otherwise as [`dial`](Self::dial).
    pub fn dial_blocking(&self, target: impl ToTarget) -> io::Result<Connection> {
        reject_on_poller()?;
        block_on(self.dial(target))
    }

    /// Returns the deadline of a dial that starts now. Rejects invalid options.
    fn checked_deadline(&self) -> io::Result<Option<Instant>> {
        self.check()?;
        let timeout = self.connect_timeout;
        Ok(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Rejects invalid options with the name of the field.
    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        self.options.check()?;
        if let Some(pollers) = &self.pollers {
            pollers.memory().check_max_frame(self.options.max_frame)?;
        }
        if self.connect_timeout == Some(Duration::ZERO) {
            let expected = "must be above zero; None switches it off";
            return Err(InvalidConfig::new("connect_timeout", expected));
        }
        if self.max_lookups == 0 {
            return Err(InvalidConfig::new("max_lookups", "must be at least 1"));
        }
        Ok(())
    }

    /// Waits until the loop of the dialer, if it has one, has started its pollers.
    async fn wait_for_pollers(&self, deadline: Option<Instant>) -> io::Result<()> {
        match &self.pollers {
            Some(pollers) => with_deadline(deadline, pollers.wait_for_start()).await,
            None => Ok(()),
        }
    }

    /// Resolves a host to the addresses that the local address can reach.
    async fn resolve(
        &self,
        (host, port): (&str, u16),
        deadline: Option<Instant>,
    ) -> io::Result<Vec<SocketAddr>> {
        let system = SystemResolver {
            max_concurrent: self.max_lookups,
        };
        let resolver = self.resolver.as_deref().unwrap_or(&system);
        let mut addrs = with_deadline(deadline, resolver.resolve(host, port)).await??;
        if addrs.is_empty() {
            return Err(ErrorKind::NoAddress.into());
        }
        if self.local_addr.is_some() {
            addrs.retain(|addr| self.is_local_family(Addr::Tcp(*addr)));
            if addrs.is_empty() {
                return Err(family_mismatch());
            }
        }
        Ok(addrs)
    }

    /// Returns whether `addr` is of the local address's family; `true` without a local address.
    fn is_local_family(&self, addr: Addr) -> bool {
        self.local_addr.is_none_or(|local| {
            let remote = addr.as_tcp();
            remote.is_some_and(|remote| remote.is_ipv4() == local.is_ipv4())
        })
    }

    /// Selects the poller of a connection.
    fn select_placement(&self) -> io::Result<Placement> {
        let placement = Placement::select(self.pollers.as_ref())?;
        placement.memory().check_max_frame(self.options.max_frame)?;
        Ok(placement)
    }

    /// Starts to connect to one address.
    fn start_attempt(&self, target: Addr, deadline: Option<Instant>) -> io::Result<DialFuture> {
        if target == Addr::Unnamed {
            let expected = "an unnamed socket cannot be dialed";
            return Err(InvalidConfig::new("addr", expected).into());
        }
        if !self.is_local_family(target) {
            return Err(family_mismatch());
        }
        let placement = self.select_placement()?;
        let fd = socket::stream_socket(target)?;
        if target.as_tcp().is_some() {
            self.set_options(fd.as_fd())?;
            enable_socket_busy_poll(fd.as_fd(), placement.busy_poll());
        }
        if let Some(local) = self.local_addr {
            socket::bind_local(fd.as_fd(), local)?;
        }
        let status = socket::connect(fd.as_fd(), target)?;
        let (dial, sender) = dial_channel();
        let start = PendingConnect {
            fd,
            target,
            status,
            deadline,
            options: Arc::clone(&self.options),
            load_guard: placement.load_guard(),
            sender,
        };
        placement.register(start.into_factory());
        Ok(dial)
    }

    fn set_options(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        options::set_nodelay(fd, self.options.nodelay)?;
        if let Some(keepalive) = self.options.keepalive {
            options::set_keepalive(fd, keepalive)?;
        }
        options::set_user_timeout(fd, self.options.socket_user_timeout())
    }
}

async fn with_deadline<F: Future>(deadline: Option<Instant>, future: F) -> io::Result<F::Output> {
    match deadline {
        Some(deadline) => Ok(timeout_at(deadline, future).await?),
        None => Ok(UserFuture::new(pin!(Some(future))).await),
    }
}

fn family_mismatch() -> io::Error {
    let expected = "must be of the address family of the target";
    InvalidConfig::new("local_addr", expected).into()
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("connect_timeout", &self.connect_timeout)
            .field("options", &self.options)
            .field("local_addr", &self.local_addr)
            .field("max_lookups", &self.max_lookups)
            .finish_non_exhaustive()
    }
}
