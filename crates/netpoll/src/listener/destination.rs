// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where an acceptor's connections go: to the handler of a loop, or to the callers of
//! [`Listener::accept`](super::Listener::accept).

use std::os::fd::AsFd;
use std::time::Duration;

use super::accept_queue::{AcceptQueue, QueueSlot, QueueUnavailable};
use super::filter::{ConnInfo, Filter};
use crate::admission::AdmissionControl;
use crate::connection::service::{Accepted, Service, ServiceConfig};
use crate::poll::balance::Balance;
use crate::poll::set::PollerGroup;
use crate::poll::source::SourceFactory;
use crate::sync::Arc;

/// The state that all acceptors of a loop share.
pub(crate) struct AcceptContext {
    pub(crate) pollers: PollerGroup,
    pub(crate) destination: Destination,
    pub(crate) admission: Arc<AdmissionControl>,
    pub(crate) filter: Option<Filter>,
    pub(crate) balance: Balance,
}

impl AcceptContext {
    /// Returns how long the pollers stay awake before they sleep; all use the same time.
    pub(super) fn busy_poll(&self) -> Duration {
        self.pollers.nth(0).busy_poll()
    }
}

/// Where accepted connections go.
pub(crate) enum Destination {
    /// To the handler of a loop.
    Service(Arc<dyn Service>),
    /// To the callers of a listener without a loop.
    Queue {
        queue: Arc<AcceptQueue>,
        config: Arc<ServiceConfig>,
    },
}

/// Room for one connection at its destination.
pub(super) enum DestinationSlot<'a> {
    Service(&'a Arc<dyn Service>),
    Queue(QueueSlot),
}

impl Destination {
    /// Returns the configuration that all connections share.
    pub(super) fn config(&self) -> &ServiceConfig {
        match self {
            Self::Service(service) => service.config(),
            Self::Queue { config, .. } => config,
        }
    }

    /// Reserves room for a connection that is about to be accepted. A handler always has room.
    pub(super) fn reserve(&self) -> Result<DestinationSlot<'_>, QueueUnavailable> {
        match self {
            Self::Service(service) => Ok(DestinationSlot::Service(service)),
            Self::Queue { queue, .. } => queue.reserve().map(DestinationSlot::Queue),
        }
    }

    /// Returns whether no caller is left to take a connection.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Service(_) => false,
            Self::Queue { queue, .. } => queue.is_closed(),
        }
    }
}

impl DestinationSlot<'_> {
    /// Returns the factory of the connection's engine.
    pub(super) fn into_factory(self, accepted: Accepted) -> SourceFactory {
        match self {
            Self::Service(service) => {
                let service = Arc::clone(service);
                Box::new(move |registration| service.engine(accepted, registration))
            }
            Self::Queue(slot) => {
                let info = ConnInfo::new(accepted.fd.as_fd(), accepted.peer, &accepted.options);
                slot.into_factory(accepted, info)
            }
        }
    }
}
