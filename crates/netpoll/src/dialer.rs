// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Dialer`]: connections to others.
//!
//! A dial made on a poller's thread binds the connection to that poller. Elsewhere it goes to a set
//! of pollers that all dialers of the process [share](crate::poll::home), and that starts with the first such
//! dial: the one global there is. A socket that is connected already is [adopted](adopt).

mod adopt;

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use netpoll_sys::socket::Connect;
use netpoll_sys::{Interest, Readiness, options, socket};

use crate::addr::Addr;
use crate::connection::Connection;
use crate::connection::blocking::not_on_a_poller;
use crate::connection::link::Link;
use crate::connection::service::unserved;
use crate::error::InvalidConfig;
use crate::options::ConnOptions;
use crate::parking::block_on;
use crate::poll::bell::Signal;
use crate::poll::home::hand_over;
use crate::poll::source::{Ask, Birth, End, Next, Place, Source, Turn};
use crate::sync::{Arc, Mutex, lock};

/// The first pause before a full queue is tried again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

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
    /// happens when nobody listens.
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
        let outcome = Arc::new(Outcome::default());
        let birth = Connecting::birth(fd, (addr, how), self, &outcome);
        hand_over(birth)?;
        Ok(Dial { outcome })
    }

    fn set_options(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        options::set_nodelay(fd, self.options.nodelay)?;
        if let Some(keepalive) = self.options.keepalive {
            options::set_keepalive(fd, keepalive)?;
        }
        options::set_user_timeout(fd, self.options.user_timeout)
    }
}

/// What a dial and its connecting source share.
#[derive(Debug, Default)]
struct Outcome {
    state: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    result: Option<io::Result<Connection>>,
    waker: Option<Waker>,
    given_up: bool,
    link: Option<Arc<Link>>,
}

impl Outcome {
    /// Delivers, unless the dialer has given up; then the connection is dropped, and so closed.
    fn deliver(&self, result: io::Result<Connection>) {
        let mut state = lock(&self.state);
        if state.given_up {
            return;
        }
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// A dial under way.
struct Dial {
    outcome: Arc<Outcome>,
}

impl Future for Dial {
    type Output = io::Result<Connection>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.outcome.state);
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        let mut state = lock(&self.outcome.state);
        state.given_up = true;
        let link = state.link.take();
        let unclaimed = state.result.take();
        drop(state);
        // An unclaimed connection is closed by its drop.
        drop(unclaimed);
        if let Some(link) = link {
            link.bell.ring(Signal::Close);
        }
    }
}

/// A socket that is not connected yet.
struct Connecting {
    link: Arc<Link>,
    target: Addr,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    attempt: Attempt,
    outcome: Arc<Outcome>,
}

/// What a connecting socket waits for.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    /// The kernel. Done already or under way: the socket's writability tells either.
    Decides,
    /// Room in the listener's queue, of which nothing tells: the time to the next try.
    Again(Duration),
}

impl From<Connect> for Attempt {
    fn from(how: Connect) -> Self {
        match how {
            Connect::QueueFull => Self::Again(FIRST_PAUSE),
            _ => Self::Decides,
        }
    }
}

impl Connecting {
    fn birth(
        fd: OwnedFd,
        (target, how): (Addr, Connect),
        dialer: &Dialer,
        outcome: &Arc<Outcome>,
    ) -> Birth {
        let (timeout, options) = (dialer.connect_timeout, Arc::clone(&dialer.options));
        let outcome = Arc::clone(outcome);
        Box::new(move |place: Place| {
            let link = Arc::new(Link::new(fd, target, place.bell, options, None));
            lock(&outcome.state).link = Some(Arc::clone(&link));
            Box::new(Self {
                link,
                target,
                timeout,
                deadline: None,
                attempt: how.into(),
                outcome,
            })
        })
    }

    /// Waits for what decides, until the deadline at most.
    fn wait(&self, turn: &mut Turn) -> Next {
        match self.attempt {
            Attempt::Decides => {
                turn.expire_at(self.deadline);
                Next::Wait(Interest::WRITABLE)
            }
            Attempt::Again(pause) => {
                let next = turn.now() + pause;
                turn.expire_at(Some(self.deadline.map_or(next, |end| end.min(next))));
                // To the kernel a socket that is not connected has hung up: it would tell for ever.
                Next::Unwatched
            }
        }
    }

    /// Tries again to find room in the listener's queue.
    fn try_again(&mut self, pause: Duration, turn: &mut Turn) -> Next {
        match socket::connect(self.link.as_fd(), self.target) {
            Ok(Connect::QueueFull) => {
                self.attempt = Attempt::Again((2 * pause).min(LONGEST_PAUSE));
                self.wait(turn)
            }
            Ok(_) => {
                self.attempt = Attempt::Decides;
                self.wait(turn)
            }
            Err(error) => self.give_up(error),
        }
    }

    /// The kernel has decided.
    fn decided(&mut self) -> Next {
        match self.verdict() {
            Ok(()) => {
                self.outcome
                    .deliver(Ok(Connection::new(Arc::clone(&self.link))));
                Next::Become(unserved(Arc::clone(&self.link)))
            }
            Err(error) => self.give_up(error),
        }
    }

    fn verdict(&self) -> io::Result<()> {
        let fd = self.link.as_fd();
        if let Some(error) = socket::take_error(fd)? {
            return Err(error);
        }
        // TCP lets a socket connect to itself when the port it was given is the one it dials.
        if socket::local_addr(fd)? == self.target {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(())
    }

    fn give_up(&self, error: io::Error) -> Next {
        self.outcome.deliver(Err(error));
        Next::Gone
    }
}

impl Source for Connecting {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.as_fd())
    }

    fn born(&mut self, turn: &mut Turn) -> Next {
        let timeout = self.timeout;
        self.deadline = timeout.and_then(|timeout| turn.now().checked_add(timeout));
        self.woken(turn)
    }

    fn ended(&mut self, end: End, turn: &mut Turn) -> Next {
        match end {
            // It cannot be watched: nothing would tell how the connect ends.
            End::Broken(error) => self.give_up(error),
            End::Fin => self.woken(turn),
        }
    }

    fn ready(&mut self, readiness: Readiness, turn: &mut Turn) -> Next {
        if readiness.is_writable() || readiness.is_hang_up() {
            turn.expire_at(None);
            self.decided()
        } else {
            self.woken(turn)
        }
    }

    fn woken(&mut self, turn: &mut Turn) -> Next {
        if lock(&self.outcome.state).given_up {
            return Next::Gone;
        }
        self.wait(turn)
    }

    fn expired(&mut self, turn: &mut Turn) -> Next {
        match self.attempt {
            Attempt::Again(pause) if self.deadline.is_none_or(|end| turn.now() < end) => {
                self.try_again(pause, turn)
            }
            _ => self.give_up(io::ErrorKind::TimedOut.into()),
        }
    }

    fn asked(&mut self, ask: Ask, turn: &mut Turn) -> Next {
        match ask {
            Ask::Drain => self.woken(turn),
            Ask::Force => self.give_up(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}
