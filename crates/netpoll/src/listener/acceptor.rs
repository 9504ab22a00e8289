// SPDX-License-Identifier: MIT OR Apache-2.0
//! The source that accepts from a [`Listener`].
//!
//! An acceptor takes connections in batches, as far as the loop's [`Entrance`] lets them in and the
//! user's filter takes them, and hands each to a poller as the loop's [`Balance`] says, or keeps
//! it on its own, if there is such an acceptor on each poller. When the loop is
//! full, or descriptors or kernel memory have run out, it looks away: the kernel queues. It looks
//! again when a connection has ended, and for want of the kernel's also after 10 ms, then twice
//! that, up to a second; existing connections notice nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::Wake;
use std::time::Duration;

use netpoll_sys::{Interest, process, socket};

use super::Listener;
use super::filter::{Accept, ConnInfo, Filter, set_all};
use crate::addr::Addr;
use crate::census::{Door, Presence};
use crate::connection::service::{Newcomer, Service};
use crate::entrance::{Entrance, Failure, Pace, Shut, Stay, Ticket};
use crate::event::{Callback, Event};
use crate::foreign::OwnWaker;
use crate::guard::{Panicked, guard};
use crate::options::ConnOptions;
use crate::poll::balance::Balance;
use crate::poll::bell::{Bell, Signal};
use crate::poll::entry::RollEntry;
use crate::poll::set::{PollerHandle, PollerSet};
use crate::poll::source::{Ask, Birth, End, Next, Place, Source, Turn};
use crate::poll::spin::ask_the_card;
use crate::sync::Arc;

/// The most connections accepted in one go.
const BATCH: usize = 64;

/// The most connections that a queue of the kernel's holds: a backlog is a `u16`.
const LONGEST_QUEUE: usize = 1 << 16;

/// The most failures in one go that are taken for those of connections.
const FAILURES: usize = 16;

/// The first pause after descriptors ran out, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What all acceptors of a loop have in common.
pub(crate) struct Reception {
    pub(crate) pollers: Arc<PollerSet>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) filter: Option<Filter>,
    pub(crate) balance: Balance,
}

impl Reception {
    /// For how long its pollers stay awake before they sleep, each as long.
    fn busy_poll(&self) -> Duration {
        self.pollers.nth(0).busy_poll()
    }
}

/// Accepts on its poller.
pub(crate) struct Acceptor {
    listener: Arc<Listener>,
    /// The poller it is on, if what it accepts stays there.
    home: Option<usize>,
    reception: Arc<Reception>,
    call: Arc<Call>,
    waker: OwnWaker,
    /// The pause after the next failure; `None` while all is well.
    pause: Option<Duration>,
    /// Whether the queue was never empty yet: it may hold who connected before the listener had
    /// the options that its connections inherit.
    early: bool,
    /// Once a shutdown was asked for: how many of those that were queued may still come.
    queued: Option<usize>,
    /// A shutdown waits for it: it accepts what is queued before it goes.
    _door: Door,
}

/// The bell of an acceptor, as whoever leaves rings it.
struct Call(Bell);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.0.ring(Signal::Poll);
    }
}

/// How a round of accepting ended.
enum Round {
    /// The queue is empty.
    Empty,
    /// There may be more.
    Full,
    /// Nobody can be let in for now; whoever can change that wakes the acceptor.
    Shut,
}

impl Acceptor {
    /// What makes an acceptor for `listener`, on any poller for all of them, or for the one at
    /// `home` and on that.
    pub(crate) fn birth(
        listener: Arc<Listener>,
        home: Option<usize>,
        reception: &Arc<Reception>,
    ) -> Birth {
        let terms = reception.service.terms();
        // What accepted sockets inherit (tcp(7)), so that it costs nothing per connection.
        set_all(listener.fd(), &terms.options);
        let busy_poll = reception.busy_poll();
        let is_tcp = |addr: Addr| addr.as_tcp().is_some();
        if !busy_poll.is_zero() && listener.local_addr().is_ok_and(is_tcp) {
            ask_the_card(listener.fd(), busy_poll);
        }
        let door = Door::new(&terms.census);
        let reception = Arc::clone(reception);
        Box::new(move |place: Place| {
            let call = Arc::new(Call(place.bell));
            let waker = OwnWaker::new(Arc::clone(&call));
            Box::new(Self {
                listener,
                home,
                reception,
                call,
                waker,
                pause: None,
                early: true,
                queued: None,
                _door: door,
            })
        })
    }

    /// Takes at most `limit` connections.
    fn accept(&mut self, limit: usize, turn: &mut Turn) -> Round {
        let mut failures = 0;
        for _ in 0..limit {
            let Some(ticket) = self.admit(turn) else {
                return Round::Shut;
            };
            match socket::accept(self.listener.fd()) {
                Ok((fd, peer)) => {
                    turn.progressed();
                    self.pause = None;
                    if self.early && peer.as_tcp().is_some() {
                        set_all(fd.as_fd(), &self.reception.service.terms().options);
                        ask_the_card(fd.as_fd(), self.reception.busy_poll());
                    }
                    let entrance = &self.reception.entrance;
                    let stay = entrance.accepted(ticket, || turn.now());
                    if let Some(queued) = &mut self.queued {
                        *queued = queued.saturating_sub(1);
                    }
                    self.receive(fd, peer, stay, turn);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.early = false;
                    return Round::Empty;
                }
                Err(error) => {
                    drop(ticket);
                    let failure = self.reception.entrance.failed(&error, &self.waker);
                    // A connection that died in the queue is its own affair (accept(2)). A
                    // listener that fails again and again is ours: it is not asked without end.
                    failures += 1;
                    if matches!(failure, Failure::RunOut(_)) || failures > FAILURES {
                        self.look_away(turn);
                        return Round::Shut;
                    }
                }
            }
        }
        Round::Full
    }

    fn admit(&mut self, turn: &mut Turn) -> Option<Ticket> {
        let pace = match self.queued {
            Some(_) => Pace::Unrated,
            None => Pace::Rated,
        };
        let entrance = &self.reception.entrance;
        match entrance.admit(&self.waker, pace, || turn.now()) {
            Ok(ticket) => Some(ticket),
            Err(Shut::Full) => {
                // Whoever leaves wakes it; if nobody does, the pause is told then all the same.
                if let Some(later) = entrance.untold() {
                    turn.expire_at(Some(later));
                }
                None
            }
            Err(Shut::NoMemory) => {
                self.look_away(turn);
                None
            }
            Err(Shut::Until(later)) => {
                turn.expire_at(Some(later));
                None
            }
        }
    }

    fn look_away(&mut self, turn: &mut Turn) {
        let pause = self
            .pause
            .map_or(FIRST_PAUSE, |pause| (2 * pause).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        let deadline = turn.now() + pause;
        turn.expire_at(Some(deadline));
    }

    /// Has the filter decide, and hands the connection to a poller.
    fn receive(&self, fd: OwnedFd, peer: Addr, stay: Stay, turn: &mut Turn) {
        let entry = RollEntry::new(&fd, &self.call.0);
        let Some(options) = self.bounds_for(&fd, peer, turn) else {
            self.reception.entrance.refused();
            drop(entry);
            drop(fd);
            drop(stay);
            return;
        };
        let pollers = &self.reception.pollers;
        let poller = match self.home {
            Some(index) => pollers.nth(index),
            None => self.place(peer, turn),
        };
        let newcomer = Newcomer {
            entry: entry.moved_to(&fd, poller),
            fd,
            peer,
            options,
            seat: poller.sit(Some(stay)),
            presence: Presence::new(&self.reception.service.terms().census),
        };
        register(poller, Arc::clone(&self.reception.service), newcomer, turn);
    }

    /// The bounds within which a connection is served; `None` if it is refused.
    fn bounds_for(&self, fd: &OwnedFd, peer: Addr, turn: &mut Turn) -> Option<Arc<ConnOptions>> {
        let terms = self.reception.service.terms();
        let inherited = &terms.options;
        let Some(filter) = &self.reception.filter else {
            return Some(Arc::clone(inherited));
        };
        let info = ConnInfo::new(fd.as_fd(), peer, inherited);
        terms.before_call(turn);
        let counters = self.call.0.counters();
        let answer = counters.during(Callback::OnAccept, || guard(|| filter(&info)));
        terms.after_call(Callback::OnAccept, || peer, turn, self.call.0.counters());
        let own = match answer {
            Ok(Accept::Take(own)) => own,
            Ok(Accept::Refuse) => return None,
            // A filter that panics has not let anybody in.
            Err(Panicked) => {
                self.tell_panic(Callback::OnAccept, peer);
                return None;
            }
        };
        own.check().ok()?;
        let budget = self.reception.entrance.budget();
        budget
            .check(own.max_frame, self.reception.pollers.count())
            .ok()?;
        if peer.as_tcp().is_some() {
            own.set_differences(fd.as_fd(), inherited).ok()?;
        }
        Some(Arc::new(own))
    }

    /// The poller that a connection goes to.
    fn place(&self, peer: Addr, turn: &mut Turn) -> &PollerHandle {
        let Reception {
            pollers, balance, ..
        } = &*self.reception;
        let terms = self.reception.service.terms();
        if !balance.is_custom() {
            return pollers.place(balance, || {});
        }
        terms.before_call(turn);
        let place = || pollers.place(balance, || self.tell_panic(Callback::Balance, peer));
        let counters = self.call.0.counters();
        let poller = counters.during(Callback::Balance, place);
        terms.after_call(Callback::Balance, || peer, turn, self.call.0.counters());
        poller
    }

    fn tell_panic(&self, callback: Callback, peer: Addr) {
        let terms = self.reception.service.terms();
        terms.listening.tell(&Event::Panicked { callback, peer });
    }

    /// Goes on, in rounds, until nobody is left to take.
    fn go_on(&mut self, turn: &mut Turn) -> Next {
        let limit = self.queued.unwrap_or(BATCH);
        match self.accept(limit, turn) {
            Round::Empty | Round::Full if self.queued.is_some() => Next::Gone,
            Round::Empty | Round::Full => Next::Wait(Interest::READABLE),
            // Not even hang-ups: a listener that is broken would report one for ever.
            Round::Shut => Next::Unwatched,
        }
    }
}

/// Makes a session of a newcomer on `poller`.
fn register(poller: &PollerHandle, service: Arc<dyn Service>, newcomer: Newcomer, turn: &mut Turn) {
    let birth: Birth = Box::new(move |place| service.session(newcomer, place));
    if poller.is_here() {
        turn.register(birth);
    } else {
        poller.register(birth);
    }
}

/// How many descriptors its process may have, if those are fewer than `connections`.
pub(crate) fn fewer_descriptors_than(connections: usize) -> Option<u64> {
    Some(process::descriptor_limit()).filter(|&limit| (connections as u64) > limit)
}

/// The most connections that a loop has unless told otherwise: what its process has descriptors
/// for.
pub(crate) fn most_connections() -> usize {
    Entrance::limit_for(process::descriptor_limit())
}

impl Source for Acceptor {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.listener.fd())
    }

    fn born(&mut self, _turn: &mut Turn) -> Next {
        Next::Wait(Interest::READABLE)
    }

    fn ended(&mut self, _end: End, turn: &mut Turn) -> Next {
        // The kernel had no room to watch it. Connections wait in its queue until there is some.
        self.look_away(turn);
        Next::Wait(Interest::NONE)
    }

    fn woken(&mut self, turn: &mut Turn) -> Next {
        // Before the entrance is asked: who leaves from here on rings again.
        let _signals = self.call.0.take();
        self.go_on(turn)
    }

    fn asked(&mut self, ask: Ask, turn: &mut Turn) -> Next {
        match ask {
            // Another accepts what the kernel has queued, and what comes.
            Ask::Drain | Ask::StopAccepting if self.listener.is_shared() => {
                self.listener.hide();
                Next::Gone
            }
            // What the kernel has queued was accepted as far as its peer knows: it is served, as
            // soon as there is room. No queue is longer than this; more came after the request.
            Ask::Drain | Ask::StopAccepting => {
                self.listener.hide();
                self.queued.get_or_insert(LONGEST_QUEUE);
                self.go_on(turn)
            }
            Ask::Force => Next::Gone,
            // It is watched again before it accepts, and no connection in its queue is lost.
            Ask::Fail => Next::Wait(Interest::READABLE),
        }
    }
}
