// SPDX-License-Identifier: MIT OR Apache-2.0
//! Providers of handlers: one handler that all threads share, or a handler per thread; and the
//! handlers that a thread keeps for its next connections.

use std::cell::RefCell;
use std::rc::Rc;

use crate::connection::request_batch::{Handlers, OnConnect, SharedHandlers};
use crate::sync::Arc;

/// Provides the threads that call a handler with it.
pub(crate) trait HandlerProvider: Send + Sync + 'static {
    type Handler: 'static;

    /// Returns the handler of the calling thread.
    fn handler(&self) -> Arc<Self::Handler>;
}

/// One handler for all threads.
pub(crate) struct SharedHandler<H>(pub(crate) Arc<H>);

impl<H: Send + Sync + 'static> HandlerProvider for SharedHandler<H> {
    type Handler = H;

    fn handler(&self) -> Arc<H> {
        Arc::clone(&self.0)
    }
}

/// A handler of its own for each thread, made on that thread.
pub(crate) struct PerThreadHandler<W>(pub(crate) W);

impl<W, H> HandlerProvider for PerThreadHandler<W>
where
    W: Fn() -> H + Send + Sync + 'static,
    H: 'static,
{
    type Handler = H;

    fn handler(&self) -> Arc<H> {
        Arc::new((self.0)())
    }
}

/// A provider, and the handlers that a thread has from it.
type CachedHandlers<O> = (Arc<O>, SharedHandlers<<O as HandlerProvider>::Handler>);

/// The handlers that a thread has made last.
pub(super) struct HandlerCache<O: HandlerProvider> {
    cache: RefCell<Option<CachedHandlers<O>>>,
}

impl<O: HandlerProvider> Default for HandlerCache<O> {
    fn default() -> Self {
        Self {
            cache: RefCell::default(),
        }
    }
}

impl<O: HandlerProvider> HandlerCache<O> {
    /// Returns the handlers of the calling thread, which it gets from `provider` unless the last
    /// ones came from there.
    pub(super) fn handlers(
        &self,
        provider: &Arc<O>,
        on_connect: Option<&Arc<OnConnect>>,
    ) -> SharedHandlers<O::Handler> {
        if let Some((known, shared)) = &*self.cache.borrow()
            && Arc::ptr_eq(known, provider)
        {
            return Rc::clone(shared);
        }
        // The provider is user code: nothing is borrowed while it runs.
        let shared = Rc::new(Handlers {
            handler: provider.handler(),
            on_connect: on_connect.cloned(),
        });
        self.cache
            .replace(Some((Arc::clone(provider), Rc::clone(&shared))));
        shared
    }
}
