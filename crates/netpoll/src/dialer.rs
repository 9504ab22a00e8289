// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Dialer`]: connections to others.
//!
//! A [target] is an address, or a name that is [resolverd](resolver) first; the addresses of a
//! name are tried in the order of [`happy_eyeballs`]. Each attempt is a [source](attempt), which
//! becomes the session of its connection. A socket that is connected already is [from_fded](from_fd).
//!
//! A dial made on a poller's thread binds the connection to that poller. Elsewhere it goes to a set
//! of pollers that all dialers of the process [share](crate::poll::placement), and that starts with the
//! first such dial: the one global there is. A dialer may be told of another loop, whose pollers
//! have its connections then.

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
use crate::error::{InvalidConfig, NoAddress};
use crate::fairness;
use crate::foreign::UserFuture;
use crate::options::ConnOptions;
use crate::poll::busy_poll::enable_socket_busy_poll;
use crate::poll::placement::Placement;
use crate::poll::poller_registry::PollerRegistry;
use crate::sync::Arc;
use crate::time::timeout_at;
use attempt::{DialFuture, PendingConnect, dial_channel};
use race::race;
use resolver::{Resolve, SystemResolver};
use target::ToTarget;
use target::sealed::DialTarget;

/// How long a connect may take unless told otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes connections.
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
    /// Asked instead of the system.
    resolver: Option<Arc<dyn Resolve>>,
    /// How many lookups of the system's may run at once.
    max_lookups: usize,
    /// The loop whose connections they are.
    pollers: Option<PollerRegistry>,
}

impl Default for Dialer {
    fn default() -> Self {
        Self::new()
    }
}

impl Dialer {
    /// A dialer that gives up after 5 s, with the default bounds for what it dials.
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

    /// How long a dial may take in all: to resolve a name, and to connect to whichever of its
    /// addresses. `None` is as long as the resolver and the kernel try, for each address about two
    /// minutes, and to a Unix socket whose queue is full for ever.
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

    /// The address that its connections come from; without, the kernel chooses for each. Port 0 is
    /// any free one, and is taken before the connect: there are as many such connections as there
    /// are free ports, whoever they are to. Another port is for one connection to each peer
    /// (`SO_REUSEADDR` is set, so that one that has just ended is not in the way).
    ///
    /// Only what is of the same family can be dialed then. Two system calls more for each attempt.
    #[must_use]
    pub fn local_addr(mut self, addr: SocketAddr) -> Self {
        self.local_addr = Some(addr);
        self
    }

    /// Who is asked for the addresses of names. The system (`getaddrinfo(3)`), unless this says
    /// otherwise: on a thread of its own, of which there are none without need, and what finds
    /// [as many](Self::max_lookups) busy waits. That asks anew for each dial; nothing is cached.
    /// Nobody is asked for a number, and the system not for `localhost` and names below it, which are
    /// `[::1]` and `127.0.0.1` (RFC 6761).
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve + 'static) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// How many lookups of the system's may be under way in the process for one of this dialer to
    /// begin; others wait, within their connect timeout. 4, unless this says otherwise. One that was
    /// given up cannot be ended, but does not count: it only holds a thread, of which there are 64 at
    /// most. A dialer with a [resolver](Self::resolver) of its own has no use for it.
    #[must_use]
    pub fn max_lookups(mut self, count: usize) -> Self {
        self.max_lookups = count;
        self
    }

    /// Has the connections belong to pollers of another loop than the caller's.
    pub(crate) fn on_pollers(mut self, pollers: PollerRegistry) -> Self {
        self.pollers = Some(pollers);
        self
    }

    /// Connects to `target`, an address or a name with a port. Works on a poller and in any
    /// executor; dropping the future gives up. The caller owns the connection.
    ///
    /// The addresses of a name are tried as RFC 8305 says: IPv6 and IPv4 in turn, each attempt
    /// beginning 250 ms after the one before, or at once when one fails. The first to connect is
    /// the connection; the others are dropped.
    ///
    /// An attempt is a socket, about six system calls, a few allocations and a hop to the poller. A
    /// name costs what its resolver does besides.
    ///
    /// # Errors
    ///
    /// The kernel's, errno kept: `ConnectionRefused` is that, and `NotFound` for a path. Where all
    /// addresses of a name have failed it is that of the first failure, unless that says only that
    /// there is no way from here (`NetworkUnreachable`, say) and another says more. `TimedOut` after
    /// the connect timeout, whatever failed until then. What the resolver fails with, as it is; and
    /// [`NoAddress`] (`NotFound`) if it gives no address;
    /// [`ResolverStalled`](crate::ResolverStalled) (`ResourceBusy`) while the system's resolver hangs.
    ///
    /// `InvalidInput` for a text that is no target; [`InvalidConfig`] (`InvalidInput`) for an address
    /// that cannot be dialed, for a timeout of zero, and where none of the addresses is of the local
    /// address's family. The same, naming `max_frame`, where the connection would belong to a loop whose
    /// [budget](crate::Builder::budget) cannot hold a frame that large: one that was given
    /// [with `on`](Self::on), or the caller's. `ConnectionRefused` too for a socket that was connected to itself, which on
    /// a busy loopback happens when nobody listens. [`NotRunning`](crate::NotRunning)
    /// (`ConnectionAborted`) if the poller that should have had it has ended, or ends first.
    ///
    /// # Cancel safety
    ///
    /// A dial that is dropped leaves nothing behind.
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

    /// As [`dial`](Self::dial), by parking the thread until the connection is there:
    /// [`Connection::blocking`] makes a stream of it.
    ///
    /// # Errors
    ///
    /// [`BlockingOnPoller`](crate::BlockingOnPoller) (`WouldBlock`) on a poller's thread; else as
    /// [`dial`](Self::dial).
    pub fn dial_blocking(&self, target: impl ToTarget) -> io::Result<Connection> {
        reject_on_poller()?;
        block_on(self.dial(target))
    }

    /// When a dial that begins now has to be over. Refuses what cannot work.
    fn checked_deadline(&self) -> io::Result<Option<Instant>> {
        self.check()?;
        let timeout = self.connect_timeout;
        Ok(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Refuses, by name, what cannot work.
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

    /// Waits until there are pollers to dial for.
    async fn wait_for_pollers(&self, deadline: Option<Instant>) -> io::Result<()> {
        match &self.pollers {
            Some(pollers) => with_deadline(deadline, pollers.wait_for_start()).await,
            None => Ok(()),
        }
    }

    /// The addresses of a host that can be dialed from where this dials.
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
            return Err(NoAddress::new().into());
        }
        if self.local_addr.is_some() {
            addrs.retain(|addr| self.is_local_family(Addr::Tcp(*addr)));
            if addrs.is_empty() {
                return Err(family_mismatch());
            }
        }
        Ok(addrs)
    }

    /// Whether `addr` is of the local address's family, if there is one.
    fn is_local_family(&self, addr: Addr) -> bool {
        self.local_addr.is_none_or(|local| {
            let remote = addr.as_tcp();
            remote.is_some_and(|remote| remote.is_ipv4() == local.is_ipv4())
        })
    }

    /// The poller of a connection that this makes now.
    fn home(&self) -> io::Result<Placement> {
        let placement = Placement::select(self.pollers.as_ref())?;
        placement.memory().check_max_frame(self.options.max_frame)?;
        Ok(placement)
    }

    /// Begins to connect to one address.
    fn start_attempt(&self, target: Addr, deadline: Option<Instant>) -> io::Result<DialFuture> {
        if target == Addr::Unnamed {
            let expected = "an unnamed socket cannot be dialed";
            return Err(InvalidConfig::new("addr", expected).into());
        }
        if !self.is_local_family(target) {
            return Err(family_mismatch());
        }
        let home = self.home()?;
        let fd = socket::stream_socket(target)?;
        if target.as_tcp().is_some() {
            self.set_options(fd.as_fd())?;
            enable_socket_busy_poll(fd.as_fd(), home.busy_poll());
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
            load_guard: home.load_guard(),
            sender,
        };
        home.register(start.into_factory());
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
    let expected = "must be of the family of what is dialed";
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
