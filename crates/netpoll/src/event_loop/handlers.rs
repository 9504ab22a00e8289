// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handlers of a [`Builder`], and the [`Service`] that is built from them.
//!
//! The type of a handler is known only in the method that takes it: `local_handlers` has the
//! methods of handlers whose futures stay on one thread, `send_handlers` those of handlers whose
//! futures may move. A method stores a closure that creates the [`Service`] when the loop is built.
//! By then the runner has its threads.

use std::any::type_name;

use super::builder::Builder;
use super::handler_kind::{Execution, HandlerKind};
use crate::connection::Connection;
use crate::connection::service::{Service, ServiceConfig};
use crate::error::CloseReason;
use crate::sync::Arc;

/// Creates the service of a handler, when the loop is built.
pub(super) type ServiceFactory<K> = Box<dyn FnOnce(HandlerSetup<K>) -> Arc<dyn Service> + Send>;

/// The parts that a service is built from.
pub(super) struct HandlerSetup<K: Execution> {
    pub(super) config: ServiceConfig,
    pub(super) on_connect: Option<Arc<K::OnConnect>>,
    pub(super) runner: K::PreparedRunner,
}

impl<K: HandlerKind> Builder<K> {
    /// Calls `observer` once for each connection that has ended, after its last handler call has
    /// returned, with the first cause.
    ///
    /// Runs on the connection's poller, so it must not block. If a handler call blocks a thread
    /// that the loop does not control, the loop waits for it until a second after the deadline of a
    /// shutdown.
    pub fn on_disconnect<O>(mut self, observer: O) -> Self
    where
        O: Fn(&mut Connection, &CloseReason) + Send + Sync + 'static,
    {
        self.observer = Some(Arc::new(observer));
        self
    }

    pub(super) fn with_handler(mut self, factory: ServiceFactory<K>) -> Self {
        self.handler = Some(factory);
        self
    }
}

/// Returns the factory of a service that serves with `H`.
pub(super) fn service_factory<K, H>(
    make_service: impl FnOnce(HandlerSetup<K>) -> Arc<dyn Service> + Send + 'static,
) -> ServiceFactory<K>
where
    K: Execution,
{
    Box::new(|mut setup: HandlerSetup<K>| {
        setup.config.handler_name = type_name::<H>();
        make_service(setup)
    })
}
