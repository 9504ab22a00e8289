// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a session of each newcomer, with the handler that serves it.
//!
//! A handler is known by its type only where it was given; from there on it is a [`Service`],
//! which any thread may hold. The service makes a session whose calls run where the handler's type
//! and the loop's runner allow: on the poller, on one of some threads, or wherever a task may be
//! moved to.

use std::cell::RefCell;
use std::future::{Future, Ready};
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use super::Connection;
use super::burst::{Finished, Greet, GreetSend, Handlers, Shared, Stage, Verdict};
use super::calling::{Calls, Observer, Script};
use super::errand::{Away, Task};
use super::inline::Inline;
use super::link::Link;
use super::session::Session;
use crate::addr::Addr;
use crate::census::{Census, Presence};
use crate::event::Listening;
use crate::options::ConnOptions;
use crate::per_thread::PerThread;
use crate::poll::bell::Bell;
use crate::poll::entry::RollEntry;
use crate::poll::set::Seat;
use crate::poll::source::{Place, Source};
use crate::runner::Spawn;
use crate::runner::threads::Threads;
use crate::sync::Arc;
use crate::trace::Span;

/// A connected socket that has no session yet.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// Before the descriptor: it is not closed while it is on a roll.
    pub(crate) entry: RollEntry,
    pub(crate) fd: OwnedFd,
    pub(crate) peer: Addr,
    pub(crate) options: Arc<ConnOptions>,
    pub(crate) seat: Seat,
    pub(crate) presence: Presence,
}

/// What all connections of a service have in common.
pub(crate) struct Terms {
    pub(crate) options: Arc<ConnOptions>,
    pub(crate) census: Arc<Census>,
    pub(crate) observer: Option<Observer>,
    /// The type of the handler.
    pub(crate) handler: &'static str,
    /// From when on a call is slow.
    pub(crate) slow: Option<Duration>,
    pub(crate) listening: Listening,
}

impl Terms {
    /// Terms of a handler without a name, whose calls are never slow, and nobody to tell.
    pub(crate) fn new(
        options: ConnOptions,
        census: &Arc<Census>,
        observer: Option<Observer>,
    ) -> Self {
        Self {
            options: Arc::new(options),
            census: Arc::clone(census),
            observer,
            handler: "",
            slow: None,
            listening: Listening::default(),
        }
    }
}

/// Serves connections.
pub(crate) trait Service: Send + Sync {
    /// A session for a newcomer. On the thread of the poller that drives it.
    fn session(&self, newcomer: Newcomer, place: Place) -> Box<dyn Source>;

    /// What its connections have in common.
    fn terms(&self) -> &Terms;
}

/// Where the threads that call a handler get it from.
pub(crate) trait Origin: Send + Sync + 'static {
    type Handler: 'static;

    /// The handler of the calling thread.
    fn handler(&self) -> Arc<Self::Handler>;
}

/// One handler for all threads.
pub(crate) struct OneForAll<H>(pub(crate) Arc<H>);

impl<H: Send + Sync + 'static> Origin for OneForAll<H> {
    type Handler = H;

    fn handler(&self) -> Arc<H> {
        Arc::clone(&self.0)
    }
}

/// A handler of its own for each thread, made there.
pub(crate) struct OneEach<W>(pub(crate) W);

impl<W, H> Origin for OneEach<W>
where
    W: Fn() -> H + Send + Sync + 'static,
    H: 'static,
{
    type Handler = H;

    fn handler(&self) -> Arc<H> {
        Arc::new((self.0)())
    }
}

/// An origin, and the handlers that a thread has from it.
type Known<O> = (Arc<O>, Shared<<O as Origin>::Handler>);

/// The handlers that a thread has made last.
struct Latest<O: Origin> {
    latest: RefCell<Option<Known<O>>>,
}

impl<O: Origin> Default for Latest<O> {
    fn default() -> Self {
        Self {
            latest: RefCell::default(),
        }
    }
}

impl<O: Origin> Latest<O> {
    fn shared(&self, origin: &Arc<O>, greet: Option<&Arc<Greet>>) -> Shared<O::Handler> {
        if let Some((known, shared)) = &*self.latest.borrow()
            && Arc::ptr_eq(known, origin)
        {
            return Rc::clone(shared);
        }
        // What makes a handler is user code: nothing is borrowed while it runs.
        let shared = Rc::new(Handlers {
            handler: origin.handler(),
            greet: greet.cloned(),
        });
        self.latest
            .replace(Some((Arc::clone(origin), Rc::clone(&shared))));
        shared
    }
}

/// A handler and `on_connect`, whose futures stay on one thread.
pub(crate) struct Pinned<O, M> {
    pub(crate) origin: Arc<O>,
    pub(crate) greet: Option<Arc<Greet>>,
    /// Makes the future of a burst, or of a whole life.
    pub(crate) make: M,
    pub(crate) calls: Calls,
    pub(crate) terms: Arc<Terms>,
}

/// Serves on the connections' pollers.
struct Here<O, M, F> {
    pinned: Pinned<O, M>,
    /// Made on poller threads, never here.
    futures: PhantomData<fn() -> F>,
}

/// Serves on threads, each call on one of them.
struct OnThreads<O, M> {
    pinned: Pinned<O, M>,
    threads: Arc<Threads>,
}

/// Serves with tasks that may move between threads.
struct Anywhere<H, M> {
    handlers: Arc<Handlers<H, GreetSend>>,
    make: M,
    calls: Calls,
    terms: Arc<Terms>,
    spawn: Arc<dyn Spawn>,
}

impl<O, M> Pinned<O, M> {
    /// A service whose calls run on the connections' pollers.
    pub(crate) fn here<F>(self) -> Arc<dyn Service>
    where
        O: Origin,
        M: Fn(Shared<O::Handler>, Connection, Stage) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Finished> + 'static,
    {
        Arc::new(Here {
            pinned: self,
            futures: PhantomData,
        })
    }

    /// A service whose calls run on `threads`.
    pub(crate) fn on_threads<F>(self, threads: Arc<Threads>) -> Arc<dyn Service>
    where
        O: Origin,
        M: Fn(Shared<O::Handler>, Connection, Stage) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Finished> + 'static,
    {
        Arc::new(OnThreads {
            pinned: self,
            threads,
        })
    }
}

/// A service whose calls are tasks of `spawn`.
pub(crate) fn anywhere<H, M, F>(
    handlers: Handlers<H, GreetSend>,
    (make, calls): (M, Calls),
    terms: Arc<Terms>,
    spawn: Arc<dyn Spawn>,
) -> Arc<dyn Service>
where
    H: Send + Sync + 'static,
    M: Fn(Arc<Handlers<H, GreetSend>>, Connection, Stage) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Finished> + Send + 'static,
{
    Arc::new(Anywhere {
        handlers: Arc::new(handlers),
        make,
        calls,
        terms,
        spawn,
    })
}

impl Newcomer {
    fn settle(self, bell: Bell) -> (Arc<Link>, Presence) {
        // The link has an entry of its own.
        drop(self.entry);
        let mut link = Link::new(self.fd, self.peer, bell, self.options, Some(self.seat));
        link.span = Span::open(link.as_fd(), self.peer);
        (Arc::new(link), self.presence)
    }
}

fn first_stage(has_greet: bool) -> Stage {
    if has_greet {
        Stage::Connect
    } else {
        Stage::Request
    }
}

impl<O, M, F> Service for Here<O, M, F>
where
    O: Origin,
    M: Fn(Shared<O::Handler>, Connection, Stage) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Finished> + 'static,
{
    fn session(&self, newcomer: Newcomer, place: Place) -> Box<dyn Source> {
        let (link, presence) = newcomer.settle(place.bell);
        let Pinned { origin, greet, .. } = &self.pinned;
        let latest = place.shared.get::<Latest<O>>();
        let script = Script::new(
            Inline {
                handlers: latest.shared(origin, greet.as_ref()),
                make: self.pinned.make,
                spare: place.shared.get(),
            },
            self.pinned.calls,
            first_stage(greet.is_some()),
            Some(Arc::clone(&self.pinned.terms)),
        );
        Box::new(Session::new(link, script, Some(presence)))
    }

    fn terms(&self) -> &Terms {
        &self.pinned.terms
    }
}

impl<O, M, F> Service for OnThreads<O, M>
where
    O: Origin,
    M: Fn(Shared<O::Handler>, Connection, Stage) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Finished> + 'static,
{
    fn session(&self, newcomer: Newcomer, place: Place) -> Box<dyn Source> {
        let (link, presence) = newcomer.settle(place.bell);
        let Pinned { make, calls, .. } = self.pinned;
        let origin = Arc::clone(&self.pinned.origin);
        let greet = self.pinned.greet.clone();
        let stage = first_stage(greet.is_some());
        let threads = Arc::clone(&self.threads);
        let launch = move |task: Task, connection: Connection, stage: Stage| {
            let (origin, greet) = (Arc::clone(&origin), greet.clone());
            threads.make(Box::new(move |thread: &PerThread| {
                let latest = thread.get::<Latest<O>>();
                let call = make(latest.shared(&origin, greet.as_ref()), connection, stage);
                Box::pin(task.carry(call))
            }));
        };
        let script = Script::new(
            Away {
                link: Arc::clone(&link),
                launch,
            },
            calls,
            stage,
            Some(Arc::clone(&self.pinned.terms)),
        );
        Box::new(Session::new(link, script, Some(presence)))
    }

    fn terms(&self) -> &Terms {
        &self.pinned.terms
    }
}

impl<H, M, F> Service for Anywhere<H, M>
where
    H: Send + Sync + 'static,
    M: Fn(Arc<Handlers<H, GreetSend>>, Connection, Stage) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Finished> + Send + 'static,
{
    fn session(&self, newcomer: Newcomer, place: Place) -> Box<dyn Source> {
        let (link, presence) = newcomer.settle(place.bell);
        let handlers = Arc::clone(&self.handlers);
        let stage = first_stage(handlers.greet.is_some());
        let (make, spawn) = (self.make, Arc::clone(&self.spawn));
        let launch = move |task: Task, connection: Connection, stage: Stage| {
            let call = make(Arc::clone(&handlers), connection, stage);
            spawn.spawn(Box::pin(task.carry(call)));
        };
        let script = Script::new(
            Away {
                link: Arc::clone(&link),
                launch,
            },
            self.calls,
            stage,
            Some(Arc::clone(&self.terms)),
        );
        Box::new(Session::new(link, script, Some(presence)))
    }

    fn terms(&self) -> &Terms {
        &self.terms
    }
}

/// A session for a connection that somebody else owns: nothing is ever called.
pub(crate) fn unserved(link: Arc<Link>) -> Box<dyn Source> {
    let handlers = Handlers {
        handler: Arc::new(()),
        greet: None,
    };
    let script = Script::new(
        Inline {
            handlers: Rc::new(handlers),
            make: never,
            spare: Rc::default(),
        },
        Calls::Never,
        Stage::Request,
        None,
    );
    Box::new(Session::owned(link, script))
}

fn never(_handlers: Shared<()>, connection: Connection, _stage: Stage) -> Ready<Finished> {
    std::future::ready(Finished {
        connection: Some(connection),
        verdict: Verdict::Spent,
        requests: 0,
    })
}
