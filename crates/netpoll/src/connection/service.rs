// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a session of each newcomer, with the handler that serves it.
//!
//! A handler is known by its type only where it was given; from there on it is a [`Service`],
//! which any thread may hold. On the poller's thread the service makes a session whose future
//! need not be `Send`: it is made, polled and dropped there.

use std::cell::RefCell;
use std::future::{Future, Ready};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::Connection;
use super::calling::{Calls, Observer, Script};
use super::handler::{Finished, Shared, burst, whole_life};
use super::link::Link;
use super::session::Session;
use crate::addr::Addr;
use crate::census::{Census, Presence};
use crate::error::BoxError;
use crate::options::ConnOptions;
use crate::poll::set::Seat;
use crate::poll::source::{Place, Source};
use crate::sync::Arc;

/// A connected socket that has no session yet.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) fd: OwnedFd,
    pub(crate) peer: Addr,
    pub(crate) options: Arc<ConnOptions>,
    pub(crate) seat: Seat,
    pub(crate) presence: Presence,
}

/// What all connections of a service have in common.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) options: Arc<ConnOptions>,
    pub(crate) census: Arc<Census>,
    pub(crate) observer: Option<Observer>,
}

/// Serves connections.
pub(crate) trait Service: Send + Sync {
    /// A session for a newcomer. On the thread of the poller that drives it.
    fn session(&self, newcomer: Newcomer, place: Place) -> Box<dyn Source>;

    /// What its connections have in common.
    fn terms(&self) -> &Terms;
}

/// A handler of type `H` whose futures, made by `make`, are of type `F`.
struct Served<H, M, F> {
    handler: Arc<H>,
    make: M,
    calls: Calls,
    terms: Terms,
    /// Made on poller threads, never here.
    futures: PhantomData<fn() -> F>,
}

/// The handler that a poller's connections of one type share: its count is touched once per burst,
/// and so must not be one that other pollers touch too.
struct LastHandler<H> {
    last: RefCell<Option<Shared<H>>>,
}

impl<H> Default for LastHandler<H> {
    fn default() -> Self {
        Self {
            last: RefCell::default(),
        }
    }
}

impl<H> LastHandler<H> {
    fn shared(&self, handler: &Arc<H>) -> Shared<H> {
        let mut last = self.last.borrow_mut();
        match &*last {
            Some(shared) if Arc::ptr_eq(shared, handler) => Rc::clone(shared),
            _ => Rc::clone(last.insert(Rc::new(Arc::clone(handler)))),
        }
    }
}

/// A service that calls `handler` whenever there is input.
pub(crate) fn per_request<H>(handler: H, terms: Terms) -> Arc<dyn Service>
where
    H: AsyncFn(&mut Connection) -> Result<(), BoxError> + Send + Sync + 'static,
{
    served(handler, burst::<H>, Calls::PerRequest, terms)
}

/// A service that calls `handler` once with each connection.
pub(crate) fn per_connection<H>(handler: H, terms: Terms) -> Arc<dyn Service>
where
    H: AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static,
{
    served(handler, whole_life::<H>, Calls::Once, terms)
}

fn served<H, M, F>(handler: H, make: M, calls: Calls, terms: Terms) -> Arc<dyn Service>
where
    H: Send + Sync + 'static,
    M: Fn(Shared<H>, Connection) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Finished> + 'static,
{
    Arc::new(Served {
        handler: Arc::new(handler),
        make,
        calls,
        terms,
        futures: PhantomData,
    })
}

impl<H, M, F> Service for Served<H, M, F>
where
    H: Send + Sync + 'static,
    M: Fn(Shared<H>, Connection) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Finished> + 'static,
{
    fn session(&self, newcomer: Newcomer, place: Place) -> Box<dyn Source> {
        let Newcomer {
            fd,
            peer,
            options,
            seat,
            presence,
        } = newcomer;
        let link = Arc::new(Link::new(fd, peer, place.bell, options, Some(seat)));
        let script = Script {
            handler: place.shared.get::<LastHandler<H>>().shared(&self.handler),
            make: self.make,
            calls: self.calls,
            spare: place.shared.get(),
            observer: self.terms.observer.clone(),
        };
        Box::new(Session::new(link, script, Some(presence)))
    }

    fn terms(&self) -> &Terms {
        &self.terms
    }
}

/// A session for a connection that somebody else owns: nothing is ever called.
pub(crate) fn unserved(link: Arc<Link>) -> Box<dyn Source> {
    let script = Script {
        handler: Rc::new(Arc::new(())),
        make: never,
        calls: Calls::Never,
        spare: Rc::default(),
        observer: None,
    };
    Box::new(Session::owned(link, script))
}

fn never(_handler: Shared<()>, connection: Connection) -> Ready<Finished> {
    let verdict = super::handler::Verdict::Spent;
    std::future::ready(Finished {
        connection: Some(connection),
        verdict,
    })
}
