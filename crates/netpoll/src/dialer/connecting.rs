// SPDX-License-Identifier: MIT OR Apache-2.0
//! One attempt to connect: a source that becomes the session of its connection, and the future that
//! waits for it.
//!
//! The two share an [`Outcome`], which is told once. Whoever holds the source's side of it and goes
//! without a word, because the poller ended before the source was made or with it, has told of that.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use netpoll_sys::socket::Connect;
use netpoll_sys::{Interest, Readiness, socket};

use crate::addr::Addr;
use crate::connection::Connection;
use crate::connection::link::Link;
use crate::connection::service::unserved;
use crate::error::{CloseReason, NotRunning};
use crate::foreign::{WakerSlot, register};
use crate::options::ConnOptions;
use crate::poll::bell::Signal;
use crate::poll::set::Seat;
use crate::poll::source::{Ask, Birth, End, Next, Place, Source, Turn};
use crate::sync::{Arc, Mutex, lock};

/// The first pause before a full queue is tried again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// What a dial and its source share.
#[derive(Debug, Default)]
struct Outcome {
    state: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    stage: Stage,
    result: Option<io::Result<Connection>>,
    waker: WakerSlot,
    link: Option<Arc<Link>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The result has been there.
    Told,
    /// Nobody waits any more.
    GivenUp,
}

/// A dial, and who tells how it ends.
pub(super) fn promise() -> (Dial, Teller) {
    let outcome = Arc::<Outcome>::default();
    let teller = Teller(Arc::clone(&outcome));
    (Dial { outcome }, teller)
}

/// Tells how a dial ends. Dropped without a word, it tells that there is no poller for it.
pub(super) struct Teller(Arc<Outcome>);

impl Teller {
    /// Tells, unless that was done, or nobody waits: then the connection is dropped, and so closed.
    pub(super) fn tell(&self, result: io::Result<Connection>) {
        let mut state = lock(&self.0.state);
        if state.stage != Stage::Open {
            return;
        }
        state.stage = Stage::Told;
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        waker.wake();
    }

    fn is_given_up(&self) -> bool {
        lock(&self.0.state).stage == Stage::GivenUp
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.tell(Err(NotRunning::new().into()));
    }
}

/// A dial under way.
pub(super) struct Dial {
    outcome: Arc<Outcome>,
}

impl Future for Dial {
    type Output = io::Result<Connection>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        register(context.waker(), |offer| {
            let mut state = lock(&self.outcome.state);
            match state.result.take() {
                Some(result) => Ok(Poll::Ready(result)),
                None => state.waker.set(offer).map(|()| Poll::Pending),
            }
        })
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        let mut state = lock(&self.outcome.state);
        state.stage = Stage::GivenUp;
        let (link, waker) = (state.link.take(), state.waker.take());
        let unclaimed = state.result.take();
        drop(state);
        drop(waker);
        // An unclaimed connection is closed by its drop.
        drop(unclaimed);
        if let Some(link) = link {
            link.bell.ring(Signal::Close);
        }
    }
}

/// A connect that has begun, and has no poller yet.
pub(super) struct Start {
    pub(super) fd: OwnedFd,
    pub(super) target: Addr,
    pub(super) how: Connect,
    pub(super) deadline: Option<Instant>,
    pub(super) options: Arc<ConnOptions>,
    pub(super) seat: Option<Seat>,
    pub(super) teller: Teller,
}

impl Start {
    pub(super) fn birth(self) -> Birth {
        Box::new(move |place: Place| {
            let link = Link::new(self.fd, self.target, place.bell, self.options, self.seat);
            let link = Arc::new(link);
            lock(&self.teller.0.state).link = Some(Arc::clone(&link));
            Box::new(Connecting {
                link,
                target: self.target,
                deadline: self.deadline,
                attempt: self.how.into(),
                teller: self.teller,
            })
        })
    }
}

/// A socket that is not connected yet.
struct Connecting {
    link: Arc<Link>,
    target: Addr,
    deadline: Option<Instant>,
    attempt: Attempt,
    teller: Teller,
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
                let connection = Connection::new(Arc::clone(&self.link));
                self.teller.tell(Ok(connection));
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
        let peer = self.peer();
        // TCP lets a socket connect to itself when the port it was given is the one it dials.
        if is_same_end(socket::local_addr(fd)?, peer) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.link.set_peer(peer);
        Ok(())
    }

    /// Who the other end is. The kernel's word, since a dial of an unspecified address reaches another
    /// one, and a path may lead to a socket that was bound by another name; the target where the kernel
    /// has none, because the peer is gone already or has no name.
    fn peer(&self) -> Addr {
        match socket::peer_addr(self.link.as_fd()) {
            Ok(Addr::Unnamed) | Err(_) => self.target,
            Ok(peer) => peer,
        }
    }

    fn give_up(&self, error: io::Error) -> Next {
        self.teller.tell(Err(error));
        Next::Gone
    }
}

/// Whether they are one end of TCP. What IPv6 adds to an address, a zone say, makes it no other.
fn is_same_end(one: Addr, other: Addr) -> bool {
    let end = |addr: Addr| {
        addr.as_tcp()
            .map(|addr| (addr.ip().to_canonical(), addr.port()))
    };
    end(one).is_some_and(|one| Some(one) == end(other))
}

impl Source for Connecting {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.as_fd())
    }

    fn born(&mut self, turn: &mut Turn) -> Next {
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
        if readiness.is_writable() || readiness.may_have_ended() {
            turn.expire_at(None);
            self.decided()
        } else {
            self.woken(turn)
        }
    }

    fn woken(&mut self, turn: &mut Turn) -> Next {
        if self.teller.is_given_up() {
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
            Ask::StopAccepting | Ask::Drain => self.woken(turn),
            Ask::Force => self.give_up(NotRunning::new().into()),
            Ask::Fail => self.give_up(CloseReason::PollerFailed.to_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn ending(dial: &mut Dial) -> Option<io::ErrorKind> {
        let polled = Pin::new(dial).poll(&mut Context::from_waker(Waker::noop()));
        match polled {
            Poll::Ready(result) => Some(result.unwrap_err().kind()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_dial_whose_source_is_never_made_fails() {
        let (mut dial, teller) = promise();
        let (fd, _other) = socket::pair().unwrap();
        let start = Start {
            fd,
            target: Addr::Unnamed,
            how: Connect::UnderWay,
            deadline: None,
            options: Arc::default(),
            seat: None,
            teller,
        };
        let birth = start.birth();
        assert_eq!(ending(&mut dial), None);
        drop(birth);
        assert_eq!(ending(&mut dial), Some(io::ErrorKind::ConnectionAborted));
    }

    #[test]
    fn what_was_told_first_stands() {
        let (mut dial, teller) = promise();
        teller.tell(Err(io::ErrorKind::TimedOut.into()));
        teller.tell(Err(io::ErrorKind::Other.into()));
        drop(teller);
        assert_eq!(ending(&mut dial), Some(io::ErrorKind::TimedOut));
    }
}
